/**
 * Rotation of keys, and the jobs that do its long part: re-encryption under load, interrupted and resumed; what is
 * proven at its end; the root key; two nodes at once.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { cancelJob, listJobs, readJob, resumeJob } from '../src/job/job.ts';
import { startJobs } from '../src/job/kinds.ts';
import { ENVELOPE_TABLES, rotateKey, rotateRoot } from '../src/job/reencrypt.ts';
import { readSecret } from '../src/policy/read.ts';
import { SECRET_VERSIONS } from '../src/secret/envelopes.ts';
import { parsePath } from '../src/secret/path.ts';
import { deleteVersions, putSecret } from '../src/secret/secret.ts';
import { newPace, reencryptPass } from '../src/tenant/reencrypt.ts';
import { listRootKeys } from '../src/tenant/root-key.ts';
import { destroyDataKey, listDataKeys } from '../src/tenant/rotation.ts';
import type { Vault } from '../src/vault.ts';
import { callOf, type TestVault, testVault } from './harness.ts';
import { until } from './until.ts';
import { tenantId } from './witness.ts';

let t: TestVault;
beforeAll(async () => {
  t = await testVault();
});
afterAll(() => t.close());

const put = (vault: Vault, token: string, path: string, text: string, metadata?: Record<string, string>) =>
  putSecret(vault, callOf(token), parsePath(path), {
    kind: 'text',
    body: Buffer.from(text),
    ...(metadata ? { metadata } : {}),
  });
const read = async (vault: Vault, token: string, path: string, version = 0) =>
  Buffer.from((await readSecret(vault, callOf(token), path, version)).body).toString();

const ended = (vault: Vault, token: string, id: string) =>
  until('the job to end', async () => {
    const job = await readJob(vault, callOf(token), id);
    return ['done', 'failed', 'cancelled'].includes(job.state) && job;
  });

/** So many acts, twenty at once. */
async function many(count: number, act: (i: number) => Promise<unknown>): Promise<void> {
  for (let at = 0; at < count; at += 20)
    await Promise.all(Array.from({ length: Math.min(20, count - at) }, (_, i) => act(at + i)));
}

const keys = async (vault: Vault, token: string) =>
  (await listDataKeys(vault, callOf(token), {}, ENVELOPE_TABLES)).items;

