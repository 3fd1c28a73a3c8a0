/**
 * Redis and Valkey: each lease is an ACL user.
 *
 * A user is made by one command, with the hash of its password, so that the target's log never holds it. Redis cannot end
 * a user at a time; the sweeper does, and with the user go its connections. Users live in the memory of one server:
 * replicas do not take them over, and after a restart those are gone that no ACL file holds.
 */
import { createHash } from 'node:crypto';
import type * as Library from '@redis/client';
import type { ErrorReply } from '@redis/client';
import { z } from 'zod';
import { randomPassword } from '../../crypto/token.ts';
import { VaultError } from '../../errors.ts';
import { type Accounts, type Backend, type BackendMember, backendFailed, type Credential } from '../backend.ts';
import { handleOf, port, serverFields } from './server.ts';

const username = z.string().regex(/^[!-~]{1,128}$/, 'expected printable characters without blanks');

const config = z.strictObject({
  ...serverFields,
  port: port(6379),
  username: username.default('default'),
  /** The server has an ACL file: users are written to it as they come and go, so that a restart keeps them and no others. */
  acl_file: z.boolean().default(false),
});
type Config = z.output<typeof config>;

/**
 * Of https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl: what gives or takes commands, keys and
 * channels.
 */
const RULE =
  /^(?:(?:%(?:R|W|RW))?~[!-~]+|&[!-~]+|[+-]@?[a-z0-9-]+(?:\|[a-z0-9-]+)?|allkeys|allchannels|allcommands|nocommands)$/;

const role = z.strictObject({
  /** ACL rules such as `~app:*`, `+@read`, `-keys`, in their order. What is not given is not allowed. */
  rules: z
    .array(
      z.string().max(256).regex(RULE, 'expected an ACL rule for commands, keys or channels, such as ~app:* or +@read'),
    )
    .min(1)
    .max(128),
});
type Role = z.output<typeof role>;

export const redisBackend: BackendMember<Config, Role> = {
  config,
  secretFields: ['password'],
  role,
  account: username,
  prepare: (asked) => ({ handle: handleOf(asked), credential: { password: randomPassword() } }),
  connect: (configured) => connect(configured),
};

function connect(configured: Config): Backend<Role> {
  const { acl_file: aclFile } = configured;
  const { run, close } = connection(configured);
  const keep = aclFile ? [['ACL', 'SAVE']] : [];
  return {
    check: (act) =>
      run(act, 'check', async (send) => {
        // A rule that is none is refused by name; a user who may not manage users is refused before that.
        const refusal = await codeOf(send(['ACL', 'SETUSER', 'bulla_check', '!']));
        if (refusal === NOT_PERMITTED) throw missing('ACL|SETUSER, ACL|DELUSER and ACL|GETUSER');
        if (!aclFile) return;
        const [, file] = (await send(['CONFIG', 'GET', 'aclfile'])) as string[];
        if (!file) throw new VaultError('invalid_request', 'acl_file: this server has none; leave it out.');
      }),
    issue: async ({ handle, prepared, role: { rules }, ...act }) => {
      const password = String(prepared.credential.password);
      const hash = createHash('sha256').update(password).digest('hex');
      await run(act, 'issue', async (send) => {
        for (const command of [['ACL', 'SETUSER', handle, 'reset', ...rules, `#${hash}`, 'on'], ...keep])
          await send(command);
      });
      return credentialOf(configured, handle, password);
    },
    renew: ({ handle, ...act }) =>
      run(act, 'renew', async (send) => {
        if ((await send(['ACL', 'GETUSER', handle])) === null) throw backendFailed('The user is gone.', 'refused');
      }),
    // Its connections are ended in the same step.
    revoke: ({ handle, ...act }) =>
      run(act, 'revoke', async (send) => {
        for (const command of [['ACL', 'DELUSER', handle], ...keep]) await send(command);
      }),
    accounts: accountsOf(configured, run, keep),
    close,
  };
}

function credentialOf({ host, port, tls }: Config, user: string, password: string): Credential {
  const url = new URL(`${tls === 'off' ? 'redis' : 'rediss'}://${host.includes(':') ? `[${host}]` : host}:${port}`);
  url.username = user;
  url.password = password;
  return { username: user, password, host, port, url: url.href };
}

