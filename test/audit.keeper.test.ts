/** The keeper: logs are signed, the mark outside the database is kept, and an older database is refused. */
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { acknowledgeRollback, readMark } from '../src/audit/mark.ts';
import { startAuditKeeper } from '../src/job/audit-keeper.ts';
import { startJobs } from '../src/job/kinds.ts';
import { type TestVault, testVault } from './harness.ts';
import { until } from './until.ts';

let t: TestVault;
let file: string;

beforeAll(async () => {
  t = await testVault();
  file = join(t.dataDir, 'audit-mark.jsonl');
});
afterAll(() => t.close());

async function runOnce(vault = t.vault): Promise<void> {
  const keeper = await startAuditKeeper(vault, file);
  await keeper.stop();
}

/** What an attacker or a careless operator does to go back: everything of the audit log as it was. */
async function snapshot(): Promise<() => Promise<void>> {
  const tables = ['audit_heads', 'audit_segments', 'audit_leaves', 'audit_checkpoints', 'audit_tiles', 'audit_signing'];
  for (const table of tables) await t.owner.unsafe(`CREATE TABLE public.old_${table} AS TABLE bulla.${table}`);
  return async () => {
    await t.owner.begin(async (tx) => {
      for (const table of tables) {
        await tx.unsafe(`DELETE FROM bulla.${table}; INSERT INTO bulla.${table} SELECT * FROM public.old_${table}`);
      }
    });
    for (const table of tables) await t.owner.unsafe(`DROP TABLE public.old_${table}`);
  };
}

const act = () => t.request('GET', '/api/v1/auth/self', { token: t.admin });

describe('the keeper', () => {
  it('signs every log that grew and keeps the notes in a file of mode 0600', async () => {
    await runOnce();
    const rows = await t.owner`
      SELECT h.size, s.signed_size FROM audit_heads h JOIN audit_signing s USING (tenant_id)`;
    expect(rows.length).toBeGreaterThanOrEqual(2);
    for (const row of rows) expect(row.signed_size).toBe(row.size);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    const notes =
      await t.owner`SELECT DISTINCT ON (tenant_id) note FROM audit_checkpoints ORDER BY tenant_id, size DESC`;
    const kept = [...readMark(file).notes.values()];
    expect(new Set(kept)).toEqual(new Set(notes.map((row) => row.note)));
  });

  it('a node says when it started, what that did to the schema, and when it stopped', async () => {
    const keeper = await startAuditKeeper(await t.node(), file, { migrations: ['0099_last.sql'] });
    await keeper.stop();
    const log = await t.request('GET', '/api/v1/audit/entries', { token: t.operator });
    const entries = log.text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
      .filter(({ action }) => action.startsWith('vault.') && action !== 'vault.initialise');
    expect(entries.slice(-3)).toMatchObject([
      { action: 'vault.migrate', outcome: 'ok', actor: { kind: 'vault' }, details: { file: '0099_last.sql' } },
      { action: 'vault.start', outcome: 'ok', details: { seal: 'file' } },
      { action: 'vault.stop', outcome: 'ok' },
    ]);
    expect(new Set(entries.slice(-3).map(({ request }) => request)).size, 'of one node').toBe(1);
  });

  it('a job says when it started and ended', async () => {
    const { json } = await t.request('POST', '/api/v1/keys/rotate', { token: t.admin, body: { reencrypt: true } });
    const resource = `job:${json.job.id}`;
    const jobs = startJobs(t.vault);
    const said = await until('the job has ended', async () => {
      const query = `resource=${resource}&request=job-${json.job.id}`;
      const { text } = await t.request('GET', `/api/v1/audit/entries?${query}`, { token: t.admin });
      return text.includes('job.finish') && text.trim().split('\n');
    });
    await jobs.stop();
    expect(said.map((line) => JSON.parse(line))).toMatchObject([
      { action: 'job.start', outcome: 'ok', resource, actor: { kind: 'vault' } },
      { action: 'job.finish', outcome: 'ok', resource },
    ]);
  });

  it('a line of the mark that a crash cut off is ignored', async () => {
    const whole = readFileSync(file, 'utf8');
    writeFileSync(file, `${whole}{"origin":"x`);
    expect(readMark(file).notes.size).toBe(
      new Set(
        whole
          .trim()
          .split('\n')
          .map((line) => JSON.parse(line).origin),
      ).size,
    );
    writeFileSync(file, whole);
  });

  it('T-094 an older database is refused until an operator acknowledges it, and that is logged', async () => {
    const restore = await snapshot();
    await act();
    await runOnce();
    await restore();
    const node = await t.node();
    await expect(runOnce(node)).rejects.toMatchObject({ code: 'integrity' });
    await expect(runOnce(node)).rejects.toThrow(/has \d+ entries, and \d+ were signed.*acknowledge-rollback/);
    expect(acknowledgeRollback(file)).toBe(true);
    expect(existsSync(file)).toBe(false);
    const after = await t.node();
    await runOnce(after);
    const log = await t.request('GET', '/api/v1/audit/entries?action=audit.acknowledge-rollback', { token: t.admin });
    const entries = log.text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(entries).toHaveLength(1);
    expect(entries[0].details.marked_size).toBeGreaterThan(0);
    await runOnce(await t.node());
  });

  it('T-095 a database that went on differently from the same dump is refused, and says where', async () => {
    const restore = await snapshot();
    for (let i = 0; i < 3; i++) await act();
    await runOnce(await t.node());
    await restore();
    for (let i = 0; i < 9; i++) await act();
    await expect(runOnce(await t.node())).rejects.toThrow(/was rewritten before entry \d+/);
    acknowledgeRollback(file);
    await runOnce(await t.node());
  });

  it('a mark of another deployment, or one that nobody signed, is refused', async () => {
    const whole = readFileSync(file, 'utf8');
    const [line] = whole.trim().split('\n');
    const { origin, note } = JSON.parse(line!) as { origin: string; note: string };
    const other = origin.replace(/^.{4}/, 'zzzz');
    writeFileSync(file, `${JSON.stringify({ origin: other, note })}\n`);
    await expect(runOnce(await t.node())).rejects.toThrow(/another deployment/);
    writeFileSync(file, `${JSON.stringify({ origin, note: note.replace('\n', '\n1') })}\n`);
    await expect(runOnce(await t.node())).rejects.toThrow(/edited|signed/);
    writeFileSync(file, 'not a mark\n');
    await expect(runOnce(await t.node())).rejects.toThrow(/no checkpoint/);
    acknowledgeRollback(file);
    await runOnce(await t.node());
    writeFileSync(file, whole);
    await runOnce(await t.node());
  });
});
