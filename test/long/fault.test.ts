/** Faults of rotation that take a while: a hundred races, a process killed in it, PostgreSQL killed under it. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, inject, test } from 'vitest';
import { readJob } from '../../src/job/job.ts';
import { rotateKey, rotateRoot } from '../../src/job/reencrypt.ts';
import { parsePath } from '../../src/secret/path.ts';
import { putSecret } from '../../src/secret/secret.ts';
import type { Vault } from '../../src/vault.ts';
import { callOf, PASSWORD, type TestVault, testVault } from '../harness.ts';
import { proveKeys } from '../kill.ts';
import { serverAt, startKillable } from '../killable.ts';
import { startServer, temporaryDirectory } from '../process.ts';
import { until } from '../until.ts';

const fill = async (vault: Vault, token: string, count: number) => {
  for (let at = 0; at < count; at += 8) {
    await Promise.all(
      Array.from({ length: 8 }, (_, i) =>
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

test('T-172 an interrupted job is taken up within 30 s of the next start', { timeout: 300_000 }, () =>
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
  timeout: 300_000,
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
    const put = (path: string) =>
      until(
        `${path} is acknowledged`,
        async () => (await api('PUT', `/secrets/${path}`, token, { text: path })).status < 300,
      );
    for (let at = 0; at < paths.length; at += 8) await Promise.all(paths.slice(at, at + 8).map(put));
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
    expect([done.state, Object.entries(done.report.left).filter(([, rows]) => rows !== 0)]).toEqual(['done', []]);
    expect(done.report.left).toMatchObject({ secret_versions: 0, secret_metadata: 0 });
    for (const path of paths) expect((await api('GET', `/secrets/${path}`, token)).json.text).toBe(path);
  } finally {
    await server.end('SIGTERM');
    directory.remove();
  }
});
