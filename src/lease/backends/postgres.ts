/**
 * PostgreSQL: each lease is a role that can log in until it expires.
 *
 * A role is made in one implicit transaction of one Query message, which a pooler such as pgbouncer passes on whole:
 * no prepared statements, no settings of a session, none that outlive their transaction. Its password is sent as a
 * verifier, so the target's log never holds it. Every name and value is quoted here (postgres-template.ts).
 *
 * Revoking goes in three commits. First the role may not log in any more; then its sessions are ended and seen to be
 * gone, because a session outlives its role; then what it owns goes to the backend's own user, its rights are dropped, and
 * it with them.
 */
import { connect as connectSocket, isIP, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ConnectionOptions, checkServerIdentity } from 'node:tls';
import postgres from 'postgres';
import { z } from 'zod';
import { LIMITS } from '../../config.ts';
import { scramVerifier } from '../../crypto/scram.ts';
import { randomPassword } from '../../crypto/token.ts';
import { sqlState } from '../../db/sql-error.ts';
import { VaultError } from '../../errors.ts';
import { type Accounts, type Backend, type BackendMember, backendFailed, type Credential } from '../backend.ts';
import { fill, identifier, literal, nameSchema, quoteIdentifier, templateSchema } from './postgres-template.ts';
import { handleOf, port, serverFields } from './server.ts';

const config = z.strictObject({
  ...serverFields,
  port: port(5432),
  database: nameSchema,
  username: nameSchema,
});
type Config = z.output<typeof config>;

const PRIVILEGES = {
  tables: ['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER'],
  sequences: ['USAGE', 'SELECT', 'UPDATE'],
  functions: ['EXECUTE'],
  schema: ['USAGE', 'CREATE'],
} as const;

const privileges = <const P extends readonly [string, ...string[]]>(names: P) =>
  z.array(z.enum(names)).min(1).max(names.length);

/** In a schema: on everything of a kind, on some of it by name, or on the schema itself. */
const names = z.array(nameSchema).min(1).max(64).optional();
const grant = z.discriminatedUnion('on', [
  z.strictObject({ on: z.literal('tables'), schema: nameSchema, names, privileges: privileges(PRIVILEGES.tables) }),
  z.strictObject({
    on: z.literal('sequences'),
    schema: nameSchema,
    names,
    privileges: privileges(PRIVILEGES.sequences),
  }),
  z.strictObject({ on: z.literal('functions'), schema: nameSchema, privileges: privileges(PRIVILEGES.functions) }),
  z.strictObject({ on: z.literal('schema'), schema: nameSchema, privileges: privileges(PRIVILEGES.schema) }),
]);

const role = z.strictObject({
  /** Roles of the target that the new one is a member of. */
  member_of: z.array(nameSchema).max(16).default([]),
  grants: z.array(grant).max(32).default([]),
  /** Statements after the role was made, and before it is dropped: `GRANT … TO {{username}}`. */
  statements: z.array(templateSchema).max(16).default([]),
  revocation_statements: z.array(templateSchema).max(16).default([]),
  connection_limit: z.int().min(1).max(10_000).optional(),
});
type Role = z.output<typeof role>;

export const postgresBackend: BackendMember<Config, Role> = {
  config,
  secretFields: ['password'],
  role,
  account: nameSchema,
  prepare: (asked) => ({ handle: handleOf(asked), credential: { password: randomPassword() } }),
  connect: (configured) => connect(configured),
};

function connect(configured: Config): Backend<Role> {
  const lanes = openLanes(configured);
  return {
    check: async ({ signal, deadlineMs }) => {
      const [row] = await lanes.run(signal, 'check', (sql) =>
        sql
          .unsafe<{ able: boolean; version: number }[]>(
            `${bounded(deadlineMs)}
         SELECT rolsuper OR rolcreaterole AS able, current_setting('server_version_num')::int AS version
         FROM pg_roles WHERE rolname = current_user`,
          )
          .then(lastOf),
      );
      if (!row?.able)
        throw new VaultError('invalid_request', 'username: this user may not make roles; give it CREATEROLE.');
      if (row.version < VERSION_MIN) throw new VaultError('invalid_request', 'host: expected PostgreSQL 13 or newer.');
    },
    issue: async ({ handle, role: settings, prepared, expiresAt, signal, deadlineMs }) => {
      const password = String(prepared.credential.password);
      const statements = creation(handle, await scramVerifier(password), settings, expiresAt);
      await lanes.run(signal, 'issue', (sql) => sql.unsafe(bounded(deadlineMs) + statements.join(';\n')));
      return credentialOf(configured, handle, password);
    },
    renew: async ({ handle, expiresAt, signal, deadlineMs }) => {
      const statement = `ALTER ROLE ${quoteIdentifier(handle)} VALID UNTIL ${literal(expiresAt).text}`;
      await lanes.run(signal, 'renew', (sql) => sql.unsafe(bounded(deadlineMs) + statement));
    },
    revoke: ({ handle, role: settings, signal, deadlineMs }) =>
      lanes.run(signal, 'revoke', (sql) => revoke(sql, handle, settings, signal, deadlineMs)),
    accounts: accountsOf(configured, lanes),
    close: () => lanes.close(),
  };
}