describe('re-encryption', () => {
  test('T-014 moves every version and all metadata, destroys the old key and proves that no row names it', async () => {
    const token = await t.tenant('moves');
    // More than two batches of 256, which run at once.
    await many(520, (i) => put(t.vault, token, `many/s${i}`, `value-${i}`, i % 7 ? undefined : { owner: `o${i}` }));
    await put(t.vault, token, 'many/s1', 'second');
    await deleteVersions(t.vault, callOf(token), parsePath('many/s2'), undefined);
    await put(t.vault, token, 'large', 'x'.repeat(300_000));
    const runner = startJobs(t.vault);
    try {
      const { key, job } = await rotateKey(t.vault, callOf(token), { reencrypt: true });
      const end = await ended(t.vault, token, job!.id);
      expect(end).toMatchObject({
        ...{ state: 'done', total: 597, done: 597, error: null },
        report: {
          moved: { secret_versions: 522, secret_metadata: 75 },
          left: { secret_versions: 0, secret_metadata: 0 },
          destroyed: [{ version: 1 }],
        },
      });
      expect(await keys(t.vault, token)).toMatchObject([
        { version: key.version, state: 'active', depends: 597 },
        { version: 1, state: 'destroyed', depends: 0, rootVersion: null },
      ]);
      expect(await read(t.vault, token, 'many/s1', 1)).toBe('value-1');
      expect(await read(t.vault, token, 'many/s1')).toBe('second');
      expect(await read(t.vault, token, 'large')).toBe('x'.repeat(300_000));
      expect((await readSecret(t.vault, callOf(token), 'many/s7', 0)).metadata?.toString()).toBe('{"owner":"o7"}');
    } finally {
      await runner.stop();
    }
    await t.check();
  });

  test('a batch is over soon, however large its rows are: who wants one of them waits for no more than a few of them', async () => {
    const token = await t.tenant('large');
    const body = Buffer.alloc(900_000, 'x');
    const stored = Array.from({ length: 14 }, (_, i) => (i < 3 ? body.subarray(0, 9) : body));
    for (const [i, one] of stored.entries()) {
      await putSecret(t.vault, callOf(token), parsePath(`l/s${i}`), { kind: 'bytes', body: one });
    }
    const { key } = await rotateKey(t.vault, callOf(token), { reencrypt: false });
    const pass = {
      tenant: await tenantId(t.owner, 'large'),
      below: key.version,
      after: undefined,
      busy: 'skip',
    } as const;
    const moved: number[] = [];
    await reencryptPass(t.vault, SECRET_VERSIONS, pass, newPace(t.vault), async (batch) => {
      moved.push(batch.moved);
    });
    expect(moved.reduce((sum, count) => sum + count, 0)).toBe(14);
    // What is small goes along.
    expect(Math.max(...moved)).toBeLessThanOrEqual(5 + 3);
    expect(moved.length).toBeGreaterThanOrEqual(3);
    await t.check();
  });

  test('T-014 goes on under writers, readers and other rotations, and no write is lost', async () => {
    const token = await t.tenant('load');
    await many(150, (i) => put(t.vault, token, `s${i}`, `0`));
    const node = await t.node();
    const runners = [startJobs(t.vault), startJobs(node)];
    let stop = false;
    const last = new Map<string, number>();
    const writer = async (vault: Vault, from: number) => {
      for (let n = 1; !stop; n += 1) {
        const path = `s${from + (n % 50)}`;
        await put(vault, token, path, String(n), { n: String(n) });
        last.set(path, n);
        expect(await read(vault, token, path)).toBe(String(n));
      }
    };
    const writers = [writer(t.vault, 0), writer(node, 100)];
    for (let round = 0; round < 3; round += 1) {
      const { job } = await rotateKey(round % 2 ? node : t.vault, callOf(token), { reencrypt: true });
      expect((await ended(t.vault, token, job!.id)).state).toBe('done');
    }
    stop = true;
    await Promise.all(writers);
    await Promise.all(runners.map((runner) => runner.stop()));
    for (const [path, n] of last) expect(await read(node, token, path)).toBe(String(n));
    const versions = await keys(t.vault, token);
    expect(versions.map((key) => key.state)).toEqual(['active', 'destroyed', 'destroyed', 'destroyed']);
    await t.check();
  });

  test('a job that is cancelled stops, keeps what it did, and goes on when it is resumed', async () => {
    const token = await t.tenant('cancels');
    await put(t.vault, token, 'a', '1');
    const { job } = await rotateKey(t.vault, callOf(token), { reencrypt: true });
    expect((await cancelJob(t.vault, callOf(token), job!.id)).state).toBe('cancelled');
    await expect(cancelJob(t.vault, callOf(token), job!.id)).rejects.toMatchObject({ code: 'conflict' });
    const runner = startJobs(t.vault);
    try {
      await resumeJob(t.vault, callOf(token), job!.id);
      expect((await ended(t.vault, token, job!.id)).state).toBe('done');
      await expect(resumeJob(t.vault, callOf(token), job!.id)).rejects.toMatchObject({ code: 'conflict' });
      expect((await listJobs(t.vault, callOf(token), {})).items.map(({ id }) => id)).toEqual([job!.id]);
    } finally {
      await runner.stop();
    }
  });

  test('a job says how fast it goes and how long yet; cancelled in the middle, it keeps what it did and goes on later', async () => {
    const token = await t.tenant('in-the-middle');
    for (let i = 0; i < 20; i += 1) await put(t.vault, token, `s${i}`, `v${i}`);
    let release = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    let locked = () => {};
    const isLocked = new Promise<void>((resolve) => {
      locked = resolve;
    });
    // The job moves what is free, and then waits for the row that another transaction holds.
    const holder = t.owner.begin(async (sql) => {
      await sql`
        SELECT 1 FROM secret_versions JOIN secrets USING (tenant_id, secret_id)
        WHERE tenant_id = (SELECT tenant_id FROM tenants WHERE name = 'in-the-middle') AND path = 's7'
        FOR UPDATE OF secret_versions`;
      locked();
      await held;
    });
    await isLocked;
    const runner = startJobs(t.vault);
    const { job } = await rotateKey(t.vault, callOf(token), { reencrypt: true });
    const path = `/api/v1/jobs/${job!.id}`;
    const now = async () => (await t.request('GET', path, { token })).json;
    try {
      const running = await until('all but one are moved, and the rate is known', async () => {
        const seen = await now();
        return seen.state === 'running' && seen.done === 19 && seen.rate > 0 ? seen : undefined;
      });
      expect(running).toMatchObject({ kind: 'reencrypt', total: 20, report: null, finished_at: null });
      expect(running.seconds_left).toBeGreaterThan(0);
      expect((await cancelJob(t.vault, callOf(token), job!.id)).state).toBe('cancelled');
    } finally {
      release();
      await holder;
      await runner.stop();
    }
    expect(await now()).toMatchObject({ state: 'cancelled', total: 20, rate: null, seconds_left: null });
    expect((await now()).done).toBeGreaterThanOrEqual(19);
    expect((await keys(t.vault, token)).map((key) => key.state)).toEqual(['active', 'decrypt_only']);
    await resumeJob(t.vault, callOf(token), job!.id);
    const again = startJobs(t.vault);
    try {
      await until('the job is done', async () => (await now()).state === 'done');
    } finally {
      await again.stop();
    }
    expect((await now()).report).toMatchObject({ moved: { secret_versions: 20 }, left: { secret_versions: 0 } });
    expect((await keys(t.vault, token)).map((key) => key.state)).toEqual(['active', 'destroyed']);
  });

  test('a second re-encryption while one is under way is refused whole', async () => {
    const token = await t.tenant('twice');
    await rotateKey(t.vault, callOf(token), { reencrypt: true });
    await expect(rotateKey(t.vault, callOf(token), { reencrypt: true })).rejects.toMatchObject({ code: 'conflict' });
    expect(await keys(t.vault, token)).toHaveLength(2);
  });

  test('T-199 T-207 a damaged row is named, everything else is moved, and the old key stays', async () => {
    const token = await t.tenant('damaged');
    for (let i = 0; i < 20; i += 1) await put(t.vault, token, `s${i}`, `v${i}`);
    await t.owner`
      UPDATE secret_versions v SET envelope = set_byte(envelope, 70, get_byte(envelope, 70) # 1)
      FROM secrets s JOIN tenants USING (tenant_id)
      WHERE s.tenant_id = v.tenant_id AND s.secret_id = v.secret_id AND tenants.name = 'damaged' AND s.path = 's5'`;
    const runner = startJobs(t.vault);
    try {
      const { job } = await rotateKey(t.vault, callOf(token), { reencrypt: true });
      expect(await ended(t.vault, token, job!.id)).toMatchObject({
        ...{ state: 'failed', error: 'integrity', done: 19, total: 20 },
        report: { moved: { secret_versions: 19 }, unopened_count: 1, unopened: ['secret:s5@1'] },
      });
      expect(await keys(t.vault, token)).toMatchObject([{ depends: 19 }, { state: 'decrypt_only', depends: 1 }]);
      await expect(read(t.vault, token, 's5')).rejects.toMatchObject({ code: 'integrity' });
      expect(await read(t.vault, token, 's6')).toBe('v6');
    } finally {
      await runner.stop();
    }
    await t.owner`DELETE FROM secrets WHERE path = 's5' AND tenant_id = (SELECT tenant_id FROM tenants WHERE name = 'damaged')`;
  });

  test('no table refers to data keys without being re-encrypted', async () => {
    const rows = await t.owner`
      SELECT DISTINCT c.conrelid::regclass::text AS table FROM pg_constraint c
      WHERE c.contype = 'f' AND c.confrelid = 'bulla.data_key_material'::regclass`;
    expect(rows.map((row) => row.table).sort()).toEqual(ENVELOPE_TABLES.map(({ table }) => table).sort());
  });

  test('T-069 an envelope column without the foreign key to its data key does not exist', async () => {
    const rows = await t.owner`
      SELECT c.table_name FROM information_schema.columns c WHERE c.table_schema = 'bulla' AND c.column_name = 'envelope'
      AND NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conrelid = ('bulla.' || c.table_name)::regclass
                      AND k.contype = 'f' AND k.confrelid = 'bulla.data_key_material'::regclass)`;
    expect(rows).toHaveLength(0);
  });
});

