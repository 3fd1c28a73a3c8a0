/**
 * MySQL and MariaDB: each lease is an account, `bulla_<role>_<lease>`@`<host>`.
 *
 * Statements about accounts commit by themselves there, so an account is made locked and unlocked last: whoever dies in
 * between leaves one that nobody can use, under the name that is in the lease's row. Neither server can end an account at
 * a time, so it is the sweeper that ends it. Revoking locks it, then ends its sessions and sees them gone, because a
 * session outlives its account, and then drops it.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type * as Library from 'mysql2/promise';
import type { Pool, PoolConnection, RowDataPacket } from 'mysql2/promise';
import { z } from 'zod';
import { LIMITS } from '../../config.ts';
import { randomPassword } from '../../crypto/token.ts';
import { VaultError } from '../../errors.ts';
import {
  type Accounts,
  type Act,
  type Backend,
  type BackendMember,
  backendFailed,
  type Credential,
} from '../backend.ts';
import { fill, isText, templateSchema } from './mysql-template.ts';
import { knownBy, port, serverFields } from './server.ts';

const NAME_CHARS_MAX = 64;
const name = z
  .string()
  .min(1)
  .refine((text) => Array.from(text).length <= NAME_CHARS_MAX, `expected at most ${NAME_CHARS_MAX} characters`)
  .refine(isText, 'expected text without a NUL');

const config = z.strictObject({
  ...serverFields,
  port: port(3306),
  database: name.optional(),
  username: name,
});
type Config = z.output<typeof config>;

const PRIVILEGES = [
  ...([
    'SELECT',
    'INSERT',
    'UPDATE',
    'DELETE',
    'EXECUTE',
    'SHOW VIEW',
    'CREATE TEMPORARY TABLES',
    'LOCK TABLES',
  ] as const),
  ...(['CREATE', 'ALTER', 'DROP', 'INDEX', 'REFERENCES', 'TRIGGER', 'CREATE VIEW', 'EVENT'] as const),
  ...(['CREATE ROUTINE', 'ALTER ROUTINE'] as const),
] as const;

/** Where an account may log in from, as MySQL writes it. */
const accountHost = z
  .string()
  .regex(/^[A-Za-z0-9.:%_/-]{1,60}$/, 'expected a host as MySQL writes it, such as % or 10.0.0.%');

/** `user@host`; `user` alone is `user@%`. */
const account = z
  .string()
  .min(1)
  .max(256)
  .refine(isText, 'expected text without a NUL')
  .transform((text) => (text.includes('@') ? text : `${text}@%`))
  .refine((text) => {
    const at = text.lastIndexOf('@');
    return at > 0 && Array.from(text.slice(0, at)).length <= 80 && accountHost.safeParse(text.slice(at + 1)).success;
  }, 'expected an account such as app or app@10.0.0.%');

const role = z.strictObject({
  host: accountHost.default('%'),
  /** On a whole database, or on one table of it. */
  grants: z
    .array(
      z.strictObject({
        database: name,
        table: name.optional(),
        privileges: z.array(z.enum(PRIVILEGES)).min(1).max(PRIVILEGES.length),
      }),
    )
    .max(32)
    .default([]),
  /** Statements after the account was made, and before it is dropped: `GRANT … TO {{username}}`. */
  statements: z.array(templateSchema).max(16).default([]),
  revocation_statements: z.array(templateSchema).max(16).default([]),
  connection_limit: z.int().min(1).max(10_000).optional(),
});
type Role = z.output<typeof role>;

export const mysqlBackend: BackendMember<Config, Role> = {
  config,
  secretFields: ['password'],
  role,
  account,
  prepare: ({ role: settings, roleName, leaseId }) => ({
    // With the lease's id, MySQL's 32 characters.
    handle: `bulla_${knownBy(roleName, 9)}_${leaseId}@${settings.host}`,
    credential: { password: randomPassword() },
  }),
  connect: (configured) => connect(configured),
};

const userOf = (handle: string) => handle.slice(0, handle.lastIndexOf('@'));

/** The account of a handle, quoted: the role's host of today may be another than that of the day. */
function accountOf(handle: string): string {
  const user = userOf(handle);
  return `${quote(user)}@${quote(handle.slice(user.length + 1))}`;
}

