/** Moving a vault from every seal to every other one, online; what opens it before, after and at a crash in between. */
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { login } from '../src/auth/login.ts';
import { createUser } from '../src/auth/user.ts';
import { SecretBytes } from '../src/crypto/keys.ts';
import { atKillpoints } from '../src/db/killpoint.ts';
import { readSecret } from '../src/policy/read.ts';
import { SEAL_KINDS, type SealKind } from '../src/seal/seal.ts';
import { rootKeyContext } from '../src/tenant/keyring.ts';
import { type Migration, migrateSeal } from '../src/tenant/migration.ts';
import { rotateRootKey } from '../src/tenant/root-key.ts';
import { unseal } from '../src/tenant/seal.ts';
import { closeVault, type Vault } from '../src/vault.ts';
import { type FakeKms, KMS_CREDENTIALS, KMS_KEY, startKms } from './fixtures/kms.ts';
import { type FakeTransit, startTransit } from './fixtures/transit.ts';
import { callOf, PASSWORD, type TestVault, testVault } from './harness.ts';
import { until } from './until.ts';

const PASSPHRASE = 'seven bright lanterns over the harbour';
let kms: FakeKms;
let transit: FakeTransit;
let env: Record<string, string>;
const open: TestVault[] = [];

beforeAll(async () => {
  Object.assign(process.env, KMS_CREDENTIALS);
  [kms, transit] = await Promise.all([startKms(), startTransit()]);
});
afterEach(async () => {
  for (const t of open.splice(0)) await t.close();
});
afterAll(async () => {
  await Promise.all([kms.close(), transit.close()]);
  for (const name of Object.keys(KMS_CREDENTIALS)) delete process.env[name];
});

async function started(): Promise<{ t: TestVault; node: Vault }> {
  const t = await testVault();
  open.push(t);
  const tokenFile = join(t.dataDir, 'transit-token');
  writeFileSync(tokenFile, transit.token, { mode: 0o600 });
  env = {
    BULLA_DATABASE_CONNECTIONS: '2',
    BULLA_SEAL_KEY: `bulla-seal-key-v1:${randomBytes(32).toString('base64')}`,
    BULLA_SEAL_PASSPHRASE_MEMORY_KIB: '19456',
    BULLA_SEAL_PASSPHRASE_PASSES: '2',
    BULLA_SEAL_SHAMIR_SHARES: '3',
    BULLA_SEAL_SHAMIR_THRESHOLD: '2',
    BULLA_SEAL_KMS_KEY_ID: KMS_KEY,
    BULLA_SEAL_KMS_ENDPOINT: kms.endpoint,
    BULLA_SEAL_KMS_REGION: kms.region,
    BULLA_SEAL_TRANSIT_ADDR: transit.address,
    BULLA_SEAL_TRANSIT_KEY: 'bulla',
    BULLA_SEAL_TRANSIT_TOKEN_FILE: tokenFile,
  };
  return { t, node: await t.node({ env }) };
}

type Brought = { share?: readonly string[] };

async function migrate(vault: Vault, operator: string, to: SealKind): Promise<Brought & { done: Migration }> {
  const passphrase = to === 'passphrase' ? { passphrase: PASSPHRASE } : {};
  const first = await migrateSeal(vault, callOf(operator), { to, ...passphrase });
  if (first.state === 'done') return { done: first };
  const confirm = [first.shares[2]!, first.shares[0]!];
  return { share: first.shares, done: await migrateSeal(vault, callOf(operator), { to, confirm }) };
}

/** As after a restart of a machine that has everything; people bring what was given to them. */
async function bring(vault: Vault, shares: readonly string[] = []): Promise<void> {
  if (!vault.seal.sealed) return;
  if (vault.seal.state.takes === 'passphrase') await unseal(vault, callOf(), { passphrase: PASSPHRASE });
  else for (const share of shares.slice(0, 2)) await unseal(vault, callOf(), { share });
}

/** Every ordered pair once: Hierholzer's circuit over the complete graph. */
function tour(kinds: readonly SealKind[]): SealKind[] {
  const left = new Map(kinds.map((kind) => [kind, kinds.filter((other) => other !== kind)]));
  const stack: SealKind[] = [kinds[0]!];
  const circuit: SealKind[] = [];
  while (stack.length > 0) {
    const next = left.get(stack.at(-1)!)!.pop();
    if (next) stack.push(next);
    else circuit.push(stack.pop()!);
  }
  return circuit.reverse();
}

