/** database/rotate-root under /v1: the password that the vault itself logs in with at a real PostgreSQL. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { startSweeper } from '../src/lease/sweeper.ts';
import type { TestVault } from './harness.ts';
import { quote, type Target, works } from './lease-target.ts';
import { leaseVault } from './lease-vault.ts';
import { until } from './until.ts';
import { errors, v1Of } from './v1.ts';
import { entriesOf, tenantId } from './witness.ts';

let t: TestVault;
let target: Target;
let close: () => Promise<void>;
beforeAll(async () => {
  ({ t, target, close } = await leaseVault());
});
afterAll(() => close());

const v1 = v1Of(() => t);

beforeEach(async () => {
  const { host, port, database, username, password } = target.config;
  await target.sql.unsafe(`ALTER ROLE ${quote(username)} PASSWORD '${password}'`);
  const connection_url = `postgresql://{{username}}:{{password}}@${host}:${port}/${encodeURIComponent(database)}?sslmode=disable`;
  const connection = { plugin_name: 'postgresql-database-plugin', connection_url, username, password };
  const answer = await v1('PUT', 'database/config/pg', { ...connection, allowed_roles: '*' });
  expect(answer.status, answer.text).toBe(204);
  const creation_statements = `CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';`;
  expect((await v1('PUT', 'database/roles/app', { db_name: 'pg', creation_statements })).status).toBe(204);
});
afterEach(() => target.proxy.refuse(false));

const old = () => works(target, target.config);
const gives = async () => {
  const { status, json } = await v1('GET', 'database/creds/app');
  if (status === 200) t.secrets.add(json.data.password);
  return status;
};
const state = async () => {
  const [row] = await t.owner`
    SELECT root_claim IS NOT NULL AS claimed, root_due_at IS NOT NULL AS due, root_attempts AS attempts, revision
    FROM backends WHERE name = 'pg'`;
  return row as { claimed: boolean; due: boolean; attempts: number; revision: number };
};
/** As time does: what was claimed is nobody's any more. */
async function swept(): Promise<void> {
  await t.owner`UPDATE backends SET root_due_at = now() - interval '1 second' WHERE name = 'pg'`;
  const sweeper = startSweeper(t.vault);
  try {
    await until('the change has ended', async () => !(await state()).due);
  } finally {
    await sweeper.stop();
  }
}
const rotations = async () => {
  const entries = await entriesOf(t.owner, await tenantId(t.owner, 'default'));
  return entries.filter(({ action }) => action === 'backend.rotate');
};

it('nobody but the vault knows the new one, with which it goes on; and again', async () => {
  expect([await gives(), await old()]).toEqual([200, true]);
  for (let again = 0; again < 2; again += 1) {
    expect((await v1('POST', 'database/rotate-root/pg')).status).toBe(204);
    expect([await gives(), await old()]).toEqual([200, false]);
    // Over connections that are made anew, too.
    expect((await v1('POST', 'database/reset/pg')).status).toBe(204);
    expect(await gives()).toBe(200);
  }
  expect(await state()).toMatchObject({ claimed: false, due: false, attempts: 0 });
  const shown = await t.request('GET', '/api/v1/backends/pg', { token: t.admin });
  expect(Object.keys(shown.json.config).sort()).toEqual(['database', 'host', 'port', 'tls', 'username']);
  expect((await rotations()).map(({ outcome, resource }) => [outcome, resource])).toEqual(
    Array.from({ length: 4 }, () => ['ok', 'backend:pg']),
  );
});

it('a target that breaks off may have either: both are kept, and it is gone on with', async () => {
  target.proxy.refuse(true);
  expect((await v1('POST', 'database/rotate-root/pg')).status).toBe(502);
  target.proxy.refuse(false);
  expect(await state()).toMatchObject({ due: true, attempts: 1 });
  expect((await rotations()).at(-1)).toMatchObject({ outcome: 'error', code: 'backend_failed' });
  expect(await gives()).toBe(200);
  // What was sent may still arrive: a configuration that would not know of it is not taken.
  expect((await v1('PUT', 'database/config/pg', { allowed_roles: 'app' })).status).toBe(400);
  await swept();
  expect([await gives(), await old()]).toEqual([200, false]);
});

it('one whose password somebody has changed says so until it is given', async () => {
  const { username, password } = target.config;
  await target.sql.unsafe(`ALTER ROLE ${quote(username)} PASSWORD 'somebody else''s'`);
  t.secrets.add("somebody else's");
  expect((await v1('POST', 'database/rotate-root/pg')).status).toBe(400);
  expect(await state()).toMatchObject({ claimed: false, due: true, attempts: 1 });
  await target.sql.unsafe(`ALTER ROLE ${quote(username)} PASSWORD '${password}'`);
  expect((await v1('PUT', 'database/config/pg', { username, password })).status).toBe(204);
  expect(await state()).toMatchObject({ claimed: false, due: false, attempts: 0 });
  expect([await gives(), await old()]).toEqual([200, true]);
});

it('one that was cut off is gone on with by a sweeper, when its claim has run out', async () => {
  expect((await v1('POST', 'database/rotate-root/pg')).status).toBe(204);
  const before = await state();
  await t.owner`UPDATE backends SET root_claim = 'somebody', root_due_at = now() + interval '1 minute' WHERE name = 'pg'`;
  expect(errors(await v1('POST', 'database/rotate-root/pg'))).toEqual([
    ...[400, ['The password of the backend pg is being changed already.']],
  ]);
  // Nobody writes the configuration meanwhile: what it would be tried with may be over the next moment.
  expect((await v1('PUT', 'database/config/pg', { allowed_roles: 'app' })).status).toBe(400);
  await swept();
  expect((await state()).revision).toBe(before.revision + 2);
  expect([await gives(), await old()]).toEqual([200, false]);
});

it('takes leave of its own', async () => {
  const path = 'database/rotate-root/pg';
  await v1('PUT', 'sys/policies/acl/root-rotator', { policy: `path "${path}" { capabilities = ["update"] }` });
  const made = async (name: string) =>
    (await v1('POST', 'auth/token/create', { policies: [name] })).json.auth.client_token as string;
  const rotator = await made('root-rotator');
  expect((await v1('POST', path, {}, rotator)).status).toBe(204);
  expect((await v1('GET', 'database/config/pg', undefined, rotator)).status).toBe(403);
  expect((await v1('POST', 'database/rotate-root/other', {}, rotator)).status).toBe(403);
  expect((await v1('POST', path, {}, await made('reader'))).status).toBe(403);
  expect((await v1('POST', path, {}, '')).status).toBe(403);
});
