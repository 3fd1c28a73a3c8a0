/**
 * What somebody who owns the database can do to a log, and which check finds it: the node that signs, the mark outside
 * the database, or the auditor with an export and what was shown before (T-093, T-094, T-095).
 */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { haltReason } from '../src/audit/halt.ts';
import { verifyLog } from '../src/audit/verify-log.ts';
import { appendLeaves, EMPTY_TREE, leafHash } from '../src/crypto/merkle.ts';
import { startAuditKeeper } from '../src/job/audit-keeper.ts';
import type { Vault } from '../src/vault.ts';
import { type TestVault, testVault } from './harness.ts';

let t: TestVault;
let tenant: string;
let key: string;
/** A checkpoint that the auditor has kept. */
let old: string;
const open: TestVault[] = [];

const get = async (path: string) => (await t.request('GET', `/api/v1/audit/${path}`, { token: t.admin })).text;
const sign = async () => (await t.request('POST', '/api/v1/audit/checkpoint', { token: t.admin })).text;
const sizeOf = (note: string) => Number(note.split('\n')[1]);
const act = async (times: number) => {
  for (let i = 0; i < times; i++) await t.request('GET', '/api/v1/secrets/x', { token: t.admin });
};

beforeEach(async () => {
  await Promise.all(open.splice(0).map((vault) => vault.close()));
  t = await testVault();
  open.push(t);
  tenant = (await t.owner`SELECT tenant_id FROM tenants WHERE name = 'default'`)[0]!.tenant_id;
  await t.request('PUT', '/api/v1/secrets/x', { token: t.admin, body: { text: 'x' } });
  await act(6);
  old = await sign();
  key = (await get('key')).trim();
  await act(6);
});
afterAll(() => Promise.all(open.map((vault) => vault.close())));

/** The log's lines, changed as the owner of the tables, in the table of bodies alone or with leaves and head made anew. */
async function rewrite(change: (lines: string[]) => void, hashes: 'kept' | 'fresh'): Promise<void> {
  const rows =
    await t.owner`SELECT first_seq, count, lines FROM audit_segments WHERE tenant_id = ${tenant} ORDER BY first_seq`;
  const lines = rows.flatMap((row) => row.lines.toString('utf8').split('\n').slice(0, -1)) as string[];
  const before = lines.length;
  change(lines);
  // A line too many stands in the segment of its neighbour: a row of its own would only make the next append fail.
  const surplus = Math.max(0, lines.length - before);
  const stored = lines.map((line) => `${line}\n`);
  const segments = [...stored.slice(0, 5), stored.slice(5, 6 + surplus).join(''), ...stored.slice(6 + surplus)];
  await t.owner.begin(async (tx) => {
    await tx`DELETE FROM audit_segments WHERE tenant_id = ${tenant}`;
    for (const [i, text] of segments.entries()) {
      await tx`INSERT INTO audit_segments VALUES (${tenant}, ${i}, 1, now(), now(), ${Buffer.from(text)})`;
    }
    if (hashes === 'kept') return;
    const leaves = lines.map((line) => leafHash(Buffer.from(line)));
    const tree = appendLeaves(EMPTY_TREE.size, EMPTY_TREE.frontier, Buffer.concat(leaves));
    await tx`DELETE FROM audit_leaves WHERE tenant_id = ${tenant}`;
    await tx`INSERT INTO audit_leaves VALUES (${tenant}, 0, ${leaves.length}, ${Buffer.concat(leaves)})`;
    await tx`UPDATE audit_heads SET size = ${tree.size}, frontier = ${tree.frontier} WHERE tenant_id = ${tenant}`;
  });
}

const flip = (line: string) => line.replace('"outcome":"ok"', '"outcome":"no"');

/** What the auditor sees: an export with its tree, against a checkpoint that was signed before or now. */
async function audited(note: string) {
  const size = sizeOf(note);
  const lines = await get(`entries?to_index=${size}`);
  const tree = await get(`tree?size=${size}`);
  const read = (text: string) => () => [Buffer.from(text)];
  return verifyLog(read(lines), { tree: read(tree), checkpoint: note, keys: [key], older: old });
}

