/**
 * A vault of a test file's own, through the real parts: a database cloned from the initialised one, the real gate, and,
 * when a test asks for it, the real listener.
 *
 * `check()` proves what must always hold: every log's lines hash to its leaves and its root, every request that was
 * answered to a token has entries with its id, every stored ciphertext opens under its tenant, and no text that a test
 * called secret stands readable in any table.
 */
import { createHash, randomBytes } from 'node:crypto';
import { cpSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import postgres from 'postgres';
import { inject } from 'vitest';
import { login } from '../src/auth/login.ts';
import { changePassword } from '../src/auth/password.ts';
import { createUser } from '../src/auth/user.ts';
import { type Config, loadConfig } from '../src/config.ts';
import type { Context } from '../src/crypto/context.ts';
import { open } from '../src/crypto/envelope.ts';
import type { Key } from '../src/crypto/keys.ts';
import { parseToken } from '../src/crypto/token.ts';
import { asTenantId, type Endpoint, type TenantId, transaction } from '../src/db/database.ts';
import { createApp } from '../src/http/app.ts';
import { type Listener, listen } from '../src/http/listener.ts';
import { createTenant } from '../src/job/tenant.ts';
import type { Call } from '../src/policy/access.ts';
import { putPolicy } from '../src/policy/store.ts';
import { dataKey } from '../src/tenant/keyring.ts';
import { closeVault, openVault, type Vault } from '../src/vault.ts';
import { CHEAP_ARGON2, PASSWORD, PATIENT, TEMPLATE } from './setup.ts';
import { until } from './until.ts';

export { PASSWORD };

/** What a body says. It has the type that a test's assertions give it, and none that the compiler could vouch for. */
// biome-ignore lint/suspicious/noExplicitAny: as JSON.parse has it.
export type Json = any;

export type Answer = { status: number; headers: Headers; text: string; json: Json };

export type TestVault = {
  readonly vault: Vault;
  readonly config: Config;
  readonly dataDir: string;
  readonly app: Endpoint;
  /** SQL as the tables' owner, who sees and may change everything: the attacker with the database. */
  readonly owner: postgres.Sql;
  /** Tokens of the first two accounts. */
  readonly operator: string;
  readonly admin: string;
  readonly call: (token?: string) => Call;
  readonly login: (tenant: string, username: string, password?: string) => Promise<string>;
  /** A user of `default` with PASSWORD. With rules, a policy of the user's name is made and held. */
  readonly user: (name: string, policies: readonly string[], rules?: unknown[]) => Promise<string>;
  /** A tenant whose admin has PASSWORD; gives the admin's token. */
  readonly tenant: (name: string) => Promise<string>;
  /** Where it listens on loopback; it does from when this or a request is first asked for. */
  readonly address: () => Promise<string>;
  readonly request: (method: string, path: string, options?: RequestOptions) => Promise<Answer>;
  /** Another vault on the same database: a second node. */
  readonly node: (options?: NodeOptions) => Promise<Vault>;
  readonly check: () => Promise<void>;
  readonly secrets: Set<string>;
  readonly close: () => Promise<void>;
};

export type RequestOptions = {
  token?: string;
  body?: unknown;
  headers?: Record<string, string>;
  raw?: string | Uint8Array<ArrayBuffer>;
};
export type NodeOptions = {
  env?: Record<string, string>;
  clockOffsetSeconds?: number;
  /** Where the node finds the database: a proxy, say. */
  target?: Endpoint;
};

export async function testVault(options: NodeOptions = {}): Promise<TestVault> {
  const server = inject('server');
  const database = `t_${randomBytes(6).toString('hex')}`;
  await cloneDatabase(server.owner, database);
  const dataDir = join(server.directory, database);
  mkdirSync(dataDir, { mode: 0o700 });
  cpSync(server.sealFile, join(dataDir, 'seal.key'));
  const app: Endpoint = { ...server.app, database };
  const nodes: Vault[] = [];
  const node = async ({ env = {}, clockOffsetSeconds = 0, target = app }: NodeOptions = {}) => {
    const config = loadConfig({ ...CHEAP_ARGON2, ...PATIENT, BULLA_LISTEN: '127.0.0.1:0', ...env });
    const log = pino({ level: 'silent' });
    const vault = await openVault({ config, target, setRole: false, dataDir, log, clockOffsetSeconds });
    nodes.push(vault);
    return vault;
  };
  const vault = await node(options);
  const owner = postgres({
    ...server.owner,
    database,
    max: 2,
    onnotice: () => undefined,
    connection: { search_path: 'bulla' },
  });
  const call = callOf;
  const loginTo = async (tenant: string, username: string, password = PASSWORD) =>
    (await login(vault, call(), { tenant, username, password })).token;
  const { operator, admin } = server.tokens;
  // As if the two had logged in just now: the run may be old.
  await owner`
    UPDATE tokens SET created_at = now(), expires_at = expires_at + (now() - created_at),
           max_expires_at = max_expires_at + (now() - created_at)`;
  let listener: Promise<Listener> | undefined;
  const address = async () => {
    listener ??= listen(vault, createApp(vault), vault.config);
    return (await listener).address;
  };
  const secrets = new Set<string>([PASSWORD]);
  const heard: Heard[] = [];
  return {
    ...{ vault, config: vault.config, dataDir, app, owner, node, secrets },
    ...{ operator, admin, call, login: loginTo, address },
    user: (name, policies, rules) => makeUser(vault, admin, loginTo, name, policies, rules),
    tenant: async (name) => {
      const made = await createTenant(vault, call(operator), { name });
      const once = await loginTo(name, made.admin.username, made.admin.oneTimePassword);
      await changePassword(vault, call(once), { currentPassword: made.admin.oneTimePassword, newPassword: PASSWORD });
      return loginTo(name, made.admin.username);
    },
    request: async (method, path, asked = {}) => {
      const answer = await send(await address(), method, path, asked);
      if (mustBeRecorded(path, asked, answer))
        heard.push({ id: answer.headers.get('x-request-id')!, what: `${method} ${path}` });
      return answer;
    },
    check: async () => {
      await checkInvariants(vault, owner, secrets);
      await checkHeard(owner, heard);
    },
    close: async () => {
      await (await listener)?.close();
      await Promise.all(nodes.map(closeVault));
      await owner.end();
      await dropDatabase(server.owner, database);
    },
  };
}

export function callOf(token?: string): Call {
  const requestId = `test-${randomBytes(4).toString('hex')}`;
  return { requestId, source: '127.0.0.1', protocol: 'native', token: token ? parseToken(token) : undefined };
}

async function makeUser(
  vault: Vault,
  admin: string,
  loginTo: (tenant: string, username: string) => Promise<string>,
  name: string,
  policies: readonly string[],
  rules: unknown[] | undefined,
): Promise<string> {
  if (rules) await putPolicy(vault, callOf(admin), name, { rules });
  const held = rules ? [...policies, name] : policies;
  await createUser(vault, callOf(admin), { username: name, password: PASSWORD, policies: held });
  return loginTo('default', name);
}

async function send(address: string, method: string, path: string, asked: RequestOptions): Promise<Answer> {
  const headers = new Headers(asked.headers);
  if (asked.token) headers.set('authorization', `Bearer ${asked.token}`);
  if (asked.body !== undefined && !headers.has('content-type')) headers.set('content-type', 'application/json');
  const body = asked.raw ?? (asked.body === undefined ? undefined : JSON.stringify(asked.body));
  const answer = await fetch(`${address}${path}`, { method, headers, ...(body === undefined ? {} : { body }) });
  const text = await answer.text();
  const isJson =
    /json/.test(answer.headers.get('content-type') ?? '') && !/ndjson/.test(answer.headers.get('content-type') ?? '');
  return {
    status: answer.status,
    headers: answer.headers,
    text,
    json: isJson && text !== '' ? JSON.parse(text) : undefined,
  };
}

// ---- databases ----------------------------------------------------------------------------------------------------

async function cloneDatabase(owner: Endpoint, name: string): Promise<void> {
  const sql = postgres({ ...owner, max: 1, onnotice: () => undefined });
  try {
    await sql.unsafe(`CREATE DATABASE ${name} TEMPLATE ${TEMPLATE} STRATEGY file_copy`);
  } finally {
    await sql.end();
  }
}

async function dropDatabase(owner: Endpoint, name: string): Promise<void> {
  const sql = postgres({ ...owner, max: 1, onnotice: () => undefined });
  // The server's own vacuum of a database may be ended by nobody but a superuser, and ends by itself.
  await until('nothing of the server itself is at work in the database', () =>
    sql.unsafe(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`).then(
      () => true,
      (error: { code?: string }) => {
        if (error.code === INSUFFICIENT_PRIVILEGE) return false;
        throw error;
      },
    ),
  );
  await sql.end();
}

const INSUFFICIENT_PRIVILEGE = '42501';

/** A request that was answered to somebody known. */
type Heard = { readonly id: string; readonly what: string };

/** What anybody may ask, and logins: the token is not looked at. */
const OPEN =
  /^\/(healthz|readyz|metrics|openapi\.(json|yaml)|oauth\/token|api\/v1\/(seal(\/unseal)?|auth\/(login|service|jwt|cert|oidc(\/begin)?))|v1\/sys\/(health|init|leader|seal-status)|v1\/auth\/.*login.*)(\?|$)/;
/** Nobody's token, too many requests, or a log that cannot be written. */
const UNHEARD: ReadonlySet<number> = new Set([401, 429, 500, 503, 504]);

function mustBeRecorded(path: string, { token, headers }: RequestOptions, { status }: Answer): boolean {
  const known = token !== undefined || headers?.['x-vault-token'] !== undefined;
  // There, 403 is nobody's token too.
  return known && !OPEN.test(path) && !UNHEARD.has(status) && !(status === 403 && path.startsWith('/v1/'));
}

/** T-087 for whatever the tests ask. */
async function checkHeard(owner: postgres.Sql, heard: readonly Heard[]): Promise<void> {
  const rows = await owner`SELECT lines FROM audit_segments`;
  const lines = rows.map((row) => (row.lines as Buffer).toString('utf8')).join('');
  const recorded = new Set([...lines.matchAll(/"request":"([^"]+)"/g)].map(([, id]) => id));
  const missing = heard.filter(({ id }) => !recorded.has(id));
  if (missing.length > 0) throw new Error(`no entry says: ${missing.map(({ what }) => what).join(', ')}`);
}

// ---- invariants ---------------------------------------------------------------------------------------------------

const sha256 = (...parts: Uint8Array[]) => createHash('sha256').update(Buffer.concat(parts)).digest();

/** RFC 6962 §2.1, written plainly and apart from src/. */
export function naiveRoot(leaves: readonly Buffer[]): Buffer {
  if (leaves.length === 0) return sha256();
  if (leaves.length === 1) return leaves[0]!;
  let split = 1;
  while (split * 2 < leaves.length) split *= 2;
  return sha256(Buffer.of(1), naiveRoot(leaves.slice(0, split)), naiveRoot(leaves.slice(split)));
}

/** The frontier's subtree roots, largest first, folded into the root. */
function rootOfFrontier(frontier: Buffer): Buffer {
  const roots: Buffer[] = [];
  for (let at = 0; at < frontier.length; at += 32) roots.push(frontier.subarray(at, at + 32));
  return roots.length === 0 ? sha256() : roots.reduceRight((right, left) => sha256(Buffer.of(1), left, right));
}

async function checkInvariants(vault: Vault, owner: postgres.Sql, secrets: ReadonlySet<string>): Promise<void> {
  const heads = await owner`SELECT tenant_id, size, frontier FROM audit_heads`;
  for (const head of heads) await checkLog(owner, head.tenant_id, Number(head.size), head.frontier);
  await checkCiphertexts(vault, owner);
  await checkAbsent(owner, secrets);
}

async function checkLog(owner: postgres.Sql, tenant: string, size: number, frontier: Buffer): Promise<void> {
  const segments =
    await owner`SELECT first_seq, lines FROM audit_segments WHERE tenant_id = ${tenant} ORDER BY first_seq`;
  const leaves = await owner`SELECT hashes FROM audit_leaves WHERE tenant_id = ${tenant} ORDER BY first_seq`;
  const lines = segments.flatMap((row) => row.lines.toString('utf8').split('\n').slice(0, -1)) as string[];
  const hashes = lines.map((line) => sha256(Buffer.of(0), Buffer.from(line)));
  const stored = Buffer.concat(leaves.map((row) => row.hashes as Buffer));
  if (lines.length !== size) throw new Error(`the log of ${tenant} has ${lines.length} lines, its head says ${size}`);
  if (!Buffer.concat(hashes).equals(stored)) throw new Error(`a line of ${tenant} does not hash to its leaf`);
  if (!naiveRoot(hashes).equals(rootOfFrontier(frontier)))
    throw new Error(`the leaves of ${tenant} are not its root's`);
  let before = '';
  lines.forEach((line, seq) => {
    const entry = JSON.parse(line) as { seq: number; time: string };
    if (entry.seq !== seq || entry.time < before) throw new Error(`line ${seq} of ${tenant} is out of order`);
    before = entry.time;
  });
}

/** Every table that holds envelopes, and what each of its rows is bound to. */
const SEALED: Readonly<Record<string, (tenant: TenantId, row: postgres.Row) => Context>> = {
  secret_versions: (tenant, row) => ({ label: 'secret', tenant, secret: row.secret_id, version: row.version }),
  secret_metadata: (tenant, row) => ({ label: 'secret-metadata', tenant, secret: row.secret_id }),
  backends: (tenant, row) => ({ label: 'backend-config', tenant, backend: row.backend_id }),
  lease_credentials: (tenant, row) => ({ label: 'lease-credential', tenant, lease: row.lease_id }),
  static_accounts: (tenant, row) => ({ label: 'static-account', tenant, account: row.account_id }),
  rotators: (tenant, row) => ({ label: 'rotator', tenant, secret: row.secret_id }),
  transit_key_versions: (tenant, row) => ({ label: 'transit-key', tenant, key: row.key_id, version: row.version }),
  totp_factors: (tenant, row) => ({ label: 'totp-seed', tenant, user: row.user_id }),
  issuer_secrets: (tenant, row) => ({ label: 'issuer-secret', tenant, issuer: row.issuer_id }),
  cubbyholes: (tenant, row) => ({ label: 'cubbyhole', tenant, token: row.token_id, path: row.path }),
};

/** Every stored ciphertext of a tenant that is not being deleted opens under its tenant, and each names its key. */
async function checkCiphertexts(vault: Vault, owner: postgres.Sql): Promise<void> {
  const found = await owner`
    SELECT table_name AS name FROM information_schema.columns WHERE table_schema = 'bulla' AND column_name = 'envelope'`;
  const unknown = found.find(({ name }) => !(name in SEALED));
  if (unknown) throw new Error(`${unknown.name} holds envelopes: say in SEALED what they are bound to`);
  const keys = new Map<string, Promise<Key>>();
  const keyOf = (tenant: TenantId, version: number) => {
    const name = `${tenant} ${version}`;
    const key = keys.get(name) ?? transaction(vault.db, [tenant], (tx) => dataKey(vault, tx, tenant, version));
    keys.set(name, key);
    return key;
  };
  for (const [table, contextOf] of Object.entries(SEALED)) {
    const rows = await owner`
      SELECT held.* FROM ${owner(table)} held JOIN tenants USING (tenant_id) WHERE tenants.state IN ('active', 'suspended')`;
    for (const row of rows) {
      const tenant = asTenantId(row.tenant_id);
      open(await keyOf(tenant, row.key_version), contextOf(tenant, row), row.envelope);
    }
  }
}

/** The encodings that a leak could take. */
export function spellings(secret: string): Buffer[] {
  const raw = Buffer.from(secret);
  const base64 = [0, 1, 2].map((offset) => {
    const text = Buffer.concat([Buffer.alloc(offset), raw]).toString('base64');
    return Buffer.from(text.slice(offset === 0 ? 0 : 4, text.length - 4));
  });
  // A bytea column shows as hex whatever was written into it.
  return [raw, ...base64]
    .flatMap((spelling) => [spelling, Buffer.from(spelling.toString('hex'))])
    .filter((spelling) => spelling.length >= 8);
}

async function checkAbsent(owner: postgres.Sql, secrets: ReadonlySet<string>): Promise<void> {
  const tables = await owner`SELECT tablename FROM pg_tables WHERE schemaname = 'bulla'`;
  const wanted = [...secrets].flatMap(spellings).map(String);
  for (const { tablename } of tables) {
    const rows = await owner`SELECT t::text AS row FROM ${owner(`bulla.${tablename}`)} t`;
    for (const { row } of rows) {
      if (wanted.some((spelling) => (row as string).includes(spelling))) {
        throw new Error(`a text that must be secret stands in the table ${tablename}`);
      }
    }
  }
}
