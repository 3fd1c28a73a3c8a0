/**
 * T-085, T-181: when the entry cannot be committed, the caller hears 503 within five seconds, no byte of a secret has
 * left, nothing was done, and the vault serves again by itself.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type TestVault, testVault } from './harness.ts';

let t: TestVault;
let tenant: string;
const VALUE = 'a-value-that-must-not-leave-4711';
const DEADLINE_MS = 5000;

beforeAll(async () => {
  t = await testVault({ env: { BULLA_REQUEST_DEADLINE: '4s' } });
  tenant = (await t.owner`SELECT tenant_id FROM tenants WHERE name = 'default'`)[0]!.tenant_id;
  await t.request('PUT', '/api/v1/secrets/prod/db', { token: t.admin, body: { text: VALUE } });
});
afterAll(() => t.close());

const ACTS: [string, string, string, unknown?][] = [
  ['a read', 'GET', '/secrets/prod/db'],
  ['a fetch', 'POST', '/fetch', { paths: ['prod/db'] }],
  ['a write', 'PUT', '/secrets/prod/new', { text: 'x' }],
  ['a delete', 'DELETE', '/secrets/prod/db'],
  ['a list', 'GET', '/secrets?prefix='],
  ['a new user', 'POST', '/users', { username: 'late', password: 'correct horse battery staple' }],
  ['an export', 'GET', '/audit/entries?limit=1'],
  ['a denial', 'GET', '/tenants'],
];

/** Everything but the log, as it stands. */
async function state(): Promise<unknown> {
  const rows = await t.owner`
    SELECT (SELECT count(*) FROM secrets) AS secrets, (SELECT count(*) FROM secret_versions) AS versions,
           (SELECT count(*) FROM secret_versions WHERE deleted_at IS NOT NULL) AS deleted,
           (SELECT count(*) FROM users) AS users, (SELECT count(*) FROM tokens) AS tokens,
           (SELECT size FROM audit_heads WHERE tenant_id = ${tenant}) AS size`;
  return rows[0];
}

async function ask([, method, path, body]: (typeof ACTS)[number], token = t.admin) {
  const started = performance.now();
  const answer = await t.request(method, `/api/v1${path}`, { token, ...(body === undefined ? {} : { body }) });
  return { ...answer, ms: performance.now() - started };
}

async function expectAllRefused(): Promise<void> {
  const before = await state();
  const answers = await Promise.all(ACTS.map((act) => ask(act)));
  answers.forEach((answer, i) => {
    expect([answer.status, answer.json.code], ACTS[i]![0]).toEqual([503, 'unavailable']);
    expect(answer.ms, ACTS[i]![0]).toBeLessThan(DEADLINE_MS);
    expect(answer.headers.get('retry-after'), ACTS[i]![0]).toMatch(/^\d+$/);
    expect(answer.text, ACTS[i]![0]).not.toContain(VALUE);
  });
  expect(await state()).toEqual(before);
}

async function expectServing(): Promise<void> {
  await expect.poll(async () => (await ask(ACTS[0]!)).status, { timeout: 60_000, interval: 100 }).toBe(200);
  await t.check();
}

describe('the log cannot be written', () => {
  it('T-085 while another session holds the head: every act is refused in time, and all serve again afterwards', async () => {
    let release = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    let locked = () => {};
    const taken = new Promise<void>((resolve) => {
      locked = resolve;
    });
    const holder = t.owner.begin(async (tx) => {
      await tx`SELECT 1 FROM audit_heads WHERE tenant_id = ${tenant} FOR UPDATE`;
      locked();
      await held;
    });
    await taken;
    try {
      await expectAllRefused();
      const other = await t.request('GET', '/api/v1/tenants', { token: t.operator });
      expect(other.status, 'another tenant is served meanwhile').toBe(200);
    } finally {
      release();
      await holder;
    }
    await expectServing();
  });

  it('T-085 while the insert fails: nothing was done', async () => {
    await t.owner`REVOKE INSERT ON audit_segments FROM bulla_app`;
    const before = await state();
    try {
      for (const act of ACTS) {
        const answer = await ask(act);
        expect(answer.status, act[0]).toBeGreaterThanOrEqual(500);
        expect(answer.text).not.toContain(VALUE);
      }
      expect(await state()).toEqual(before);
    } finally {
      await t.owner`GRANT INSERT ON audit_segments TO bulla_app`;
    }
    await expectServing();
  });

  it('T-181 while the backends of its connections are stopped: refused in time, and healed on new connections', async () => {
    const backends = await t.owner`
      SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'bulla'`;
    const pids = backends.map((row) => row.pid as number);
    expect(pids.length).toBeGreaterThan(0);
    const before = await state();
    for (const pid of pids) process.kill(pid, 'SIGSTOP');
    try {
      // Those that get a stopped connection are refused; those that open a new one may be served.
      const answers = await Promise.all(Array.from({ length: 8 }, () => ask(ACTS[0]!)));
      for (const { status, ms, text } of answers) {
        expect([200, 503]).toContain(status);
        expect(ms).toBeLessThan(DEADLINE_MS);
        if (status !== 200) expect(text).not.toContain(VALUE);
      }
      expect(answers.some(({ status }) => status === 503)).toBe(true);
      await expect.poll(async () => (await ask(ACTS[0]!)).status, { timeout: 60_000, interval: 100 }).toBe(200);
    } finally {
      for (const pid of pids) process.kill(pid, 'SIGCONT');
    }
    const after = (await state()) as { secrets: string };
    expect(after.secrets).toBe((before as { secrets: string }).secrets);
    await expectServing();
  });

  it('T-178 when backends are ended under load, every answered read has its entry', async () => {
    const ids: string[] = [];
    const load = Promise.all(
      Array.from({ length: 40 }, async (_, i) => {
        const id = `killed-${i}`;
        const answer = await t.request('GET', '/api/v1/secrets/prod/db', {
          token: t.admin,
          headers: { 'x-request-id': id },
        });
        if (answer.status === 200) ids.push(id);
        else expect([503, 504]).toContain(answer.status);
      }),
    );
    // SIGTERM ends one backend; SIGKILL would have PostgreSQL restart under every other test.
    const backends = await t.owner`
      SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'bulla'`;
    for (const { pid } of backends) process.kill(pid as number, 'SIGTERM');
    await load;
    const rows = await t.owner`SELECT lines FROM audit_segments WHERE tenant_id = ${tenant}`;
    const log = rows.map((row) => row.lines.toString('utf8')).join('');
    for (const id of ids) expect(log).toContain(`"request":"${id}"`);
    await expectServing();
  });
});