const loginAs = (vault: Vault) => login(vault, callOf(), { tenant: 'default', username: 'admin', password: PASSWORD });

const text = async (vault: Vault, token: string) =>
  Buffer.from((await readSecret(vault, callOf(token), 'kept', 0)).body).toString();

it('from each member to each other: all is readable, the new seal opens it after a restart, the old root key is gone', async () => {
  const { t, node } = await started();
  await t.request('PUT', '/api/v1/secrets/kept', { token: t.admin, body: { text: 'kept through thirty seals' } });
  const way = tour(SEAL_KINDS);
  expect(way).toHaveLength(31);
  let version = 1;
  for (const to of way.slice(1)) {
    const { share, done } = await migrate(node, t.operator, to);
    version += 1;
    expect(done).toMatchObject({ state: 'done', to, rotation: { version, destroyedVersion: version - 1, seal: to } });
    expect(await text(node, t.admin)).toBe('kept through thirty seals');
    const seals = await t.owner`SELECT kind, count(*)::int AS count FROM seals GROUP BY kind`;
    const roots = await t.owner`SELECT version, seal FROM root_key_material`;
    expect([[...seals], [...roots]]).toEqual([[{ kind: to, count: 1 }], [{ version, seal: to }]]);
    const restarted = await t.node({ env });
    expect(restarted.seal.kind).toBe(to);
    await bring(restarted, share);
    expect(await text(restarted, t.admin)).toBe('kept through thirty seals');
    await closeVault(restarted);
  }
  await until('the first node to follow', async () => t.vault.seal.kind === 'file' && !t.vault.seal.sealed);
  for (const secret of [PASSPHRASE, transit.token, env.BULLA_SEAL_KEY!]) t.secrets.add(secret);
  await t.check();
});

it('the old seal opens nothing in the live database; an old copy opens with it as before', async () => {
  const { t, node } = await started();
  const before = await t.owner`SELECT * FROM root_key_material`;
  await migrate(node, t.operator, 'env');
  await expect(t.node({ env: { ...env, BULLA_SEAL_KEY: '' } })).rejects.toThrow(/BULLA_SEAL_KEY is not set/);
  const after = await t.owner`SELECT * FROM root_key_material`;
  expect(Buffer.compare(before[0]!.wrapped, after[0]!.wrapped)).not.toBe(0);
  expect(after[0]!.version).toBe(2);
});

it('T-171 a crash before the commit leaves the old seal, one after it the new one, and the state says which', async () => {
  const { t, node } = await started();
  const before = ['seal.made', 'root-key.wrapped', 'seal.inserted', 'root-key.rewrapped', 'seal.replaced'];
  for (const point of [...before, 'seal.migrated']) {
    atKillpoints((name) => {
      if (name === point) throw new Error(`ended at ${point}`);
    });
    await expect(migrate(node, t.operator, 'env')).rejects.toThrow();
    atKillpoints(() => undefined);
    const restarted = await t.node({ env });
    const kind = point === 'seal.migrated' ? 'env' : 'file';
    expect([point, restarted.seal.state.kind, restarted.seal.sealed]).toEqual([point, kind, false]);
    expect((await t.owner`SELECT 1 FROM seals`).length).toBe(1);
    await rotateRootKey(restarted, callOf(t.operator));
    await loginAs(restarted);
    await closeVault(restarted);
  }
});

it('another node follows at once: it reads and logs people in through every migration, without keys in memory', async () => {
  const { t, node } = await started();
  await t.request('PUT', '/api/v1/secrets/kept', { token: t.admin, body: { text: 'kept' } });
  const other = await t.node({ env });
  let failed: unknown;
  let stop = false;
  let count = 0;
  const working = (async () => {
    while (!stop) {
      try {
        count += 1;
        other.keys.clear();
        await loginAs(other);
        other.keys.clear();
        expect(await text(other, t.admin)).toBe('kept');
      } catch (error) {
        failed = error;
        return;
      }
    }
  })();
  for (const to of ['env', 'aws-kms', 'transit', 'file'] as const) {
    await migrate(node, t.operator, to);
    await until('the seal to be seen', async () => other.seal.kind === to);
  }
  await until('it has worked twice', async () => count >= 2 || failed !== undefined);
  stop = true;
  await working;
  expect(failed).toBe(undefined);
  await createUser(other, callOf(t.admin), { username: 'late', password: PASSWORD });
  await t.check();
});