describe('T-093 lines changed, leaf hashes left', () => {
  it.each([
    ['edited', (lines: string[]) => lines.splice(5, 1, flip(lines[5]!)), { kind: 'edited', entries: [5, 5] }],
    ['deleted', (lines: string[]) => lines.splice(5, 1), { kind: 'missing', entries: [5, 5] }],
    ['reordered', (lines: string[]) => lines.splice(6, 0, ...lines.splice(5, 1)), { kind: 'moved' }],
    ['inserted', (lines: string[]) => lines.splice(5, 0, flip(lines[5]!)), { kind: 'added' }],
    ['duplicated', (lines: string[]) => lines.splice(6, 0, lines[5]!), { kind: 'added' }],
  ])('%s: the auditor is told which entry', async (_, change, finding) => {
    const note = await sign();
    await rewrite(change as (lines: string[]) => void, 'kept');
    const { ok, findings } = await audited(note);
    expect(ok).toBe(false);
    expect(findings[0]).toMatchObject(finding);
    expect(JSON.stringify(findings[0])).toMatch(/[567]/);
  });

  it('the export breaks off or says so where a segment is gone', async () => {
    const note = await sign();
    await t.owner`DELETE FROM audit_segments WHERE tenant_id = ${tenant} AND first_seq = 5`;
    const { ok, findings } = await audited(note);
    expect(ok).toBe(false);
    expect(findings).toEqual([{ kind: 'missing', entries: [5, 5] }]);
  });
});

describe('T-093 leaf hashes and head made to fit', () => {
  it('an entry that was signed is edited: the node refuses to sign and says before which entry', async () => {
    await rewrite((lines) => lines.splice(2, 1, flip(lines[2]!)), 'fresh');
    const answer = await t.request('POST', '/api/v1/audit/checkpoint', { token: t.admin });
    expect(answer.json.code).toBe('integrity');
    expect(haltReason(t.vault)).toMatch(new RegExp(`was rewritten before entry ${sizeOf(old)}`));
    expect((await t.request('GET', '/api/v1/secrets/x', { token: t.admin })).json.code).toBe('sealed');
  });

  it('the whole tree is rewritten with fresh hashes: the auditor sees that it does not extend the older checkpoint', async () => {
    await rewrite((lines) => lines.splice(2, 1, flip(lines[2]!)), 'fresh');
    const lines = await get('entries');
    const tree = await get(`tree?size=${lines.trimEnd().split('\n').length}`);
    const read = (text: string) => () => [Buffer.from(text)];
    const report = await verifyLog(read(lines), { tree: read(tree), keys: [key], older: old });
    expect(report.ok).toBe(false);
    expect(report.problems.join()).toContain(`forked or rewritten before entry ${sizeOf(old)}`);
  });

  it('the tail is cut behind a checkpoint: the node refuses to sign', async () => {
    const note = await sign();
    await rewrite((lines) => lines.splice(-3), 'fresh');
    await t.request('POST', '/api/v1/audit/checkpoint', { token: t.admin });
    expect(haltReason(t.vault)).toMatch(new RegExp(`has \\d+ entries, and ${sizeOf(note)} were signed`));
  });

  it('checkpoints are removed with the tail: a running node remembers what it signed', async () => {
    await sign();
    await rewrite((lines) => lines.splice(sizeOf(old)), 'fresh');
    await t.owner`DELETE FROM audit_checkpoints WHERE tenant_id = ${tenant} AND size > ${sizeOf(old)}`;
    await t.owner`UPDATE audit_signing SET signed_size = ${sizeOf(old)} WHERE tenant_id = ${tenant}`;
    await t.request('POST', '/api/v1/audit/checkpoint', { token: t.admin });
    expect(haltReason(t.vault)).toMatch(/checkpoints were removed, or the database is older/);
  });

  it('a frontier that was edited alone: the node refuses to sign', async () => {
    const frontier = createHash('sha256').update('forged').digest();
    const [head] = await t.owner`SELECT frontier FROM audit_heads WHERE tenant_id = ${tenant}`;
    const forged = Buffer.concat([Buffer.from(head!.frontier).subarray(0, -32), frontier]);
    await t.owner`UPDATE audit_heads SET frontier = ${forged} WHERE tenant_id = ${tenant}`;
    await t.request('POST', '/api/v1/audit/checkpoint', { token: t.admin });
    expect(haltReason(t.vault)).toMatch(/is not the root of its|was rewritten/);
  });

  it('leaf hashes that are gone are named by the entry', async () => {
    await t.owner`DELETE FROM audit_leaves WHERE tenant_id = ${tenant} AND first_seq = ${sizeOf(old) + 1}`;
    await t.request('POST', '/api/v1/audit/checkpoint', { token: t.admin });
    expect(haltReason(t.vault)).toMatch(new RegExp(`leaf hash of entry ${sizeOf(old) + 1} is missing`));
  });

  it('an edited tile makes no proof, and the node that signs finds it', async () => {
    const { growLog } = await import('./fixtures/log.ts');
    await growLog(t.owner, tenant, 600);
    await sign();
    const size = sizeOf(await sign());
    await t.owner`UPDATE audit_tiles SET hashes = overlay(hashes PLACING '\\x00'::bytea FROM 1) WHERE tenant_id = ${tenant} AND level = 0 AND tile = 0`;
    const proof = await t.request('GET', `/api/v1/audit/proof/inclusion?index=3&size=${size}`, { token: t.admin });
    expect([proof.status, proof.json.code]).toEqual([500, 'integrity']);
  });

  it('a note that is not of the log key is refused', async () => {
    await t.owner`UPDATE audit_checkpoints SET note = replace(note, ${`\n${sizeOf(old)}\n`}, ${`\n${sizeOf(old) - 1}\n`}), size = ${sizeOf(old) - 1} WHERE tenant_id = ${tenant}`;
    await t.owner`UPDATE audit_signing SET signed_size = ${sizeOf(old) - 1} WHERE tenant_id = ${tenant}`;
    const fresh: Vault = await t.node();
    await expect(startAuditKeeper(fresh, join(t.dataDir, 'mark'))).rejects.toThrow(/edited after it was signed/);
  });
});

