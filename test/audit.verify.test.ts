/**
 * The offline verifier: whatever was done to an export is named, and nothing else is.
 *
 * Trees are made here from the definition in RFC 6962 §2.1, by recursion and node:crypto alone, so that the verifier is
 * not tested against its own arithmetic.
 */
import { createHash, randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Finding, type VerifyReport, verifyExport } from '../src/audit/verify.ts';

const sha256 = (...parts: (Buffer | string)[]) => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
};
const leafOf = (line: string) => sha256(Buffer.from([0]), line);

function rootOf(leaves: readonly Buffer[]): Buffer {
  if (leaves.length === 0) return sha256('');
  if (leaves.length === 1) return leaves[0]!;
  let half = 1;
  while (half * 2 < leaves.length) half *= 2;
  return sha256(Buffer.from([1]), rootOf(leaves.slice(0, half)), rootOf(leaves.slice(half)));
}

function logOf(entries: number): string[] {
  return Array.from({ length: entries }, (_, seq) => {
    const salt = randomBytes(16).toString('base64url');
    return `{"action":"secret.read","actor":{"kind":"user","name":"app"},"details":{"seq":5},"outcome":"ok","resource":"secret:a/${seq}","salt":"${salt}","seq":${seq},"source":"127.0.0.1","time":"2026-01-02T03:04:05.000000Z","v":1}`;
  });
}

function treeOf(lines: readonly string[], change: { root?: Buffer; size?: number; leaves?: Buffer[] } = {}): string {
  const leaves = change.leaves ?? lines.map(leafOf);
  const root = change.root ?? rootOf(lines.map(leafOf));
  const head = ['bulla-tree-v1', 'dep/tenant', String(change.size ?? lines.length), root.toString('base64'), ''];
  return `${[...head, ...leaves.map((leaf) => leaf.toString('base64'))].join('\n')}\n`;
}

const fileOf = (lines: readonly string[]) => lines.map((line) => `${line}\n`).join('');

/** In pieces of a length that no line has, so that lines are cut anywhere. */
function* pieces(text: string, length: number): Generator<Buffer> {
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; at += length) yield bytes.subarray(at, at + length);
}

function verify(lines: readonly string[], log: readonly string[], pieceLength = 1000): Promise<VerifyReport> {
  return verifyExport(pieces(fileOf(lines), pieceLength), pieces(treeOf(log), 777));
}

const log = logOf(40);
const edited = (line: string) => line.replace('"ok"', '"no"');

describe('a file that is the log', () => {
  test.each([0, 1, 2, 3, 7, 8, 9, 40])('of %i entries is whole', async (size) => {
    const lines = log.slice(0, size);
    expect(await verify(lines, lines, 13)).toMatchObject({
      ok: true,
      checked: 'tree',
      lines: size,
      size,
      findings: [],
    });
  });

  test('is whole without its last line feed', async () => {
    const report = await verifyExport([Buffer.from(fileOf(log).trimEnd())], [Buffer.from(treeOf(log))]);
    expect(report).toMatchObject({ ok: true, origin: 'dep/tenant', root: rootOf(log.map(leafOf)).toString('base64') });
  });
});

describe('what was done is named, and nothing else', () => {
  const cases: [string, string[], Finding[]][] = [
    ['one bit of a line', log.with(7, edited(log[7]!)), [{ kind: 'edited', entries: [7, 7], lines: [8, 8] }]],
    [
      'a line whose number was edited too',
      log.with(7, log[7]!.replace('"seq":7', '"seq":700')),
      [{ kind: 'edited', entries: [7, 7], lines: [8, 8] }],
    ],
    [
      'three edited lines',
      log.toSpliced(3, 3, ...log.slice(3, 6).map(edited)),
      [{ kind: 'edited', entries: [3, 5], lines: [4, 6] }],
    ],
    ['a dropped line', log.toSpliced(7, 1), [{ kind: 'missing', entries: [7, 7] }]],
    ['the first line dropped', log.slice(1), [{ kind: 'missing', entries: [0, 0] }]],
    ['a cut tail', log.slice(0, 30), [{ kind: 'missing', entries: [30, 39] }]],
    ['everything cut', [], [{ kind: 'missing', entries: [0, 39] }]],
    ['an added line', log.toSpliced(7, 0, '{"seq":7}'), [{ kind: 'added', lines: [8, 8], beforeEntry: 7 }]],
    ['an added empty line', log.toSpliced(7, 0, ''), [{ kind: 'added', lines: [8, 8], beforeEntry: 7 }]],
    ['a line added at the end', [...log, '{"seq":40}'], [{ kind: 'added', lines: [41, 41], beforeEntry: 40 }]],
    ['a copied line', log.toSpliced(20, 0, log[3]!), [{ kind: 'added', lines: [21, 21], beforeEntry: 20 }]],
    ['a line copied to the front', log.toSpliced(3, 0, log[20]!), [{ kind: 'added', lines: [4, 4], beforeEntry: 3 }]],
    [
      'a line moved back',
      log.toSpliced(30, 1).toSpliced(5, 0, log[30]!),
      [{ kind: 'moved', entries: [30, 30], lines: [6, 6] }],
    ],
    [
      'a line moved on',
      log.toSpliced(30, 0, log[5]!).toSpliced(5, 1),
      [{ kind: 'moved', entries: [5, 5], lines: [30, 30] }],
    ],
    ['two lines swapped', log.with(5, log[6]!).with(6, log[5]!), [{ kind: 'moved', entries: [6, 6], lines: [6, 6] }]],
    [
      'one line dropped and another edited far behind it',
      log.with(30, edited(log[30]!)).toSpliced(7, 1),
      [
        { kind: 'missing', entries: [7, 7] },
        { kind: 'edited', entries: [30, 30], lines: [30, 30] },
      ],
    ],
    [
      'one line edited where its neighbour is dropped',
      log.with(8, edited(log[8]!)).toSpliced(7, 1),
      [
        { kind: 'missing', entries: [7, 7] },
        { kind: 'edited', entries: [8, 8], lines: [8, 8] },
      ],
    ],
  ];
  test.each(cases)('%s', async (_what, lines, findings) => {
    expect(await verify(lines, log)).toMatchObject({ ok: false, checked: 'tree', lines: lines.length, findings });
  });

  test('lines of an endless file are counted and not kept', async () => {
    const long = 'x'.repeat(3 * 1024 * 1024);
    const report = await verify(log.toSpliced(7, 0, long), log, 64 * 1024);
    expect(report.findings).toEqual([{ kind: 'added', lines: [8, 8], beforeEntry: 7 }]);
  });

  test('T-093 any mixture of acts leaves no line unexplained, and the untouched log never accused', async () => {
    const act = fc.record({
      kind: fc.constantFrom('edit', 'drop', 'add', 'copy', 'move', 'swap'),
      at: fc.nat(39),
      to: fc.nat(39),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(act, { maxLength: 6 }), fc.integer({ min: 1, max: 500 }), async (acts, pieceLength) => {
        const lines = acts.reduce(apply, log);
        const { ok, findings } = await verify(lines, log, pieceLength);
        expect(ok).toBe(fileOf(lines) === fileOf(log));
        expectExplained(lines, findings);
      }),
      { numRuns: 300 },
    );
  });
});

