/**
 * `bulla audit export` and `verify`.
 *
 * An export is written beside its name and renamed when it is whole, so a file of that name was never cut short. The
 * whole log comes with FILE.tree, the hashes that prove it. Verifying needs no server and no configuration.
 */
import { createReadStream, existsSync, rmSync } from 'node:fs';
import { type Command, Option } from 'commander';
import { type AuditFilter, type Finding, type VerifyReport, verifyExport } from '../client/index.ts';
import { VaultError } from '../errors.ts';
import { wholeNumber } from './argument.ts';
import type { Cli } from './cli.ts';
import { EXIT } from './exit.ts';
import { type Io, print } from './io.ts';
import { clean, printDone, printJson } from './print.ts';
import { createPrivateFile } from './private-file.ts';

type ExportOptions = {
  readonly format: 'ndjson' | 'csv';
  readonly from?: string;
  readonly to?: string;
  readonly fromIndex?: number;
  readonly toIndex?: number;
  readonly actor?: string;
  readonly action?: string;
  readonly resource?: string;
  readonly outcome?: 'ok' | 'denied' | 'error';
  readonly request?: string;
  readonly limit?: number;
};

export function addAuditCommands(root: Command, cli: Cli): void {
  const audit = root.command('audit').description('the access log, and the proof that it is whole');
  audit
    .command('export')
    .description('write the log, or a part of it, to a file')
    .argument('<file>')
    .addOption(new Option('--format <format>', 'of the file').choices(['ndjson', 'csv']).default('ndjson'))
    .option('--from <time>', 'from this time on (RFC 3339)')
    .option('--to <time>', 'before this time')
    .option('--from-index <number>', 'from this entry on', wholeNumber)
    .option('--to-index <number>', 'before this entry', wholeNumber)
    .option('--actor <name>', 'by this actor')
    .option('--action <action>', 'such as secret.read')
    .option('--resource <glob>', 'such as "secret:prod/**"')
    .addOption(new Option('--outcome <outcome>', 'with this outcome').choices(['ok', 'denied', 'error']))
    .option('--request <id>', 'of this request')
    .option('--limit <number>', 'at most so many', wholeNumber)
    .addHelpText('after', '\nThe whole log as NDJSON comes with FILE.tree, the hashes that `bulla audit verify` needs.')
    .action((file: string, options: ExportOptions) => exportLog(cli, file, options));
  audit
    .command('verify')
    .description('prove that an exported log is whole and unchanged; needs no server')
    .argument('<file>')
    .option('--tree <file>', 'the hashes (FILE.tree)')
    .addHelpText('after', '\nExit code 0: nothing is wrong. 1: something is, and it is named.')
    .action((file: string, { tree }: { tree?: string }) => verify(cli, file, tree));
}

async function exportLog(
  cli: Cli,
  file: string,
  { format, fromIndex, toIndex, ...filters }: ExportOptions,
): Promise<void> {
  const { audit } = cli.client();
  const filter: AuditFilter = {
    ...filters,
    ...(fromIndex === undefined ? {} : { from_index: fromIndex }),
    ...(toIndex === undefined ? {} : { to_index: toIndex }),
  };
  const provable = format === 'ndjson' && Object.keys(filter).length === 0;
  const saved = await save(cli.io, file, await audit.entries(filter, { format }), 'entries');
  // The tree of an earlier export under this name would only accuse this one.
  if (provable) await save(cli.io, `${file}.tree`, await audit.tree({ size: saved }), 'hashes');
  else rmSync(`${file}.tree`, { force: true });
  const count = format === 'csv' ? Math.max(0, saved - 1) : saved;
  await printDone(
    cli.io,
    cli.json(),
    provable
      ? `Wrote ${count} entries to ${file}, and what proves them to ${file}.tree. Check with: bulla audit verify ${file}`
      : `Wrote ${count} entries to ${file}. Only an export of the whole log as NDJSON can be proved line by line.`,
    { file, entries: count, tree: provable ? `${file}.tree` : null },
  );
}

/** Returns the number of lines, once the file is durable under its name. */
async function save(io: Io, path: string, pieces: AsyncIterable<Buffer>, what: string): Promise<number> {
  const file = createPrivateFile(path);
  const progress = createProgress(io, what);
  let lines = 0;
  try {
    for await (const piece of pieces) {
      file.write(piece);
      for (let at = piece.indexOf(0x0a); at >= 0; at = piece.indexOf(0x0a, at + 1)) lines += 1;
      progress.show(lines);
    }
    file.keep();
    return lines;
  } finally {
    progress.end();
    file.drop();
  }
}

const PROGRESS_EVERY_MS = 100;

function createProgress({ stderr }: Io, what: string) {
  let shownAt = 0;
  return {
    show: (count: number) => {
      if (!stderr.isTTY || Date.now() - shownAt < PROGRESS_EVERY_MS) return;
      shownAt = Date.now();
      stderr.write(`\r${count.toLocaleString('en')} ${what}`);
    },
    end: () => {
      if (shownAt > 0) stderr.write('\r\u001b[K');
    },
  };
}

async function verify(cli: Cli, file: string, treeOption: string | undefined): Promise<void> {
  const treeFile = treeOption ?? `${file}.tree`;
  const hasTree = treeOption !== undefined || existsSync(treeFile);
  const report = await verifyExport(pieces(file), hasTree ? pieces(treeFile) : undefined);
  if (cli.json()) await printJson(cli.io, report);
  else for (const line of reportLines(report, treeFile)) await print(cli.io.stdout, `${clean(line)}\n`);
  cli.setExitCode(report.ok ? EXIT.done : EXIT.failed);
}

const PIECE_BYTES = 1024 * 1024;

async function* pieces(file: string): AsyncGenerator<Uint8Array, void, undefined> {
  try {
    yield* createReadStream(file, { highWaterMark: PIECE_BYTES });
  } catch (error) {
    throw new VaultError('invalid_request', `${file} cannot be read (${(error as NodeJS.ErrnoException).code}).`);
  }
}

function* reportLines(report: VerifyReport, treeFile: string): Generator<string, void, undefined> {
  const { checked, lines: count, origin, size, root, treeProblem, findings } = report;
  if (treeProblem !== undefined) {
    yield `${treeFile} is not to be believed: ${treeProblem}. No line was checked against it.`;
    return;
  }
  for (const finding of findings) yield sentenceOf(finding);
  if (checked === 'numbering') {
    yield findings.length === 0
      ? `${count} lines, numbered without a gap.`
      : `${count} lines, not numbered without a gap.`;
    yield 'Only the numbering was checked, because there is no FILE.tree: the lines themselves may have been changed.';
    return;
  }
  yield findings.length === 0
    ? `Whole and unchanged: ${count} entries of the log ${origin}.`
    : `Not the log ${origin} of ${size} entries that its hashes say.`;
  yield `Root ${root} at size ${size}: compare it with one that you trust.`;
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