function accountsOf(configured: Config, run: ReturnType<typeof connection>['run'], keep: string[][]): Accounts {
  return {
    isOwn: (name) => name === configured.username,
    // Without an ACL file a restart would bring the old password back.
    ...(keep.length === 0 ? {} : { own: configured.username }),
    credentialOf: (name, password) => credentialOf(configured, name, password),
    setPassword: ({ username: name, password, ...act }) =>
      run(act, 'change the password of', async (send) => {
        // SETUSER would make a user that is not there.
        if ((await send(['ACL', 'GETUSER', name])) === null)
          throw backendFailed(`The server has no user ${name}.`, 'refused');
        const hash = createHash('sha256').update(password).digest('hex');
        await send(['ACL', 'SETUSER', name, 'resetpass', `#${hash}`]);
        try {
          for (const command of keep) await send(command);
        } catch (cause) {
          throw backendFailed('The server has the new password, and could not write its ACL file.', 'unknown', cause);
        }
      }),
    provePassword: async ({ username: name, password, ...act }) => {
      const own = connection({ ...configured, username: name, password });
      try {
        return await own.run(act, 'check', async () => true);
      } catch (error) {
        // What a check says of a user and password that are not let in.
        if (error instanceof VaultError && error.code === 'invalid_request') return false;
        throw error;
      } finally {
        await own.close();
      }
    },
    endSessions: ({ username: name, ...act }) =>
      run(act, 'end the sessions of', async (send) => {
        await send(['CLIENT', 'KILL', 'USER', name]);
      }),
  };
}

const missing = (rights: string) => new VaultError('invalid_request', `username: this user may not use ${rights}.`);

const NOT_PERMITTED = 'NOPERM';

/** Loaded at the first act: most vaults have no such backend, and start sooner without it. */
let library: typeof Library | undefined;
const load = async () => {
  library ??= await import('@redis/client');
  return library;
};

const isReply = (error: unknown): error is ErrorReply => library !== undefined && error instanceof library.ErrorReply;

/** The first word of an error reply is its code. */
const codeOfReply = (error: ErrorReply) => /^[A-Z]+/.exec(error.message)?.[0] ?? 'ERR';

async function codeOf(answer: Promise<unknown>): Promise<string | undefined> {
  try {
    await answer;
    return undefined;
  } catch (error) {
    if (isReply(error)) return codeOfReply(error);
    throw error;
  }
}

// ---- connections --------------------------------------------------------------------------------------------------

type Limits = { readonly signal: AbortSignal };
type Send = (command: readonly string[]) => Promise<unknown>;

const CONNECT_MS_MAX = 10_000;
const IDLE_MS = 60_000;

/** One connection, over which commands follow each other; one that has failed or hung is ended. */
function connection({ host, port, username, password, tls, ca }: Config) {
  const open = ({ createClient }: typeof Library) => {
    const client = createClient({
      ...{ username, password, disableOfflineQueue: true, RESP: 2 as const },
      socket: {
        ...{ host, port, connectTimeout: CONNECT_MS_MAX, reconnectStrategy: false as const, noDelay: true },
        ...(tls === 'off' ? {} : { tls: true as const, servername: host, ...(ca === undefined ? {} : { ca }) }),
      },
    });
    // Every command that fails says so itself.
    client.on('error', () => undefined);
    return { client, ready: client.connect(), users: 0, idle: undefined as NodeJS.Timeout | undefined };
  };
  let current: ReturnType<typeof open> | undefined;
  const end = (which: typeof current) => {
    if (current === which) current = undefined;
    clearTimeout(which?.idle);
    if (which?.client.isOpen) which.client.destroy();
  };
  return {
    run: async <T>({ signal }: Limits, act: string, work: (send: Send) => Promise<T>): Promise<T> => {
      const loaded = await load();
      const mine = current?.client.isOpen ? current : open(loaded);
      current = mine;
      clearTimeout(mine.idle);
      mine.users += 1;
      let sent = false;
      const onAbort = () => end(mine);
      signal.addEventListener('abort', onAbort, { once: true });
      try {
        await mine.ready;
        return await work((command) => {
          sent = true;
          return mine.client.sendCommand([...command]);
        });
      } catch (error) {
        if (!(error instanceof VaultError || isReply(error)) || !sent) end(mine);
        throw told(error, act, sent);
      } finally {
        signal.removeEventListener('abort', onAbort);
        mine.users -= 1;
        if (mine.users === 0) mine.idle = setTimeout(() => end(mine), IDLE_MS).unref();
      }
    },
    close: async () => end(current),
  };
}

const NOT_LET_IN = new Set(['WRONGPASS', 'NOAUTH', NOT_PERMITTED]);

function told(error: unknown, act: string, sent: boolean): VaultError {
  if (error instanceof VaultError) return error;
  if (isReply(error)) {
    const code = codeOfReply(error);
    if (NOT_LET_IN.has(code)) {
      const what = `The server refused the user or password of the backend, or what it may do (${code}).`;
      return act === 'check' ? new VaultError('invalid_request', what) : backendFailed(what, 'refused');
    }
    return backendFailed(`The server refused to ${act} the user (${code}).`, 'refused');
  }
  const code = (error as { code?: unknown })?.code;
  const what = `The server did not answer (${typeof code === 'string' ? code : 'connection lost'}).`;
  return backendFailed(what, sent ? 'unknown' : 'unreached', error);
}