function apply(lines: readonly string[], { kind, at, to }: { kind: string; at: number; to: number }): string[] {
  if (lines.length === 0) return ['{}'];
  const from = at % lines.length;
  const target = to % lines.length;
  const line = lines[from]!;
  switch (kind) {
    case 'edit':
      return lines.with(from, edited(line));
    case 'drop':
      return lines.toSpliced(from, 1);
    case 'add':
      return lines.toSpliced(from, 0, `{"seq":${to}}`);
    case 'copy':
      return lines.toSpliced(target, 0, line);
    case 'move':
      return lines.toSpliced(from, 1).toSpliced(target, 0, line);
    default:
      return lines.with(from, lines[target]!).with(target, line);
  }
}

/** Every line of the file and every entry of the log is either in place or in exactly one finding. */
function expectExplained(lines: readonly string[], findings: readonly Finding[]): void {
  const accusedLines = findings.flatMap((finding) => ('lines' in finding ? numbers(finding.lines) : []));
  const accusedEntries = findings.flatMap((finding) => ('entries' in finding ? numbers(finding.entries) : []));
  expect(new Set(accusedLines).size).toBe(accusedLines.length);
  expect(new Set(accusedEntries).size).toBe(accusedEntries.length);
  const calm = lines.filter((_, i) => !accusedLines.includes(i + 1));
  expect(calm).toEqual(log.filter((_, i) => !accusedEntries.includes(i)));
}

function numbers([first, last]: readonly [number, number]): number[] {
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}

describe('a tree that is not to be believed names no line', () => {
  const other = Buffer.alloc(32, 7);
  test.each([
    ['another root', treeOf(log, { root: other })],
    ['an edited hash', treeOf(log, { leaves: log.map(leafOf).with(3, other) })],
    ['a dropped hash', treeOf(log, { leaves: log.map(leafOf).slice(1) })],
    ['a dropped hash and its size', treeOf(log, { leaves: log.map(leafOf).slice(1), size: 39 })],
    ['two hashes swapped', treeOf(log, { leaves: [...log.map(leafOf).slice(1), leafOf(log[0]!)] })],
    ['another size', treeOf(log, { size: 41 })],
    ['a huge size', treeOf(log, { size: 9_007_199_254_740_991 })],
    ['no tree at all', 'hello\n'],
    ['nothing', ''],
    ['another version', treeOf(log).replace('v1', 'v2')],
    ['a line that is no hash', treeOf(log).replace(/.{44}\n$/, 'x\n')],
    ['an unpadded hash', treeOf(log).replace(/=\n$/, '\n')],
    ['a second spelling of the last hash', treeOf(log).replace(/.=\n$/, '-=\n')],
    ['no empty line', treeOf(log).replace('\n\n', '\n')],
  ])('%s', async (_what, tree) => {
    const report = await verifyExport([Buffer.from(fileOf(log.with(2, '{}')))], [Buffer.from(tree)]);
    expect(report).toMatchObject({ ok: false, findings: [] });
    expect(report.treeProblem).toMatch(/^it/);
  });
});

describe('without a tree only the numbering is checked, and the report says so', () => {
  const numbering = (lines: readonly string[]) => verifyExport([Buffer.from(fileOf(lines))]);

  test('a part of a log has numbers that follow each other', async () => {
    expect(await numbering(log.slice(10, 20))).toEqual({ ok: true, checked: 'numbering', lines: 10, findings: [] });
  });

  test('an edited line is not noticed', async () => {
    expect((await numbering(log.with(7, edited(log[7]!)))).ok).toBe(true);
  });

  test('a gap, a line out of order and a line that is none are named', async () => {
    expect((await numbering(log.toSpliced(7, 1))).findings).toEqual([
      { kind: 'misnumbered', line: 8, expected: 7, found: 8 },
    ]);
    expect((await numbering(log.with(7, 'x'))).findings).toEqual([
      { kind: 'misnumbered', line: 8, expected: 7, found: undefined },
    ]);
    expect((await numbering(log.with(7, log[3]!))).findings.map(({ kind }) => kind)).toEqual([
      'misnumbered',
      'misnumbered',
    ]);
  });
});