it('two migrations at once: one wins, the other is told, and one seal is left', async () => {
  const { t, node } = await started();
  const other = await t.node({ env });
  const outcomes = await Promise.allSettled([migrate(node, t.operator, 'env'), migrate(other, t.operator, 'transit')]);
  const won = outcomes.filter(({ status }) => status === 'fulfilled');
  const lost = outcomes.find((outcome) => outcome.status === 'rejected');
  expect(won).toHaveLength(1);
  expect((lost as PromiseRejectedResult).reason).toMatchObject({ code: 'conflict' });
  await until('the seal to be seen', async () => node.seal.kind === other.seal.kind);
  expect((await t.owner`SELECT 1 FROM seals`).length).toBe(1);
});

it('a root rotation during a migration cannot leave a root key under the seal before: the schema refuses it', async () => {
  const { t, node } = await started();
  const [before] = await t.owner`SELECT seal_id FROM seals`;
  await migrate(node, t.operator, 'env');
  const late = t.owner`UPDATE root_key_material SET seal_id = ${before!.seal_id}`;
  await expect(late).rejects.toMatchObject({ code: '23503' });
  await expect(t.owner`DELETE FROM seals`).rejects.toMatchObject({ code: '23503' });
});

it('T-009 a root key that another seal key holder made and put in the place of ours is refused by its fingerprint', async () => {
  const { t, node } = await started();
  await migrate(node, t.operator, 'transit');
  const [row] = await t.owner`SELECT version FROM root_key_material`;
  const another = SecretBytes.generate(32);
  const wrapped = await node.seal.wrap(rootKeyContext(node, row!.version), another);
  await t.owner`UPDATE root_key_material SET wrapped = ${Buffer.from(wrapped)}`;
  node.keys.clear();
  await expect(loginAs(node)).rejects.toMatchObject({ code: 'integrity' });
});

it('over the wire: shares are shown first, and the second request changes the seal', async () => {
  const { t } = await started();
  const migration = async (body: object) => {
    const { status, json } = await t.request('POST', '/api/v1/seal/migrate', { token: t.operator, body });
    return { status, json };
  };
  const first = await migration({ to: 'shamir', shares: 3, threshold: 2 });
  expect(first).toMatchObject({ status: 200, json: { state: 'prepared', threshold: 2 } });
  expect((await t.request('GET', '/api/v1/seal')).json.kind).toBe('file');
  const second = await migration({ to: 'shamir', confirm: first.json.shares.slice(1) });
  expect(second).toMatchObject({ status: 200, json: { state: 'done', from: 'file', root_key_version: 2 } });
  expect(second.json.shares).toBeUndefined();
  expect((await t.request('GET', '/api/v1/seal')).json).toMatchObject({ kind: 'shamir', sealed: false });
  for (const share of first.json.shares) t.secrets.add(share);
  const rows =
    await t.owner`SELECT convert_from(lines, 'UTF8') AS lines FROM audit_segments WHERE tenant_id = 'system'`;
  expect(rows.map((row) => row.lines).join('')).toContain('"action":"seal.migrate"');
  await t.check();
});

