/** Whatever writes come together, on two nodes and beside cut connections: what is answered, stored and recorded agree. */
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { TenantId } from '../src/db/database.ts';
import { VaultError } from '../src/errors.ts';
import { readSecret } from '../src/policy/read.ts';
import type { NewVersion } from '../src/secret/insert.ts';
import { changeMount, createMount } from '../src/secret/mount.ts';
import { parsePath } from '../src/secret/path.ts';
import { putSecret } from '../src/secret/secret.ts';
import type { Vault } from '../src/vault.ts';
import { type CuttingProxy, cuttingProxy } from './cutting-proxy.ts';
import { type TestVault, testVault } from './harness.ts';
import { entriesOf, type LogEntry, sizeOf, tenantId, text } from './witness.ts';

let t: TestVault;
let tenant: TenantId;
let proxy: CuttingProxy;
let cuttable: Vault;
const tokens: string[] = [];
beforeAll(async () => {
  t = await testVault();
  tenant = await tenantId(t.owner, 'default');
  proxy = await cuttingProxy(t.app);
  cuttable = await t.node({ target: proxy.endpoint });
  const rule = { effect: 'allow', actions: ['secret.write'], resources: ['secret:*/few/*', 'secret:*/ends/*'] };
  tokens.push(t.admin, await t.user('some', [], [rule]), `${t.admin.slice(0, -4)}AAAA`);
});
afterAll(async () => {
  await t.check();
  await t.close();
  await proxy.close();
});

type Wish = { node: number; token: number; mount: number; name: number; expect: number };
const MOUNTS = ['free', 'few', 'cas', 'ends'] as const;
const wish = fc.record<Wish>({
  node: fc.nat(1),
  token: fc.oneof({ weight: 6, arbitrary: fc.constant(0) }, fc.nat(2)),
  mount: fc.nat(3),
  name: fc.nat(3),
  expect: fc.oneof({ weight: 3, arbitrary: fc.constant(-1) }, fc.nat(3)),
});
const OUTCOME: Readonly<Record<string, string>> = { ok: 'ok', forbidden: 'denied' };

/** Mounts of a run's own: two versions are kept, the current one is to be named, and versions end. */
async function mountsUnder(run: string): Promise<void> {
  const settings = {
    free: {},
    few: { versionsKept: 2 },
    cas: { casRequired: true },
    ends: { deleteAfterSeconds: 3600 },
  };
  for (const name of MOUNTS) {
    await createMount(t.vault, t.call(t.admin), { path: parsePath(`${run}/${name}`), version: 2 });
    await changeMount(t.vault, t.call(t.admin), parsePath(`${run}/${name}`), settings[name]);
  }
}

let runs = 0;
it('every answer is of its own write, and the versions and the log are what was answered', async () => {
  const cuts = fc.constantFrom('never' as const, 'never' as const, 'before commit' as const, 'after commit' as const);
  const waves = fc.array(fc.tuple(fc.array(wish, { minLength: 15, maxLength: 60 }), cuts), {
    minLength: 1,
    maxLength: 3,
  });
  const codes = new Set<string>();
  await fc.assert(
    fc.asyncProperty(waves, async (all) => {
      const run = `r${runs}`;
      runs += 1;
      await mountsUnder(run);
      const before = await sizeOf(t.owner, tenant);
      const done: Done[] = [];
      for (const [wishes, cut] of all) {
        Object.assign(proxy, { about: `${run}/`, cut });
        done.push(...(await Promise.all(wishes.map((one, i) => write(run, one, `${run} ${done.length + i}`)))));
        proxy.cut = 'never';
      }
      for (const { code } of done) codes.add(code);
      await prove(run, done, await entriesOf(t.owner, tenant, before));
    }),
    { numRuns: 25 },
  );
  const all = ['forbidden', 'invalid_request', 'ok', 'outcome_unknown', 'unauthenticated', 'version_mismatch'];
  expect([...codes].filter((code) => code !== 'unavailable').sort()).toEqual(all);
}, 300_000);

type Done = {
  path: string;
  mount: string;
  asked: Partial<NewVersion>;
  body: string;
  request: string;
  token: string;
} & {
  code: string;
  version: number | undefined;
  expiresAt: string | null | undefined;
};

async function write(run: string, { node, token, mount, name, expect }: Wish, body: string): Promise<Done> {
  const call = t.call(tokens[token]);
  const path = `${run}/${MOUNTS[mount]}/s${name}`;
  const asked = expect < 0 ? {} : { expect };
  const about = { path, mount: MOUNTS[mount]!, asked, body, request: call.requestId, token: tokens[token]! };
  try {
    const vault = node === 0 ? t.vault : cuttable;
    const { version, expiresAt, path: at } = await putSecret(vault, call, parsePath(path), { ...text(body), ...asked });
    return { ...about, path: at, code: 'ok', version, expiresAt };
  } catch (error) {
    if (!(error instanceof VaultError)) throw error;
    return { ...about, code: error.code, version: undefined, expiresAt: undefined };
  }
}

async function prove(run: string, done: readonly Done[], entries: readonly LogEntry[]): Promise<void> {
  for (const one of done) {
    const own = entries.filter(({ request }) => request === one.request);
    const recorded = own.map(({ resource, outcome, version }) => ({ resource, outcome, version }));
    const entry = { resource: `secret:${one.path}`, outcome: OUTCOME[one.code] ?? 'error', version: one.version };
    if (one.code === 'ok') {
      expect(recorded).toEqual([entry]);
      expect(own[0]!.actor.name).toBe(one.token === t.admin ? 'admin' : 'some');
      if (one.asked.expect !== undefined) expect(one.version).toBe(one.asked.expect + 1);
      expect(one.mount === 'cas' && one.asked.expect === undefined).toBe(false);
      expect(one.expiresAt !== null).toBe(one.mount === 'ends');
    } else if (one.code === 'outcome_unknown') {
      expect(own.length).toBeLessThanOrEqual(1);
    } else if (one.code === 'unauthenticated' || one.code === 'unavailable') {
      expect(recorded).toEqual([]);
    } else {
      expect(recorded).toEqual([entry]);
    }
  }
  const stored = entries.filter(({ action, outcome }) => action === 'secret.write' && outcome === 'ok');
  const rows = await t.owner`
    SELECT path, current_version AS current, ARRAY(SELECT version FROM secret_versions v
      WHERE v.tenant_id = s.tenant_id AND v.secret_id = s.secret_id ORDER BY version) AS versions
    FROM secrets s WHERE tenant_id = ${tenant} AND path LIKE ${`${run}/%`}`;
  for (const { path, current, versions } of rows) {
    const written = stored.filter(({ resource }) => resource === `secret:${path}`).map(({ version }) => version);
    expect(written).toEqual(Array.from({ length: current }, (_, i) => i + 1));
    const kept = path.startsWith(`${run}/few/`) ? 2 : 10;
    expect(versions).toEqual(written.slice(-kept));
    for (const version of versions as number[]) {
      const { request } = stored.find((one) => one.resource === `secret:${path}` && one.version === version)!;
      const { body } = await readSecret(t.vault, t.call(t.admin), parsePath(path), version);
      expect(Buffer.from(body).toString()).toBe(done.find((one) => one.request === request)!.body);
    }
  }
  expect(stored).toHaveLength(rows.reduce((sum, { current }) => sum + current, 0));
}
