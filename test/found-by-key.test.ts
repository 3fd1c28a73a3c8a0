/**
 * What is found by its key, or is a page of many, costs the same however much a tenant has: also before PostgreSQL
 * has statistics, when it believes of every index that it finds next to nothing.
 *
 * A tenant is filled with thousands of each, by SQL, and each act is measured by the rows that PostgreSQL says it read.
 */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { answerApproval, cancelApproval, requestApproval } from '../src/approval/approval.ts';
import { forgetEnded } from '../src/auth/ended.ts';
import { deleteIssuer } from '../src/auth/issuer.ts';
import { service } from '../src/auth/methods/service.ts';
import { loginBy } from '../src/auth/proven-login.ts';
import { listServices } from '../src/auth/service.ts';
import { logout, renewToken } from '../src/auth/token.ts';
import { createUser, deleteUser } from '../src/auth/user.ts';
import type { TenantId } from '../src/db/database.ts';
import { listAccounts } from '../src/lease/account.ts';
import { lookAtClock } from '../src/lease/clock.ts';
import { revokeLease, revokeLeases } from '../src/lease/lease.ts';
import { explain } from '../src/policy/explain.ts';
import { readSecret } from '../src/policy/read.ts';
import { parsePath } from '../src/secret/path.ts';
import { readDueNotices, readDueSecrets } from '../src/secret/rotation.ts';
import { putSecret } from '../src/secret/secret.ts';
import { readDueNamedKeys } from '../src/transit/rotate.ts';
import type { Vault } from '../src/vault.ts';
import { PASSWORD, type TestVault, testVault } from './harness.ts';
import { codeOf, tenantId, text } from './witness.ts';

const MANY = 4000;
const FEW = 60;
const PATH = parsePath('web/key');
/** To be read with an approval. */
const ASKED = parsePath('asked/key');

let t: TestVault;
/** A node whose plans are all made when the rows are there. */
let vault: Vault;
let tenant: TenantId;
let app: string;
const admin = () => t.call(t.admin);

/** 16 characters of the alphabet of ids. */
const ofKind = (kind: string) => `translate(left(md5('${kind}' || n), 16), '0189', 'ghij')`;
const ID = ofKind('');
const NAME = "'many-' || lpad(n::text, 6, '0')";