describe('T-095 a fork by two nodes from one dump', () => {
  it('is shown by two notes of one key and one size, and neither extends the other', async () => {
    const lines = async () => (await get('entries')).trimEnd().split('\n');
    const before = await lines();
    await act(3);
    const noteA = await sign();
    const size = sizeOf(noteA);
    const entriesA = (await lines()).slice(0, size);
    // The other node starts from the dump: here the database is put back under a node that knows nothing of A.
    await rewrite((all) => all.splice(before.length), 'fresh');
    await t.owner`DELETE FROM audit_checkpoints WHERE tenant_id = ${tenant} AND size > ${sizeOf(old)}`;
    await t.owner`UPDATE audit_signing SET signed_size = ${sizeOf(old)} WHERE tenant_id = ${tenant}`;
    await act(size - before.length);
    const { openLogKeys, signLog } = await import('../src/audit/checkpoint.ts');
    const other = await t.node();
    const noteB = (await signLog(other, tenant as never, await openLogKeys(other)))!.note;
    const read = (all: readonly string[]) => () => [Buffer.from(`${all.join('\n')}\n`)];
    const report = await verifyLog(read(entriesA), { checkpoint: noteA, keys: [key], older: noteB });
    expect(report.ok).toBe(false);
    expect(report.problems.join()).toMatch(/forked or rewritten|rolled back/);
    // The node that signed A finds the other's note in its own table and stops.
    await t.request('POST', '/api/v1/audit/checkpoint', { token: t.admin });
    expect(haltReason(t.vault)).toBeDefined();
  });
});

describe('bytes that are no text', () => {
  it('are exported as what they are, and fail to verify by the entry', async () => {
    const note = await sign();
    await t.owner`
      UPDATE audit_segments SET lines = overlay(lines PLACING '\\xff'::bytea FROM 20) WHERE tenant_id = ${tenant} AND first_seq = 3`;
    const { ok, findings } = await audited(note);
    expect(ok).toBe(false);
    expect(findings).toMatchObject([{ kind: 'edited', entries: [3, 3] }]);
  });
});