describe('destroying a data key', () => {
  test('is refused while something depends on it, and for the active one', async () => {
    const token = await t.tenant('destroys');
    await put(t.vault, token, 'a', '1');
    await expect(destroyDataKey(t.vault, callOf(token), 1)).rejects.toMatchObject({ code: 'conflict' });
    await rotateKey(t.vault, callOf(token), { reencrypt: false });
    await expect(destroyDataKey(t.vault, callOf(token), 1)).rejects.toMatchObject({ code: 'conflict' });
    await expect(destroyDataKey(t.vault, callOf(token), 9)).rejects.toMatchObject({ code: 'not_found' });
    await t.owner`DELETE FROM secrets WHERE tenant_id = (SELECT tenant_id FROM tenants WHERE name = 'destroys')`;
    await destroyDataKey(t.vault, callOf(token), 1);
    await destroyDataKey(t.vault, callOf(token), 1);
    expect(await keys(t.vault, token)).toMatchObject([{ state: 'active' }, { state: 'destroyed', rootVersion: null }]);
  });

  test('a writer on another node that still holds the old key writes under the new one', async () => {
    const token = await t.tenant('late');
    const node = await t.node();
    await put(node, token, 'a', '1');
    await rotateKey(t.vault, callOf(token), { reencrypt: false });
    await t.owner`DELETE FROM secrets WHERE tenant_id = (SELECT tenant_id FROM tenants WHERE name = 'late')`;
    await destroyDataKey(t.vault, callOf(token), 1);
    await put(node, token, 'b', '2');
    expect(await read(t.vault, token, 'b')).toBe('2');
  });
});

