/** Faults of rotation that take a while: a hundred races, PostgreSQL killed under it, a dump taken in the middle of it. */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import postgres from 'postgres';
import { expect, inject, test } from 'vitest';
import { migrate } from '../../src/db/migrate.ts';
import { readJob } from '../../src/job/job.ts';
import { startJobs } from '../../src/job/kinds.ts';
import { rotateKey, rotateRoot } from '../../src/job/reencrypt.ts';
import { readSecret } from '../../src/policy/read.ts';
import { parsePath } from '../../src/secret/path.ts';
import { putSecret } from '../../src/secret/secret.ts';
import { closeVault, openVault, type Vault } from '../../src/vault.ts';
import { callOf, PASSWORD, type TestVault, testVault } from '../harness.ts';
import { proveKeys, serverAt, startKillable } from '../kill.ts';
import { startServer, temporaryDirectory } from '../process.ts';
import { until } from '../until.ts';

const fill = async (vault: Vault, token: string, count: number) => {
  for (let at = 0; at < count; at += 20) {
    await Promise.all(
      Array.from({ length: 20 }, (_, i) =>
        putSecret(vault, callOf(token), parsePath(`s${at + i}`), { kind: 'text', body: Buffer.from(`v${at + i}`) }),
      ),
    );
  }
};

const withVault = async (run: (t: TestVault) => Promise<void>) => {
  const t = await testVault();
  try {
    await run(t);
  } finally {
    await t.close();
  }
};

test(
  'T-192 two nodes rotate one data key, and the root key, a hundred times: one wins, no orphan',
  { timeout: 300_000 },
  () =>
    withVault(async (t) => {
      const node = await t.node();
      let won = 0;
      for (let round = 0; round < 100; round += 1) {
        const races = [
          (vault: Vault): Promise<unknown> => rotateKey(vault, callOf(t.admin), { reencrypt: false }),
          (vault: Vault): Promise<unknown> => rotateRoot(vault, callOf(t.operator)),
        ];
        for (const rotate of races) {
          const ends = await Promise.allSettled([t.vault, node].map(rotate));
          for (const end of ends) if (end.status === 'rejected') expect(end.reason).toMatchObject({ code: 'conflict' });
          const winners = ends.filter((end) => end.status === 'fulfilled').length;
          expect(winners).toBeGreaterThanOrEqual(1);
          if (rotate === races[0]) won += winners;
        }
      }
      const [count] = await t.owner`
      SELECT count(*)::int AS n FROM data_keys JOIN tenants USING (tenant_id) WHERE name = 'default'`;
      expect(count!.n).toBe(won + 1);
      await proveKeys(t);
      await t.check();
    }),
);

test('T-172 an interrupted job is taken up within 30 s of the next start', { timeout: 120_000 }, () =>
  withVault(async (t) => {
    await fill(t.vault, t.admin, 600);
    const at = serverAt(t, inject('server').owner);
    const first = await startKillable(at, 'reencrypt.committed', 1, 'now');
    const { job } = await rotateKey(t.vault, callOf(t.admin), { reencrypt: true });
    expect(await first.ended).toBe('SIGKILL');
    const second = await startKillable(at);
    try {
      const startedAt = performance.now();
      await until(
        'it is done',
        async () => (await readJob(t.vault, callOf(t.admin), job!.id)).state === 'done',
        30_000,
      );
      expect(performance.now() - startedAt).toBeLessThan(30_000);
    } finally {
      await second.stop();
    }
    await t.check();
  }),
);

