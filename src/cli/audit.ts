/**
 * `bulla audit …`: the log out to a file, live on the screen, and the proof that it is whole.
 *
 * An export is written beside its name and renamed when it is whole, so a file of that name was never cut short. The
 * whole log comes with FILE.tree and FILE.checkpoint, which prove it.
 */
import { rmSync } from 'node:fs';
import { type Command, Option } from 'commander';
import { countLines, numberIn } from '../client/entries.ts';
import { type Audit, type AuditFilter, BullaError } from '../client/index.ts';
import { createPrivateFile } from '../private-file.ts';
import { wholeNumber } from './argument.ts';
import { addFollowCommands } from './audit-follow.ts';
import { addQuestionCommands } from './audit-question.ts';
import { addVerifyCommand } from './audit-verify.ts';
import type { Cli } from './cli.ts';
import { type Io, readFile } from './io.ts';
import { printDone } from './print.ts';
import { createProgress } from './progress.ts';

type ExportOptions = {
  readonly format: 'ndjson' | 'csv' | 'ocsf';
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
  readonly proof?: true;
  readonly checkpoint?: string;
  readonly log?: string;
};

export function addAuditCommands(root: Command, cli: Cli): void {
  const audit = root.command('audit').description('the access log, and the proof that it is whole');
  audit
    .command('export')
    .description('write the log, or a part of it, to a file')
    .argument('<file>')
    .addOption(new Option('--format <format>', 'of the file').choices(['ndjson', 'csv', 'ocsf']).default('ndjson'))
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
    .option('--proof', 'write the hashes that prove each entry into the file')
    .option('--checkpoint <file>', 'with --proof: an older checkpoint that the export is to connect to')
    .option('--log <tenant id>', 'of a tenant that was deleted, with its proof (operators)')
    .addHelpText('after', AFTER_HELP)
    .action((file: string, options: ExportOptions) => exportLog(cli, file, options));
  addVerifyCommand(audit, cli);
  addFollowCommands(audit, cli);
  addQuestionCommands(audit, cli);
}

const AFTER_HELP = `
The log is signed first. The whole log as NDJSON comes with FILE.tree and FILE.checkpoint, the hashes and the signed
note that \`bulla audit verify\` checks it against. A part of it can be proved when it was exported with --proof. A
connection that breaks is made again, and the export goes on where it was; one that ended for good leaves nothing. One
in parts goes on with --from-index, the number after the last entry.`;

async function exportLog(cli: Cli, file: string, options: ExportOptions): Promise<void> {
  const { format, fromIndex, toIndex, checkpoint: older, ...given } = options;
  const { proof: wanted, ...filters } = given;
  const { audit } = cli.client();
  const { log } = filters;
  const note = format === 'ndjson' ? await signedNote(audit, log) : undefined;
  const filter: AuditFilter = {
    ...filters,
    ...(fromIndex === undefined ? {} : { from_index: fromIndex }),
    ...(toIndex === undefined ? {} : { to_index: toIndex }),
  };
  const all = format === 'ndjson' && !wanted && Object.keys(filter).length === 0;
  // What is left of a log that was shortened is a part of it, and is proved as such.
  const shortened = all && note !== undefined && (await audit.retention()).removed_to > 0;
  const proof = wanted === true || shortened || (log !== undefined && format === 'ndjson');
  const whole = all && !shortened;
  const size = whole && note !== undefined ? sizeOf(note) : undefined;
  const asked = size === undefined ? filter : { to_index: size };
  const proving = proof ? { proof, ...(older === undefined ? {} : { extending: sizeOf(readText(older)) }) } : {};
  const end = toIndex ?? (note === undefined ? undefined : sizeOf(note));
  const place = { what: 'entries', from: fromIndex ?? 0, to: filters.limit === undefined ? end : undefined };
  const saved = await save(cli.io, file, await audit.entries(asked, { format, ...proving }), place);
  // What proves an earlier export under this name would only accuse this one.
  for (const suffix of ['.tree', '.checkpoint']) if (!whole) rmSync(file + suffix, { force: true });
  if (whole) await save(cli.io, `${file}.tree`, await audit.tree({ size: size ?? saved }), HASHES);
  if (whole && note !== undefined) await save(cli.io, `${file}.checkpoint`, asPieces(note), NOTES);
  const count = format === 'csv' ? Math.max(0, saved - 1) : saved;
  const provable = whole || proof;
  await printDone(cli.io, cli.json(), sentenceOf(file, count, whole, proof), {
    ...{ file, entries: count, tree: whole ? `${file}.tree` : null },
    ...{ checkpoint: whole && note !== undefined ? `${file}.checkpoint` : null, provable },
  });
}

function sentenceOf(file: string, count: number, whole: boolean, proof: boolean): string {
  const check = `Check with: bulla audit verify ${file}`;
  if (whole) return `Wrote ${count} entries to ${file}, and what proves them to ${file}.tree. ${check}`;
  if (proof) return `Wrote ${count} lines of entries and proofs to ${file}. ${check}`;
  return `Wrote ${count} entries to ${file}. A part of the log can be proved only when it is exported with --proof.`;
}

/**
 * A fresh checkpoint; of a log that grows no more, or without the right to have one signed, the newest; undefined where
 * there is none.
 */
async function signedNote(audit: Audit, log: string | undefined): Promise<string | undefined> {
  try {
    if (log === undefined) return await audit.sign();
  } catch (error) {
    if (!(error instanceof BullaError && error.code === 'forbidden')) throw error;
  }
  try {
    return await audit.checkpoint({ log });
  } catch (error) {
    if (error instanceof BullaError && error.code === 'not_found') return undefined;
    throw error;
  }
}

const sizeOf = (note: string) => Number(note.split('\n', 2)[1]);
const readText = (file: string) => readFile(file).toString('utf8');

async function* asPieces(text: string): AsyncGenerator<Buffer, void, undefined> {
  yield Buffer.from(text);
}

/** Where in the log the pieces of a file begin and end, where that is known: for the bar. */
type Place = { readonly what: string; readonly from: number; readonly to: number | undefined };

const HASHES: Place = { what: 'hashes', from: 0, to: undefined };
const NOTES: Place = { what: 'notes', from: 0, to: undefined };

/** Returns the number of lines, once the file is durable under its name. */
async function save(io: Io, path: string, pieces: AsyncIterable<Buffer>, { what, from, to }: Place): Promise<number> {
  const file = createPrivateFile(path);
  const progress = createProgress(io, what, to === undefined ? undefined : Math.max(0, to - from));
  let lines = 0;
  let done = 0;
  try {
    for await (const piece of pieces) {
      file.write(piece);
      lines += countLines(piece);
      done = Math.max(done, numberIn(piece) + 1 - from);
      progress.show(done, lines);
    }
    file.keep();
    return lines;
  } finally {
    progress.end();
    file.drop();
  }
}