describe('the root key', () => {
  test('T-013 rotates: every key is under the new version, the old bytes are gone, a fresh node reads everything', async () => {
    const token = await t.tenant('rooted');
    await put(t.vault, token, 'a', '1');
    const [before] =
      await t.owner`SELECT (SELECT count(*) FROM data_key_material WHERE wrapped IS NOT NULL)::int + (SELECT count(*) FROM system_key_material)::int AS n`;
    const [old] = (await listRootKeys(t.vault, callOf(t.operator), {})).items;
    const done = await rotateRoot(t.vault, callOf(t.operator));
    expect(done).toMatchObject({ version: old!.version + 1, destroyedVersion: old!.version, rewrapped: before!.n });
    expect(await t.owner`SELECT 1 FROM data_key_material WHERE root_version <> ${done.version}`).toHaveLength(0);
    expect(await t.owner`SELECT version FROM root_key_material`).toMatchObject([{ version: done.version }]);
    expect(await readJob(t.vault, callOf(t.operator), done.job)).toMatchObject({
      state: 'done',
      report: { left: { keys: 0 } },
    });
    const node = await t.node();
    expect(await read(node, token, 'a')).toBe('1');
    expect(await t.login('default', 'admin')).toMatch(/^bulla_/);
    await t.check();
  });

  test('T-192 two nodes rotate the root key and one data key at once: one wins or both in turn, never two active keys', async () => {
    const token = await t.tenant('race');
    const node = await t.node();
    for (let round = 0; round < 10; round += 1) {
      const [a, b] = await Promise.allSettled([
        rotateRoot(t.vault, callOf(t.operator)),
        rotateRoot(node, callOf(t.operator)),
      ]);
      const [c, d] = await Promise.allSettled([
        rotateKey(t.vault, callOf(token), { reencrypt: false }),
        rotateKey(node, callOf(token), { reencrypt: false }),
      ]);
      for (const pair of [
        [a, b],
        [c, d],
      ]) {
        expect(pair.some((result) => result.status === 'fulfilled')).toBe(true);
        for (const result of pair)
          if (result.status === 'rejected') expect(result.reason).toMatchObject({ code: 'conflict' });
      }
    }
    expect(await t.owner`SELECT version FROM root_keys WHERE state = 'active'`).toHaveLength(1);
    expect(await t.owner`SELECT version FROM root_key_material`).toHaveLength(1);
    await put(node, token, 'a', '1');
    expect(await read(t.vault, token, 'a')).toBe('1');
    await t.check();
  });
});