function connect(configured: Config): Backend<Role> {
  const { run, close } = connections(configured);
  return {
    check: (act) => run(act, 'check', checkRights),
    issue: async ({ prepared, ...act }) => {
      const password = String(prepared.credential.password);
      await run(act, 'issue', (connection) => create(connection, act.handle, password, act.role));
      return credentialOf(configured, act.handle, password);
    },
    // Nothing there says when it ends; that it is still there is all that can be seen to. An account that is locked, by a
    // revocation that has not ended yet or by hand, stays locked.
    renew: (act) =>
      run(act, 'renew', async (connection) => {
        const limit = `MAX_USER_CONNECTIONS ${act.role.connection_limit ?? 0}`;
        await connection.query(`ALTER USER ${accountOf(act.handle)} WITH ${limit}`);
      }),
    revoke: (act) => run(act, 'revoke', (connection) => drop(connection, act)),
    accounts: accountsOf(configured, run),
    close,
  };
}

function credentialOf({ host, port, database }: Config, handle: string, password: string): Credential {
  const user = userOf(handle);
  const url = new URL(`mysql://${host.includes(':') ? `[${host}]` : host}:${port}/`);
  url.username = user;
  url.password = password;
  url.pathname = `/${encodeURIComponent(database ?? '')}`;
  return {
    ...{ username: user, password, host, port },
    ...(database === undefined ? {} : { database }),
    url: url.href,
  };
}

const VERSION_MIN = { maria: [10, 4], mysql: [5, 7] } as const;

async function checkRights(connection: PoolConnection): Promise<void> {
  const [row] = await rowsOf<{ version: string }>(connection, 'SELECT VERSION() AS version');
  const [major = 0, minor = 0] = (row?.version ?? '').split('.').map(Number);
  const least = /maria/i.test(row?.version ?? '') ? VERSION_MIN.maria : VERSION_MIN.mysql;
  if (major < least[0] || (major === least[0] && minor < least[1])) {
    throw new VaultError('invalid_request', 'host: expected MySQL 5.7 or MariaDB 10.4, or a newer one.');
  }
  const rights = await rowsOf<{ PRIVILEGE_TYPE: string }>(
    connection,
    `SELECT PRIVILEGE_TYPE FROM information_schema.USER_PRIVILEGES
     WHERE GRANTEE = CONCAT("'", SUBSTRING_INDEX(CURRENT_USER(), '@', 1), "'@'", SUBSTRING_INDEX(CURRENT_USER(), '@', -1), "'")`,
  );
  const held = new Set(rights.map((right) => right.PRIVILEGE_TYPE.replace('_', ' ')));
  const mayKill = held.has('CONNECTION ADMIN') || held.has('SUPER');
  const missing = [
    ...['CREATE USER', 'PROCESS'].filter((right) => !held.has(right)),
    ...(mayKill ? [] : ['CONNECTION ADMIN']),
  ];
  if (missing.length > 0) {
    throw new VaultError('invalid_request', `username: this user needs ${missing.join(' and ')} ON *.* as well.`);
  }
}

/** What is refused half-way leaves nothing: an account that cannot even be dropped again is not known to be gone. */
async function create(connection: PoolConnection, handle: string, password: string, settings: Role): Promise<void> {
  const quoted = accountOf(handle);
  const limit =
    settings.connection_limit === undefined ? '' : ` WITH MAX_USER_CONNECTIONS ${settings.connection_limit}`;
  await connection.query(`CREATE USER ${quoted} IDENTIFIED BY ${quote(password)}${limit} ACCOUNT LOCK`);
  try {
    for (const { privileges, ...on } of settings.grants) {
      await connection.query(`GRANT ${privileges.join(', ')} ON ${objectOf(on)} TO ${quoted}`);
    }
    for (const text of settings.statements) await connection.query(fill(text, quoted));
    await connection.query(`ALTER USER ${quoted} ACCOUNT UNLOCK`);
  } catch (error) {
    if (!isAnswer(error)) throw error;
    try {
      await connection.query(`DROP USER IF EXISTS ${quoted}`);
    } catch (cause) {
      throw backendFailed(`The database refused to issue the account and to drop it again.`, 'unknown', cause);
    }
    throw error;
  }
}

