/** `bulla audit verify`: an exported log against what was signed. It needs no server and no configuration. */
import { createReadStream, existsSync, readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { type Finding, type LogReport, verifyLog } from '../client/index.ts';
import { VaultError } from '../errors.ts';
import type { Cli } from './cli.ts';
import { EXIT } from './exit.ts';
import { print, readFile } from './io.ts';
import { clean, printJson } from './print.ts';

type VerifyOptions = { readonly tree?: string; readonly key?: readonly string[]; readonly checkpoint?: string };

export function addVerifyCommand(audit: Command, cli: Cli): void {
  audit
    .command('verify')
    .description('prove that an exported log is whole and unchanged; needs no server')
    .argument('<file>')
    .option('--tree <file>', 'the hashes (FILE.tree)')
    .option('--key <key...>', 'the verifier key that you trust, or a file that holds it')
    .option('--checkpoint <file>', 'an older checkpoint that the log must extend')
    .addHelpText('after', '\nExit code 0: nothing is wrong. 1: something is, and it is named.')
    .action((file: string, options: VerifyOptions) => verify(cli, file, options));
}

async function verify(cli: Cli, file: string, { tree, key, checkpoint }: VerifyOptions): Promise<void> {
  const treeFile = tree ?? `${file}.tree`;
  const hasTree = tree !== undefined || existsSync(treeFile);
  const note = existsSync(`${file}.checkpoint`) ? readFileSync(`${file}.checkpoint`, 'utf8') : undefined;
  const report = await verifyLog(() => pieces(file), {
    tree: hasTree ? () => pieces(treeFile) : undefined,
    checkpoint: note,
    keys: key?.flatMap(keysOf),
    older: checkpoint === undefined ? undefined : readFile(checkpoint).toString('utf8'),
  });
  if (cli.json()) await printJson(cli.io, report);
  else
    for (const line of reportLines(report, treeFile, key !== undefined)) await print(cli.io.stdout, `${clean(line)}\n`);
  cli.setExitCode(report.ok ? EXIT.done : EXIT.failed);
}

/** A key, or those that a file holds, a line each. */
function keysOf(given: string): string[] {
  const text = existsSync(given) ? readFile(given).toString('utf8') : given;
  return text.split('\n').filter((line) => line.trim() !== '');
}

const PIECE_BYTES = 1024 * 1024;

async function* pieces(file: string): AsyncGenerator<Uint8Array, void, undefined> {
  try {
    yield* createReadStream(file, { highWaterMark: PIECE_BYTES });
  } catch (error) {
    throw new VaultError('invalid_request', `${file} cannot be read (${(error as NodeJS.ErrnoException).code}).`);
  }
}

function* reportLines(report: LogReport, treeFile: string, hasKey: boolean): Generator<string, void, undefined> {
  const { checked, lines: count, size, root, treeProblem, findings, problems, signedBy } = report;
  for (const finding of findings) yield sentenceOf(finding);
  yield* problems;
  if (treeProblem !== undefined) {
    yield `${treeFile} is not to be believed: ${treeProblem}. No line was checked against it.`;
    return;
  }
  if (checked === 'numbering') {
    yield findings.length === 0
      ? `${count} lines, numbered without a gap.`
      : `${count} lines, not numbered without a gap.`;
    yield 'Only the numbering was checked, because there is no FILE.tree: the lines themselves may have been changed.';
    return;
  }
  yield summaryOf(report);
  if (report.extends !== undefined) yield `It extends the older checkpoint of ${report.extends} entries.`;
  if (root === undefined) return;
  if (signedBy.length > 0) yield `Root ${root} at size ${size} is signed by ${signedBy.join(', ')}.`;
  else
    yield `Root ${root} at size ${size}: compare it with one that you trust${hasKey ? '' : ', or give the key with --key'}.`;
}

function summaryOf({ ok, checked, lines: count, origin, size }: LogReport): string {
  if (!ok)
    return `Not the log ${origin} of ${size} entries that its ${checked === 'tree' ? 'hashes say' : 'checkpoint says'}.`;
  if (checked === 'proof') return `Unchanged: ${count} of the ${size} entries of the log ${origin}.`;
  return `Whole and unchanged: ${count} entries of the log ${origin}.`;
}

function sentenceOf(finding: Finding): string {
  switch (finding.kind) {
    case 'edited':
      return `${lines(finding.lines, 'was', 'were')} edited: not what was logged as ${entries(finding.entries)}.`;
    case 'missing':
      return `${entries(finding.entries, 'is', 'are')} missing.`;
    case 'added':
      return `${lines(finding.lines, 'was', 'were')} added: not of the log, before entry ${finding.beforeEntry}.`;
    case 'moved':
      return `${lines(finding.lines, 'was', 'were')} moved: ${entries(finding.entries)} of the log.`;
    case 'misnumbered':
      return `line ${finding.line} has the number ${finding.found ?? 'of no entry'} where ${finding.expected} is expected.`;
  }
}

type Range = readonly [first: number, last: number];

const lines = (range: Range, one = '', many = '') => counted(range, 'line', 'lines', one, many);
const entries = (range: Range, one = '', many = '') => counted(range, 'entry', 'entries', one, many);

function counted([first, last]: Range, noun: string, nouns: string, one: string, many: string): string {
  return (first === last ? `${noun} ${first} ${one}` : `${nouns} ${first} to ${last} ${many}`).trimEnd();
}