/** One statement for each table; $1 is the tenant, and n counts. */
const FILL: readonly string[] = [
  `INSERT INTO tenants (tenant_id, name, state, created_at) SELECT ${ID}, ${NAME}, 'active', now() FROM generate_series(1, 100) n WHERE $1 <> ''`,
  `INSERT INTO users (tenant_id, user_id, name, kind, password_hash, created_at) SELECT $1, ${ID}, ${NAME}, 'person', '!', now() FROM many`,
  `INSERT INTO users (tenant_id, user_id, name, kind, password_hash, created_at)
   SELECT $1, ${ofKind('service')}, 'service-' || n, 'service', '!', now() FROM many`,
  `INSERT INTO services (tenant_id, user_id) SELECT $1, ${ofKind('service')} FROM many`,
  `INSERT INTO client_secrets (tenant_id, secret_id, user_id, name, secret_hash, created_at, expires_at)
   SELECT $1, ${ID}, (SELECT user_id FROM users WHERE tenant_id = $1 AND name = 'service-1'), ${NAME}, sha256('x'), now(),
          now() + interval '9 days' FROM many`,
  `INSERT INTO policies (tenant_id, name, policy_id, revision, document, created_at, updated_at)
   SELECT $1, ${NAME}, ${ID}, 1, '{"rules":[]}', now(), now() FROM many`,
  `INSERT INTO jwt_issuers (tenant_id, issuer_id, name, issuer, algorithms, clock_skew_seconds, revision, created_at, updated_at)
   SELECT $1, ${ID}, ${NAME}, 'https://' || n || '.example', '{EdDSA}', 60, 1, now(), now() FROM many WHERE n <= 2`,
  `INSERT INTO login_roles (tenant_id, role_id, name, issuer_id, audiences, rules, revision, created_at, updated_at)
   SELECT $1, ${ID}, ${NAME}, (SELECT issuer_id FROM jwt_issuers WHERE tenant_id = $1 AND name = 'many-000001'), '{x}', '[]', 1, now(), now()
   FROM many`,
  `INSERT INTO secrets (tenant_id, secret_id, path, current_version, created_at, updated_at)
   SELECT $1, ${ID}, 'many/' || n, 0, now(), now() FROM many`,
  `INSERT INTO mounts (tenant_id, path, mount_id, prefix, version, created_at)
   SELECT $1, ${NAME}, ${ID}, 'mount/' || n, 1, now() FROM many WHERE n <= 900`,
  `INSERT INTO backends (tenant_id, backend_id, name, kind, revision, key_version, envelope, created_at, updated_at)
   SELECT $1, ${ID}, ${NAME}, 'ssh', 1, 1, '', now(), now() FROM many WHERE n <= 2`,
  `INSERT INTO static_accounts (tenant_id, account_id, backend_id, name, username, key_version, envelope, in_doubt, end_sessions,
                                created_at, updated_at)
   SELECT $1, ${ID}, (SELECT min(backend_id) FROM backends WHERE tenant_id = $1), ${NAME}, ${NAME}, 1, '', false, false, now(), now()
   FROM many`,
  `INSERT INTO rotators (tenant_id, secret_id, kind, account, key_version, envelope, grace_seconds, due_at, created_at, updated_at)
   SELECT $1, ${ID}, CASE WHEN n <= 10 THEN 'account' ELSE 'password' END, CASE WHEN n <= 10 THEN ${NAME} END, 1, '', 0,
          now() + interval '9 days', now(), now() FROM many`,
  `INSERT INTO transit_keys (tenant_id, key_id, name, type, derived, convergent, exportable, mac_bytes, latest_version, created_at)
   SELECT $1, ${ID}, ${NAME}, 'aes256-gcm96', false, false, false, 32, 1, now() FROM many`,
  `INSERT INTO leases (tenant_id, lease_id, kind, path, handle, user_id, holder, token_id, state, ttl_seconds, issued_at,
                       expires_at, max_expires_at, renewable, due_at)
   SELECT $1, ${ID}, 'access', 'secret/many/' || n, ${ID}, ${ID}, ${NAME}, ${ID}, 'active', 3600, now(), now() + interval '9 days',
          now() + interval '9 days', true, now() + interval '9 days' FROM many`,
  `INSERT INTO roles (tenant_id, role_id, backend_id, name, settings, created_at, updated_at)
   SELECT tenant_id, backend_id, backend_id, name, '{}', now(), now() FROM backends WHERE tenant_id = $1`,
  `INSERT INTO leases (tenant_id, lease_id, kind, path, backend_id, role_id, handle, user_id, holder, token_id, state, ttl_seconds,
                       issued_at, expires_at, max_expires_at, renewable, due_at)
   SELECT $1, ${ofKind('credential')}, 'credential', 'many-000001/many-000001', r.backend_id, r.role_id, ${ID}, ${ID}, ${NAME}, ${ID},
          'active', 3600, now(), now() + interval '9 days', now() + interval '9 days', true, now() + interval '9 days'
   FROM many, roles r WHERE r.tenant_id = $1 AND r.name = 'many-000001'`,
  `INSERT INTO tokens (tenant_id, token_id, secret_hash, user_id, method, created_at, expires_at, max_expires_at, source)
   SELECT $1, ${ID}, sha256('x'), ${ID}, 'password', now(), now() + interval '9 days', now() + interval '9 days', '127.0.0.1' FROM many`,
  `INSERT INTO approvals (tenant_id, approval_id, user_id, action, resource, subject, reason, requirements, approvers, state,
                          created_at, expires_at)
   SELECT $1, ${ID}, ${ID}, 'secret.read', 'secret:many', '', '', '[]', '{admin}', 'open', now(), now() + interval '9 days' FROM many`,
];

beforeAll(async () => {
  t = await testVault();
  tenant = await tenantId(t.owner, 'default');
  await putSecret(t.vault, admin(), PATH, text('a value'));
  await t.owner`UPDATE tenants SET quota_users = 100000`;
  for (const statement of FILL) {
    await t.owner.unsafe(statement.replace('FROM many', `FROM generate_series(1, ${MANY}) n`), [tenant]);
  }
  const allow = (rest: object) => ({ effect: 'allow', actions: ['secret.read'], ...rest });
  app = await t.user(
    'app',
    [],
    [
      allow({ resources: ['secret:web/**'] }),
      allow({ resources: ['secret:asked/**'], approval: { by: 'admin', count: 1, within: '1h' } }),
    ],
  );
  await putSecret(t.vault, admin(), ASKED, text('a value'));
  await createUser(t.vault, admin(), { username: 'leaver', password: PASSWORD, policies: [] });
  vault = await t.node();
});
afterAll(() => t.close());

