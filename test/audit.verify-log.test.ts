/**
 * The offline verifier against logs that were tampered with, and against a second verifier that shares no code with it
 * (verifier.reference.ts): both must say the same.
 */
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type LogReport, verifyLog } from '../src/audit/verify-log.ts';
import { type TestVault, testVault } from './harness.ts';
import { referenceVerify } from './verifier.reference.ts';

let t: TestVault;
let key: string;
/** The log at two sizes, as an auditor keeps it. */
const kept = { old: '', note: '', lines: '', tree: '', proven: '' };
let size: number;

const get = async (path: string) => (await t.request('GET', `/api/v1/audit/${path}`, { token: t.admin })).text;
const sign = async () => (await t.request('POST', '/api/v1/audit/checkpoint', { token: t.admin })).text;
const sizeOf = (note: string) => Number(note.split('\n')[1]);
const bytesOf = (text: string) => () => [Buffer.from(text)];

beforeAll(async () => {
  t = await testVault();
  for (const path of ['a', 'b', 'c/d']) {
    await t.request('PUT', `/api/v1/secrets/${path}`, { token: t.admin, body: { text: 'one' } });
  }
  kept.old = await sign();
  for (let i = 0; i < 40; i++) await t.request('GET', `/api/v1/secrets/${i % 2 ? 'a' : 'c/d'}`, { token: t.admin });
  kept.note = await sign();
  size = sizeOf(kept.note);
  key = (await get('key')).trim();
  kept.lines = await get(`entries?to_index=${size}`);
  kept.tree = await get(`tree?size=${size}`);
  kept.proven = await get(`entries?proof=true&action=secret.read&resource=secret:c/**&extending=${sizeOf(kept.old)}`);
});
afterAll(() => t.close());

type Files = { lines: string; tree?: string; note?: string; older?: string; key?: string | null };

/** Both verifiers. They must agree on whether all is well. */
async function verified({ lines, tree, note, older, key: given }: Files): Promise<LogReport> {
  const trusted = given === null ? undefined : (given ?? key);
  const options = { checkpoint: note, older, keys: trusted === undefined ? [] : [trusted] };
  const report = await verifyLog(bytesOf(lines), {
    ...options,
    ...(tree === undefined ? {} : { tree: bytesOf(tree) }),
  });
  if (trusted !== undefined && (note !== undefined || lines.startsWith('{"proof"'))) {
    expect(referenceVerify(lines, { note, older, key: trusted }), JSON.stringify(report)).toBe(report.ok);
  }
  return report;
}

const whole = () => ({ lines: kept.lines, tree: kept.tree, note: kept.note });
const edit = (text: string, change: (lines: string[]) => void) => {
  const lines = text.split('\n').slice(0, -1);
  change(lines);
  return `${lines.join('\n')}\n`;
};