function credentialOf({ host, port, database }: Config, username: string, password: string): Credential {
  const url = new URL(`postgres://${host.includes(':') ? `[${host}]` : host}:${port}/${encodeURIComponent(database)}`);
  url.username = username;
  url.password = password;
  return { username, password, host, port, database, url: url.href };
}

const VERSION_MIN = 130_000;

/** The target ends what we have given up on. */
const bounded = (deadlineMs: number) =>
  `SET LOCAL statement_timeout = ${Math.ceil(deadlineMs)}; SET LOCAL lock_timeout = ${Math.ceil(deadlineMs / 2)};\n`;

/** Of several statements in one message, the last one's rows. */
const lastOf = <T>(results: T): T =>
  Array.isArray(results) && Array.isArray(results.at(-1)) ? results.at(-1) : results;

function creation(username: string, verifier: string, settings: Role, expiresAt: string): string[] {
  const name = quoteIdentifier(username);
  const limit = settings.connection_limit === undefined ? '' : ` CONNECTION LIMIT ${settings.connection_limit}`;
  const values = { username: identifier(username), expiration: literal(expiresAt) };
  return [
    `CREATE ROLE ${name} LOGIN PASSWORD ${literal(verifier).text} VALID UNTIL ${literal(expiresAt).text}${limit}`,
    ...settings.member_of.map((group) => `GRANT ${quoteIdentifier(group)} TO ${name}`),
    ...settings.grants.map((one) => `GRANT ${one.privileges.join(', ')} ON ${objectsOf(one)} TO ${name}`),
    ...settings.statements.map((template) => fill(template, values)),
  ];
}

function objectsOf(one: z.output<typeof grant>): string {
  const schema = quoteIdentifier(one.schema);
  if (one.on === 'schema') return `SCHEMA ${schema}`;
  if (one.on === 'functions' || one.names === undefined) return `ALL ${one.on.toUpperCase()} IN SCHEMA ${schema}`;
  const kind = one.on === 'tables' ? 'TABLE' : 'SEQUENCE';
  return `${kind} ${one.names.map((table) => `${schema}.${quoteIdentifier(table)}`).join(', ')}`;
}

// ---- revoking -----------------------------------------------------------------------------------------------------

const SESSIONS_LOOKED_AT_MS = 100;

async function revoke(sql: postgres.Sql, handle: string, settings: Role, signal: AbortSignal, deadlineMs: number) {
  const name = quoteIdentifier(handle);
  const known = literal(handle).text;
  const values = { username: identifier(handle) };
  // Being a member is what ending its sessions, REASSIGN and DROP OWNED take of whoever is no superuser. In one block on
  // the target, because it may be gone at any moment: by an earlier try, or by its administrator.
  const closed = await sql.unsafe<{ there: boolean }[]>(
    `${bounded(deadlineMs)}
     DO ${
       literal(`BEGIN IF EXISTS (SELECT 1 FROM pg_roles WHERE rolname = ${known}) THEN
       ALTER ROLE ${name} NOLOGIN VALID UNTIL 'epoch'; GRANT ${name} TO CURRENT_USER; END IF; END`).text
     };
     SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = ${known}) AS there`,
  );
  if (!lastOf(closed)[0]?.there) return;
  for (;;) {
    const [left] = lastOf(
      await sql.unsafe<{ sessions: number }[]>(
        `${bounded(deadlineMs)}
         SELECT count(pg_terminate_backend(pid))::int AS sessions FROM pg_stat_activity WHERE usename = ${known}`,
      ),
    );
    if (!left?.sessions) break;
    await sleep(SESSIONS_LOOKED_AT_MS, undefined, { signal });
  }
  const statements = [
    ...settings.revocation_statements.map((template) => fill(template, values)),
    `REASSIGN OWNED BY ${name} TO CURRENT_USER`,
    `DROP OWNED BY ${name}`,
    `DROP ROLE ${name}`,
  ];
  try {
    await sql.unsafe(bounded(deadlineMs) + statements.join(';\n'));
  } catch (error) {
    // Two who revoke the same: the other one was first.
    if (sqlState(error) !== UNDEFINED_OBJECT) throw error;
    const [row] = await sql.unsafe<{ there: boolean }[]>(
      `SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = ${known}) AS there`,
    );
    if (row?.there) throw error;
  }
}