/** In the name of a whole database, and only there, `_` and `%` stand for other characters: they are meant as they are. */
function objectOf({ database, table }: { database: string; table?: string | undefined }): string {
  if (table !== undefined) return `${quoteName(database)}.${quoteName(table)}`;
  return `${quoteName(database.replace(/[\\_%]/g, '\\$&'))}.*`;
}

const SESSIONS_LOOKED_AT_MS = 100;

async function drop(connection: PoolConnection, { handle, role: settings, signal }: Act<Role>): Promise<void> {
  const quoted = accountOf(handle);
  const there = await answered(connection.query(`ALTER USER ${quoted} ACCOUNT LOCK`), NO_SUCH_ACCOUNT);
  // Sessions are looked for even when the account is gone: they outlive one that was dropped by hand.
  await endSessions(connection, userOf(handle), signal);
  if (!there) return;
  for (const text of settings.revocation_statements) await connection.query(fill(text, quoted));
  await connection.query(`DROP USER IF EXISTS ${quoted}`);
}

async function endSessions(connection: PoolConnection, user: string, signal: AbortSignal): Promise<void> {
  for (;;) {
    const sessions = await rowsOf<{ ID: number }>(
      connection,
      `SELECT ID FROM information_schema.PROCESSLIST WHERE USER = ${quote(user)}`,
    );
    if (sessions.length === 0) return;
    for (const { ID } of sessions) await answered(connection.query(`KILL CONNECTION ${Number(ID)}`), NO_SUCH_THREAD);
    await sleep(SESSIONS_LOOKED_AT_MS, undefined, { signal });
  }
}

const NO_SUCH_ACCOUNT = 1396;
const NO_SUCH_THREAD = 1094;

/** Whether a statement was done; false when the server says that what it is about is not there. */
async function answered(statement: Promise<unknown>, absent: number): Promise<boolean> {
  try {
    await statement;
    return true;
  } catch (error) {
    if (answerOf(error)?.errno === absent) return false;
    throw error;
  }
}

async function rowsOf<R = unknown>(connection: PoolConnection, statement: string): Promise<R[]> {
  const [rows] = await connection.query<RowDataPacket[]>(statement);
  return rows as R[];
}

// ---- static accounts ----------------------------------------------------------------------------------------------

function accountsOf(configured: Config, run: ReturnType<typeof connections>['run']): Accounts {
  return {
    isOwn: (username) => userOf(username) === configured.username,
    credentialOf: (username, password) => credentialOf(configured, username, password),
    setPassword: ({ username, password, ...act }) =>
      run(act, 'change the password of', async (connection) => {
        await connection.query(`ALTER USER ${accountOf(username)} IDENTIFIED BY ${quote(password)}`);
      }),
    provePassword: ({ username, password, signal }) => logsIn(configured, username, password, signal),
    endSessions: ({ username, ...act }) =>
      run(act, 'end the sessions of', (connection) => endSessions(connection, userOf(username), act.signal)),
  };
}

/** Refused by password, by host, because the account is locked, or because its password has expired. */
const NO_LOGIN = new Set([1045, 1130, 1698, 1820, 1862, 3118, 4151]);

async function logsIn(configured: Config, username: string, password: string, signal: AbortSignal): Promise<boolean> {
  const { database: _, ...anywhere } = configured;
  const options = { ...serverOf(anywhere), user: userOf(username), password };
  const aborted = abortOf(signal);
  const connecting = load().then(({ createConnection }) => createConnection(options));
  try {
    const connection = await Promise.race([connecting, aborted]);
    const [rows] = await Promise.race([connection.query<RowDataPacket[]>('SELECT CURRENT_USER() AS account'), aborted]);
    if (rows[0]?.account === username) return true;
    throw backendFailed(
      'The database logs this account in as another one, by where the vault connects from.',
      'refused',
    );
  } catch (error) {
    if (NO_LOGIN.has(answerOf(error)?.errno ?? 0)) return false;
    throw told(error, 'log in to', 'unreached');
  } finally {
    connecting.then(
      (connection) => connection.destroy(),
      () => undefined,
    );
  }
}

// ---- library ----------------------------------------------------------------------------------------------------

/** Loaded at the first act: most vaults have no such backend, and start sooner without it. */
let library: typeof Library | undefined;
const load = async () => {
  library ??= await import('mysql2/promise');
  return library;
};