describe('the whole log', () => {
  it('is whole, signed by the key, and an extension of the older checkpoint', async () => {
    const report = await verified({ ...whole(), older: kept.old });
    expect(report).toMatchObject({
      ok: true,
      lines: size,
      size,
      extends: sizeOf(kept.old),
      findings: [],
      problems: [],
    });
    expect(report.signedBy).toEqual([kept.note.split('\n')[0]]);
  });

  it('needs no tree while nothing is wrong', async () => {
    expect(await verified({ lines: kept.lines, note: kept.note })).toMatchObject({ ok: true, checked: 'checkpoint' });
  });

  it('another key, an edited note and a note of another log are refused', async () => {
    const other = key.replace(/^[^+]+/, 'someone/else');
    await expect(verified({ ...whole(), key: other })).rejects.toThrow(/mistyped or edited/);
    expect((await verified({ ...whole(), note: kept.note.replace(`\n${size}\n`, `\n${size - 1}\n`) })).ok).toBe(false);
    const foreign = await verified({ ...whole(), older: kept.old.replace(/^[a-z2-7]{16}/, 'aaaaaaaaaaaaaaaa') });
    expect(foreign.ok).toBe(false);
  });

  it.each([
    ['edited', (lines: string[]) => (lines[7] = lines[7]!.replace('"ok"', '"no"')), /edited/],
    ['deleted', (lines: string[]) => lines.splice(7, 1), /missing/],
    ['moved', (lines: string[]) => lines.splice(9, 0, ...lines.splice(7, 1)), /moved/],
    ['inserted', (lines: string[]) => lines.splice(7, 0, lines[7]!.replace('"ok"', '"no"')), /added/],
    ['duplicated', (lines: string[]) => lines.splice(8, 0, lines[7]!), /added/],
  ])('T-093 a line that was %s is named', async (_, change, kind) => {
    const { ok, findings } = await verified({
      ...whole(),
      lines: edit(kept.lines, change as (lines: string[]) => void),
    });
    expect(ok).toBe(false);
    expect(findings[0]!.kind).toMatch(kind);
    expect(JSON.stringify(findings[0])).toMatch(/[789]/);
  });

  it('T-093 a tail that was cut off is named, with the tree or without', async () => {
    const lines = edit(kept.lines, (all) => all.splice(-3));
    expect((await verified({ ...whole(), lines })).findings).toEqual([
      { kind: 'missing', entries: [size - 3, size - 1] },
    ]);
    const report = await verified({ lines, note: kept.note });
    expect(report.ok).toBe(false);
    expect(report.problems.join(' ')).toContain(`${size - 3} lines do not add up to the checkpoint's ${size} entries`);
  });

  it('a tree with fresh hashes for edited lines is not believed', async () => {
    const { leafHash, treeRoot } = await import('../src/crypto/merkle.ts');
    const lines = edit(kept.lines, (all) => (all[3] = all[3]!.replace('"ok"', '"no"')));
    const hashes = lines
      .split('\n')
      .slice(0, -1)
      .map((line) => leafHash(Buffer.from(line)));
    const base64 = (hash: Uint8Array) => Buffer.from(hash).toString('base64');
    const header = kept.tree.split('\n').slice(0, 3);
    const tree = [...header, base64(treeRoot(hashes)), '', ...hashes.map(base64), ''].join('\n');
    const report = await verified({ lines, tree, note: kept.note });
    expect(report).toMatchObject({ ok: false, findings: [] });
    expect(report.treeProblem).toMatch(/another root/);
  });

  it('T-095 a log that was forked after the older checkpoint is shown by the two notes', async () => {
    const lines = edit(kept.lines, (all) => (all[1] = all[1]!.replace('"ok"', '"no"')));
    const report = await verifyLog(bytesOf(lines), { older: kept.old, keys: [key] });
    expect(report.ok).toBe(false);
    expect(report.problems.join()).toMatch(/forked or rewritten before entry \d+/);
  });

  it('T-094 a log that was rolled back behind the older checkpoint says so', async () => {
    const lines = edit(kept.lines, (all) => all.splice(sizeOf(kept.old) - 1));
    const report = await verifyLog(bytesOf(lines), { older: kept.old, keys: [key] });
    expect(report.problems.join()).toMatch(/rolled back/);
  });

  it('any flipped bit of a line is found', async () => {
    const bytes = Buffer.from(kept.lines);
    for (let round = 0; round < 60; round++) {
      const at = randomBytes(4).readUInt32BE() % bytes.length;
      const flipped = Buffer.from(bytes);
      flipped[at]! ^= 1 << (round % 8);
      expect((await verifyLog(() => [flipped], { checkpoint: kept.note, keys: [key] })).ok, `byte ${at}`).toBe(false);
    }
  });
});

describe('a self-proving export', () => {
  it('proves a choice of entries, signed, and that the log extends the older checkpoint', async () => {
    const report = await verified({ lines: kept.proven, older: kept.old });
    expect(report).toMatchObject({ ok: true, checked: 'proof', size, extends: sizeOf(kept.old) });
    const entries = kept.proven.split('\n').filter((line) => line.startsWith('{"action"'));
    expect(report.lines).toBe(entries.length);
    expect(entries.length).toBeGreaterThan(10);
    for (const entry of entries) expect(JSON.parse(entry).resource).toBe('secret:c/d');
  });

  it.each([
    ['the whole log', ''],
    ['one entry', '&from_index=3&to_index=4'],
    ['none', '&actor=nobody'],
    ['a few', '&limit=5&action=secret.read'],
  ])('proves %s', async (_, filter) => {
    const lines = await get(`entries?proof=true${filter}`);
    expect(await verified({ lines })).toMatchObject({ ok: true, size });
  });

  it('every single change of it is found', async () => {
    const lines = kept.proven.split('\n').slice(0, -1);
    for (let at = 0; at < lines.length; at++) {
      const without = edit(kept.proven, (all) => all.splice(at, 1));
      expect((await verified({ lines: without })).ok, `line ${at + 1} deleted`).toBe(false);
      const twice = edit(kept.proven, (all) => all.splice(at, 0, lines[at]!));
      expect((await verified({ lines: twice })).ok, `line ${at + 1} twice`).toBe(false);
      const edited = edit(
        kept.proven,
        (all) => (all[at] = all[at]!.replace(/[a-zA-Z](?=[^a-zA-Z]*$)/, (c) => (c === 'x' ? 'y' : 'x'))),
      );
      expect((await verified({ lines: edited })).ok, `line ${at + 1} edited`).toBe(false);
    }
  });

  it('names the entry that was edited', async () => {
    const lines = edit(kept.proven, (all) => {
      const at = all.findIndex((line) => line.startsWith('{"action"'));
      all[at] = all[at]!.replace('"ok"', '"no"');
    });
    const { findings } = await verified({ lines });
    expect(findings).toHaveLength(1);
    expect(findings[0]).toMatchObject({ kind: 'edited' });
  });

  it('that is not cut at the older checkpoint says that it cannot show the extension', async () => {
    const lines = await get('entries?proof=true&actor=nobody');
    const report = await verifyLog(bytesOf(lines), { older: kept.old, keys: [key] });
    expect(report.problems.join()).toMatch(/not cut at entry/);
  });
});