const UNDEFINED_OBJECT = '42704';

// ---- static accounts ----------------------------------------------------------------------------------------------

function accountsOf(configured: Config, lanes: Lanes): Accounts {
  return {
    isOwn: (username) => username === configured.username,
    own: configured.username,
    credentialOf: (username, password) => credentialOf(configured, username, password),
    setPassword: async ({ username, password, signal, deadlineMs }) => {
      const verifier = literal(await scramVerifier(password)).text;
      const statement = `ALTER ROLE ${quoteIdentifier(username)} PASSWORD ${verifier}`;
      await lanes.run(signal, 'change the password of', (sql) => sql.unsafe(bounded(deadlineMs) + statement));
    },
    provePassword: async ({ username, password, signal }) => {
      const own = openLanes({ ...configured, username, password });
      try {
        const [row] = await own.run(signal, 'check', (sql) =>
          sql.unsafe<{ name: string }[]>('SELECT session_user AS name'),
        );
        if (row?.name === username) return true;
        throw backendFailed('The database, or a pooler before it, logs this account in as another one.', 'refused');
      } catch (error) {
        // What a check says of a user and password that are not let in.
        if (error instanceof VaultError && error.code === 'invalid_request') return false;
        throw error;
      } finally {
        await own.close();
      }
    },
    endSessions: ({ username, signal, deadlineMs }) =>
      lanes.run(signal, 'end the sessions of', async (sql) => {
        const statements = bounded(deadlineMs) + termination(username);
        for (;;) {
          const [left] = lastOf(await sql.unsafe<{ sessions: number }[]>(statements));
          if (!left?.sessions) return;
          await sleep(SESSIONS_LOOKED_AT_MS, undefined, { signal });
        }
      }),
  };
}

/**
 * Ending sessions takes the rights of the role. Whoever administers it may give themselves those; here they are given
 * back in the same breath, by undoing the block, because nobody asked for a membership that stays.
 */
function termination(username: string): string {
  const known = literal(username).text;
  const end = `PERFORM pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = ${known} AND pid <> pg_backend_pid();`;
  const block = `BEGIN
    IF pg_has_role(current_user, ${known}, 'USAGE') THEN ${end}
    ELSIF EXISTS (SELECT 1 FROM pg_stat_activity WHERE usename = ${known}) THEN
      BEGIN
        GRANT ${quoteIdentifier(username)} TO CURRENT_USER;
        ${end}
        RAISE EXCEPTION USING ERRCODE = 'BULLA';
      EXCEPTION WHEN SQLSTATE 'BULLA' THEN NULL;
      END;
    END IF;
  END`;
  return `DO ${literal(block).text}; SELECT count(*)::int AS sessions FROM pg_stat_activity WHERE usename = ${known}`;
}

// ---- connections --------------------------------------------------------------------------------------------------

type Lane = { readonly sql: postgres.Sql; socket: Socket | undefined; dead: boolean; sent: boolean };

type Lanes = {
  run<T>(signal: AbortSignal, act: string, work: (sql: postgres.Sql) => Promise<T>): Promise<T>;
  close(): Promise<void>;
};

/**
 * One postgres.js instance a connection, because it cannot drop one that hangs. A lane that has failed in any way but by
 * an answer is ended, so no act meets the rest of another one.
 */