test('T-178 PostgreSQL killed in mid-rotation: the job goes on when it is back, and every acknowledged write is there', {
  timeout: 180_000,
}, async () => {
  const directory = temporaryDirectory('fault');
  const server = await startServer(join(directory.path, 'data'));
  try {
    const api = async (method: string, path: string, token: string, body?: unknown) => {
      const answer = await fetch(`${server.address}/api/v1${path}`, {
        method,
        headers: { ...(token ? { authorization: `Bearer ${token}` } : {}), 'content-type': 'application/json' },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      const text = await answer.text();
      return { status: answer.status, json: text === '' ? {} : JSON.parse(text) };
    };
    const file = JSON.parse(readFileSync(join(server.dataDir, 'first-credentials.json'), 'utf8'));
    const once = (await api('POST', '/auth/login', '', file.default)).json.token;
    await api('POST', '/auth/password', once, { current_password: file.default.password, new_password: PASSWORD });
    const { token } = (await api('POST', '/auth/login', '', { ...file.default, password: PASSWORD })).json;
    const paths = Array.from({ length: 400 }, (_, i) => `s${i}`);
    for (let at = 0; at < paths.length; at += 20) {
      await Promise.all(paths.slice(at, at + 20).map((path) => api('PUT', `/secrets/${path}`, token, { text: path })));
    }
    const { job } = (await api('POST', '/keys/rotate', token, { reencrypt: true })).json;
    const pid = Number(readFileSync(join(server.dataDir, 'pg', 'postmaster.pid'), 'utf8').split('\n')[0]);
    process.kill(pid, 'SIGQUIT');
    const done = await until(
      'the job is done',
      async () => {
        const now = await api('GET', `/jobs/${job.id}`, token).catch(() => undefined);
        return now?.status === 200 && ['done', 'failed'].includes(now.json.state) && now.json;
      },
      90_000,
    );
    expect([done.state, done.report.left]).toEqual(['done', { secret_versions: 0, secret_metadata: 0 }]);
    for (const path of paths) expect((await api('GET', `/secrets/${path}`, token)).json.text).toBe(path);
  } finally {
    await server.end('SIGTERM');
    directory.remove();
  }
});

test('T-209 a dump taken in mid-rotation restores, opens and ends its rotation', { timeout: 180_000 }, () =>
  withVault(async (t) => {
    await fill(t.vault, t.admin, 1500);
    const runner = startJobs(t.vault);
    const { job } = await rotateKey(t.vault, callOf(t.admin), { reencrypt: true });
    await until('some are moved', async () => (await readJob(t.vault, callOf(t.admin), job!.id)).state !== 'queued');
    const database = `t_${randomBytes(6).toString('hex')}`;
    const { owner } = inject('server');
    await restore(t, { ...owner, database });
    await runner.stop();

    const log = pino({ level: 'silent' });
    const options = { config: t.config, target: { ...t.app, database }, setRole: false, dataDir: t.dataDir, log };
    const copy = await openVault(options);
    const jobs = startJobs(copy);
    try {
      const end = await until(
        'the copy ends its rotation',
        async () => {
          const now = await readJob(copy, callOf(t.admin), job!.id);
          return ['done', 'failed'].includes(now.state) && now;
        },
        60_000,
      );
      expect(end.state).toBe('done');
      for (let i = 0; i < 1500; i += 50) {
        expect(Buffer.from((await readSecret(copy, callOf(t.admin), `s${i}`, 0)).body).toString()).toBe(`v${i}`);
      }
    } finally {
      await jobs.stop();
      await closeVault(copy);
      const sql = postgres({ ...owner, max: 1, onnotice: () => undefined });
      await sql.unsafe(`DROP DATABASE ${database} WITH (FORCE)`);
      await sql.end();
    }
  }),
);

/** What pg_dump does: every row of every table, as one snapshot sees it, into an empty database of the same schema. */
async function restore(
  t: TestVault,
  target: { host: string; port: number; database: string; username: string; password: string },
): Promise<void> {
  await t.owner.unsafe(`CREATE DATABASE ${target.database}`);
  await migrate(target);
  const into = postgres({ ...target, max: 1, onnotice: () => undefined, connection: { search_path: 'bulla' } });
  const rows = new Map<string, string[]>();
  await t.owner.begin('ISOLATION LEVEL REPEATABLE READ', async (sql) => {
    for (const {
      name,
    } of await sql`SELECT tablename AS name FROM pg_tables WHERE schemaname = 'bulla' AND tablename <> 'schema_versions'`) {
      rows.set(
        name,
        (await sql`SELECT t::text AS row FROM ${sql(name)} t`).map(({ row }) => row),
      );
    }
  });
  // A table goes in once those that it refers to are there.
  for (let left = [...rows]; left.length > 0; ) {
    const later: typeof left = [];
    for (const [name, texts] of left) {
      const insert = `INSERT INTO ${name} SELECT (r.row::${name}).* FROM unnest($1::text[]) AS r (row)`;
      await into.unsafe(insert, [texts]).catch(() => later.push([name, texts]));
    }
    expect(later.length).toBeLessThan(left.length);
    left = later;
  }
  await into.end();
}