it('nothing is migrated to the same seal, to one that does not work, or to shares that nobody kept', async () => {
  const { t, node } = await started();
  await expect(migrate(node, t.operator, 'file')).rejects.toMatchObject({ code: 'conflict' });
  transit.sealed = true;
  await expect(migrate(node, t.operator, 'transit')).rejects.toMatchObject({ code: 'sealed' });
  transit.sealed = false;
  const call = callOf(t.operator);
  await expect(migrateSeal(node, call, { to: 'passphrase' })).rejects.toMatchObject({ code: 'sealed' });
  await expect(migrateSeal(node, call, { to: 'shamir', confirm: ['a', 'b'] })).rejects.toMatchObject({
    code: 'conflict',
  });
  await expect(migrateSeal(node, call, { to: 'shamir', shares: 2, threshold: 3 })).rejects.toMatchObject({
    code: 'invalid_request',
  });
  const prepared = await migrateSeal(node, call, { to: 'shamir' });
  if (prepared.state !== 'prepared') throw new Error('a split is prepared first');
  for (const confirm of [
    ['a', 'b'],
    [prepared.shares[0]!, prepared.shares[0]!],
  ]) {
    await expect(migrateSeal(node, call, { to: 'shamir', confirm })).rejects.toMatchObject({ code: 'invalid_request' });
  }
  expect([node.seal.kind, node.seal.sealed]).toEqual(['file', false]);
});

it('T-020 check-shares says before and after whether shares fit, and unseals nothing', async () => {
  const { t, node } = await started();
  const old = (await migrate(node, t.operator, 'shamir')).share!;
  const now = (await migrate(node, t.operator, 'shamir')).share!;
  const shut = await t.node({ env });
  const check = async (shares: readonly string[]) =>
    (await t.request('POST', '/api/v1/seal/check', { token: t.operator, body: { shares } })).json;
  await until('the seal to be seen', async () => t.vault.seal.kind === 'shamir');
  await t.vault.seal.follow();
  await bring(t.vault, now);
  expect(await check([now[0]!, now[1]!])).toMatchObject({
    opens: true,
    shares: [{ fits: true, number: 1 }, { number: 2 }],
  });
  expect(await check([now[0]!, old[1]!, 'x'])).toMatchObject({
    opens: false,
    shares: [{ fits: true }, { fits: false, reason: 'another_split' }, { fits: false, reason: 'not_a_share' }],
  });
  expect(shut.seal.state).toMatchObject({ sealed: true, progress: { given: 0 } });
  await rotateRootKey(node, callOf(t.operator));
  expect(await check([now[2]!, now[1]!])).toMatchObject({ opens: true });
});

it('T-203 a KMS that is away at the start leaves the vault sealed, and it opens by itself when the KMS is back', async () => {
  const { t, node } = await started();
  await migrate(node, t.operator, 'aws-kms');
  kms.fault = 'KMSInternalException';
  const late = await t.node({ env });
  expect(late.seal.state).toMatchObject({ sealed: true, reason: 'unreachable', kind: 'aws-kms' });
  kms.fault = undefined;
  await until('the seal to be seen', async () => !late.seal.sealed);
  expect(await text(late, t.admin).catch((error) => error.code)).toBe('not_found');
});

it('T-203 T-025 a KMS taken away while running: the keys are wiped once their time is over, and nothing else opens it', async () => {
  const { t, node } = await started();
  await t.request('PUT', '/api/v1/secrets/kept', { token: t.admin, body: { text: 'kept' } });
  await migrate(node, t.operator, 'aws-kms');
  const short = await t.node({ env: { ...env, BULLA_KEY_CACHE_TTL: '1s' } });
  kms.fault = 'DisabledException';
  await until('the seal to be seen', async () => short.seal.sealed);
  expect([short.keys.size, short.seal.state.reason]).toEqual([0, 'unreachable']);
  await expect(text(short, t.admin)).rejects.toMatchObject({ code: 'sealed' });
  kms.fault = undefined;
  await until('the seal to be seen', async () => !short.seal.sealed);
});

it('a database whose seal row was edited is refused, never guessed at', async () => {
  const { t, node } = await started();
  await migrate(node, t.operator, 'passphrase');
  await t.owner`UPDATE seals SET parameters = '{"salt":"AAAAAAAAAAAAAAAAAAAAAA==","memory_kib":4194304,"passes":9,"lanes":1}'`;
  await expect(t.node({ env })).rejects.toMatchObject({ code: 'integrity' });
  await t.owner`UPDATE seals SET parameters = 'not json'`;
  await expect(t.node({ env })).rejects.toMatchObject({ code: 'integrity' });
  await t.owner`UPDATE seals SET kind = 'env', parameters = '{}'`;
  await expect(t.node({ env })).rejects.toMatchObject({ code: 'sealed' });
});