function openLanes(configured: Config): Lanes {
  const idle: Lane[] = [];
  const busy = new Set<Lane>();
  const waiting: (() => void)[] = [];
  let closed = false;
  const end = (lane: Lane) => {
    lane.dead = true;
    lane.socket?.destroy();
    lane.sql.end({ timeout: 0 }).catch(() => undefined);
  };
  const checkOut = async (signal: AbortSignal): Promise<Lane> => {
    while (busy.size >= LIMITS.backendConnectionsMax && !signal.aborted) {
      await new Promise<void>((resolve) => {
        waiting.push(resolve);
        signal.addEventListener('abort', () => resolve(), { once: true });
      });
    }
    if (closed || signal.aborted) throw backendFailed('The backend was too busy to be asked in time.', 'unreached');
    const lane = idle.pop() ?? newLane(configured, idle);
    busy.add(lane);
    return lane;
  };
  return {
    run: async (signal, act, work) => {
      const lane = await checkOut(signal);
      const onAbort = () => end(lane);
      signal.addEventListener('abort', onAbort, { once: true });
      try {
        return await work(lane.sql);
      } catch (error) {
        if (sqlState(error) === undefined || LOST.test(sqlState(error)!)) end(lane);
        throw told(error, act, lane, signal);
      } finally {
        signal.removeEventListener('abort', onAbort);
        busy.delete(lane);
        if (!lane.dead && !closed) idle.push(lane);
        waiting.shift()?.();
      }
    },
    close: async () => {
      closed = true;
      for (const lane of [...idle.splice(0), ...busy]) end(lane);
      for (const resolve of waiting.splice(0)) resolve();
    },
  };
}

const IDLE_SECONDS = 60;

function newLane({ host, port, database, username, password, tls, ca }: Config, idle: Lane[]): Lane {
  const lane: Lane = { sql: undefined as never, socket: undefined, dead: false, sent: false };
  const options = {
    ...{ host, port, database, username, password },
    ssl: tls === 'off' ? false : verified(host, ca),
    max: 1,
    prepare: false,
    fetch_types: false,
    idle_timeout: IDLE_SECONDS,
    max_lifetime: null,
    connect_timeout: 10,
    onnotice: () => undefined,
    connection: { application_name: 'bulla' },
    onclose: () => {
      lane.dead = true;
      const at = idle.indexOf(lane);
      if (at >= 0) idle.splice(at, 1);
    },
    socket: () => {
      if (lane.socket) throw new Error('this lane has had its connection');
      const socket = connectSocket(port, host);
      socket.setNoDelay(true);
      socket.once('connect', () => {
        lane.sent = true;
      });
      Object.assign(socket, { host, port });
      lane.socket = socket;
      return socket;
    },
  };
  return Object.assign(lane, { sql: postgres(options as unknown as postgres.Options<Record<string, never>>) });
}

/** By the host that is configured, an address too, whatever the library would have checked. */
function verified(host: string, ca: string | undefined): ConnectionOptions {
  return {
    minVersion: 'TLSv1.2',
    checkServerIdentity: (_, certificate) => checkServerIdentity(host, certificate),
    ...(isIP(host) === 0 ? { servername: host } : {}),
    ...(ca === undefined ? {} : { ca }),
  };
}

/** SQLSTATE classes after which nothing is known: the connection, and the server going away. */
const LOST = /^(08|57P)/;
const REFUSED = /^28/;

function told(error: unknown, act: string, lane: Lane, signal: AbortSignal): VaultError {
  if (error instanceof VaultError) return error;
  const state = sqlState(error);
  if (state !== undefined && REFUSED.test(state)) {
    const what = `The database refused the user or password of the backend (${state}).`;
    return act === 'check' ? new VaultError('invalid_request', what) : backendFailed(what, 'refused');
  }
  if (state !== undefined && !LOST.test(state)) {
    return backendFailed(`The database refused to ${act} the role (${state}${HINTS[state] ?? ''}).`, 'refused');
  }
  const code = state ?? (signal.aborted ? 'deadline' : String((error as { code?: unknown }).code ?? 'connection lost'));
  return backendFailed(`The database did not answer (${code}).`, lane.sent ? 'unknown' : 'unreached', error);
}

const HINTS: Readonly<Record<string, string>> = {
  '2BP01': ': it owns something in another database of the server, or was given rights there',
  '42501': ': the user of the backend may not do that',
  '42704': ': a role that is named does not exist',
  '42601': ': a statement of the role is no SQL',
  '57014': ': it took too long',
};