/** Every row of `table` that `act` has read, which its connections report when they are asked to. */
async function rowsRead(table: string, act: () => Promise<unknown>): Promise<number> {
  const counted = async () => {
    for (const { sql } of vault.db.idle) await sql`SELECT pg_stat_force_next_flush()`;
    const [row] = await t.owner<{ rows: number }[]>`
      SELECT (seq_tup_read + idx_tup_fetch)::int AS rows FROM pg_stat_user_tables WHERE relname = ${table}`;
    return row!.rows;
  };
  const before = await counted();
  await act();
  return (await counted()) - before;
}

const guessSecret = async () => {
  const [row] = await t.owner`SELECT user_id AS id FROM users WHERE name = 'service-1'`;
  const guess = { clientId: `${tenant}.${row!.id}`, clientSecret: 'none' };
  expect(await codeOf(loginBy(vault, t.call(), service, guess))).toBe('login_failed');
};
const requested = async () =>
  (await requestApproval(vault, t.call(app), { action: 'secret.read', resource: `secret:${ASKED}` })).id;
const idOf = (n: number) => t.owner.unsafe(`SELECT ${ID} AS id FROM (SELECT ${n} AS n) one`).then(([row]) => row!.id);

it.each<[act: string, table: string, act: () => Promise<unknown>]>([
  ['a policy that is not in memory', 'policies', () => readSecret(vault, t.call(app), PATH, 0)],
  [
    'why somebody may',
    'policies',
    () => explain(vault, admin(), { action: 'secret.read', resource: `secret:${PATH}`, username: 'app' }),
  ],
  [
    'why oneself may',
    'policies',
    () => explain(vault, t.call(app), { action: 'secret.read', resource: `secret:${PATH}` }),
  ],
  ['what holds for a secret', 'mounts', () => putSecret(vault, admin(), PATH, text('another'))],
  ['a page of services', 'users', () => listServices(vault, admin(), { limit: 10 })],
  ['a page of accounts', 'static_accounts', () => listAccounts(vault, admin(), { limit: 10 })],
  ['a client secret that is guessed', 'client_secrets', guessSecret],
  ['the login roles of an issuer', 'login_roles', () => deleteIssuer(vault, admin(), 'many-000002')],
  ['a lease that is revoked', 'leases', async () => revokeLease(vault, admin(), await idOf(1))],
  ['the leases of a role', 'leases', () => revokeLeases(vault, admin(), { role: 'many-000002/many-000002' })],
  ['what hangs under a token that is renewed', 'tokens', () => renewToken(vault, t.call(app))],
  [
    'tokens that ended long ago',
    'tokens',
    async () => {
      await t.owner`UPDATE tokens SET expires_at = now() - interval '8 days' WHERE token_id = ${await idOf(3)}`;
      expect(await forgetEnded(vault)).toBe(1);
    },
  ],
  ['the leases of a token that ends', 'leases', async () => logout(vault, t.call(await t.login('default', 'app')))],
  ['the leases that expire', 'leases', () => lookAtClock(vault, undefined)],
  ['an approval that is cancelled', 'approvals', async () => cancelApproval(vault, t.call(app), await requested())],
  [
    'an approval that is used',
    'approvals',
    async () => {
      await answerApproval(vault, admin(), await requested(), true);
      await readSecret(vault, t.call(app), ASKED, 0);
    },
  ],
  ['the approvals of a user', 'approvals', () => deleteUser(vault, admin(), 'leaver')],
  ['the secrets that are due', 'rotators', () => readDueSecrets(vault, 10)],
  ['the notices that are due', 'rotators', () => readDueNotices(vault, 10)],
  ['the named keys that are due', 'transit_keys', () => readDueNamedKeys(vault, 10)],
])('%s, among thousands: few rows of %s are read', async (_, table, act) => {
  expect(await rowsRead(table, act)).toBeLessThan(FEW);
});