/** For statements, so there is a connection, and it is loaded. */
const quote = (text: string) => library!.escape(text);
const quoteName = (name: string) => library!.escapeId(name, true);

// ---- connections --------------------------------------------------------------------------------------------------

type Limits = { readonly signal: AbortSignal; readonly deadlineMs: number };

const CONNECT_MS_MAX = 10_000;
const IDLE_MS = 60_000;
/** Backslashes escape and quotes are what they are everywhere: what `quote` counts on. */
const SQL_MODE = 'STRICT_ALL_TABLES';

const serverOf = ({ host, port, database, username, password, tls, ca }: Config) => ({
  ...{ host, port, user: username, password },
  ...(database === undefined ? {} : { database }),
  ...(tls === 'off'
    ? {}
    : { ssl: { ...(ca === undefined ? {} : { ca }), rejectUnauthorized: true, verifyIdentity: true } }),
  charset: 'utf8mb4',
  connectTimeout: CONNECT_MS_MAX,
  multipleStatements: false,
});

function connections(configured: Config) {
  let pool: Pool | undefined;
  const open = ({ createPool }: typeof Library) =>
    createPool({
      ...serverOf(configured),
      connectionLimit: LIMITS.backendConnectionsMax,
      maxIdle: 1,
      idleTimeout: IDLE_MS,
    });
  return {
    run: async <T>(
      { signal, deadlineMs }: Limits,
      act: string,
      work: (c: PoolConnection) => Promise<T>,
    ): Promise<T> => {
      const loaded = await load();
      pool ??= open(loaded);
      let connection: PoolConnection;
      try {
        connection = await pool.getConnection();
      } catch (error) {
        throw told(error, act, 'unreached');
      }
      // A statement under way on a connection that is destroyed never ends by itself.
      const aborted = abortOf(signal);
      try {
        if (signal.aborted) throw backendFailed('The backend was too busy to be asked in time.', 'unreached');
        const seconds = Math.max(1, Math.ceil(deadlineMs / 2000));
        const setting = `SET SESSION sql_mode = '${SQL_MODE}', SESSION lock_wait_timeout = ${seconds}`;
        const value = await Promise.race([connection.query(setting).then(() => work(connection)), aborted]);
        connection.release();
        return value;
      } catch (error) {
        // What was in the middle of something else is no connection for the next.
        if (isAnswer(error)) connection.release();
        else connection.destroy();
        throw told(error, act, 'unknown');
      }
    },
    close: async () => {
      await pool?.end().catch(() => undefined);
    },
  };
}

/** Rejects when the signal fires, and is nobody's fault when nobody waits for it. */
function abortOf(signal: AbortSignal): Promise<never> {
  const aborted = new Promise<never>((_, reject) => {
    signal.addEventListener('abort', () => reject(Object.assign(new Error('aborted'), { code: 'deadline' })), {
      once: true,
    });
  });
  aborted.catch(() => undefined);
  return aborted;
}

type Answer = { readonly errno: number; readonly sqlState: string; readonly code: string };

/** What the server itself said; a lost connection has no SQLSTATE. */
function answerOf(error: unknown): Answer | undefined {
  const { errno, sqlState } = (error ?? {}) as Partial<Answer>;
  return typeof errno === 'number' && typeof sqlState === 'string' && sqlState !== '' ? (error as Answer) : undefined;
}

const isAnswer = (error: unknown) => answerOf(error) !== undefined;

const NOT_LET_IN = new Set([1044, 1045, 1049, 1130, 1698]);

function told(error: unknown, act: string, otherwise: 'unreached' | 'unknown'): VaultError {
  if (error instanceof VaultError) return error;
  const answer = answerOf(error);
  if (answer && NOT_LET_IN.has(answer.errno)) {
    const what = `The database refused the user, password or database of the backend (${answer.errno}).`;
    return act === 'check' ? new VaultError('invalid_request', what) : backendFailed(what, 'refused');
  }
  if (answer) return backendFailed(`The database refused to ${act} the account (${answer.errno}).`, 'refused');
  const code = (error as { code?: unknown })?.code;
  return backendFailed(
    `The database did not answer (${typeof code === 'string' ? code : 'connection lost'}).`,
    otherwise,
    error,
  );
}
