/**
 * `bulla import …`: secrets from elsewhere, one new version each.
 *
 * An import can be run again at any time, and goes on where it was interrupted: what is there with the same value is
 * left alone, what is there with another one is reported and not touched unless --overwrite says so, and every write names
 * the version that it replaces, so nothing that somebody else wrote meanwhile is lost. Nothing is kept between runs. What
 * cannot be imported is reported by its path and a reason, never by its value.
 */
import { parseEnv } from 'node:util';
import type { Command } from 'commander';
import { type Bulla, BullaError, type Secret, type SecretInput } from '../client/index.ts';
import { VaultError } from '../errors.ts';
import type { Cli } from './cli.ts';
import { EXIT } from './exit.ts';
import { importAll } from './import-all.ts';
import { awsSource } from './import-aws.ts';
import { type Incoming, type Source, under } from './import-source.ts';
import { asText, print, readInput } from './io.ts';
import { membersOf, sourceOf, tokensOf } from './json-source.ts';
import { printJson, printList } from './print.ts';

export type ImportOptions = { readonly overwrite?: true; readonly dryRun?: true };

export function addImportCommands(root: Command, cli: Cli): void {
  const group = root
    .command('import')
    .description('bring secrets from elsewhere; run again, it goes on where it ended');
  withOptions(group.command('env').description('the variables of an .env file, as one secret'))
    .argument('[file]', 'standard input when absent or -')
    .requiredOption('--to <path>', 'the secret; with --each, what the variables are put under')
    .option('--each', 'a secret for each variable, named like it')
    .action(async (file: string | undefined, options: ImportOptions & { to: string; each?: true }) =>
      runImport(cli, envSource(asText(await readInput(cli.io, file)), options), options),
    );
  withOptions(group.command('json').description('a JSON object: its keys are paths, its values objects or texts'))
    .argument('[file]', 'standard input when absent or -')
    .option('--to <prefix>', 'put every path under this one', '')
    .action(async (file: string | undefined, options: ImportOptions & { to: string }) =>
      runImport(cli, jsonSource(asText(await readInput(cli.io, file)), options.to), options),
    );
  withOptions(group.command('aws').description('the current versions of secrets in AWS Secrets Manager'))
    .option('--prefix <prefix>', 'only secrets whose name begins with it')
    .option('--to <prefix>', 'put every secret under this path', '')
    .option('--region <region>', 'of AWS; else as its own tools take it')
    .option('--endpoint <url>', 'in place of the one of AWS')
    .addHelpText('after', '\nCredentials are taken from where the tools of AWS take them.')
    .action(async (options: ImportOptions & { to: string; prefix?: string; region?: string; endpoint?: string }) =>
      runImport(cli, await awsSource(options), options),
    );
}

function withOptions(command: Command): Command {
  return command
    .option('--overwrite', 'write a new version where another value is there')
    .option('--dry-run', 'say what would be done, and write nothing');
}

// ---- sources ------------------------------------------------------------------------------------------------------

function envSource(text: string, { to, each }: { to: string; each?: true }): Source {
  const variables = Object.entries(parseEnv(text) as Record<string, string>);
  if (variables.length === 0) throw new VaultError('invalid_request', 'The input has no variables.');
  if (!each) return { total: 1, items: [{ path: to, data: JSON.stringify(Object.fromEntries(variables)) }] };
  return { total: variables.length, items: variables.map(([name, value]) => ({ path: under(to, name), text: value })) };
}

function jsonSource(text: string, to: string): Source {
  const members = [...membersOf(checkedObject(text))];
  const items = members.map(([key, value]): Incoming => {
    const path = under(to, key);
    if (value.startsWith('{')) return { path, data: value };
    if (value.startsWith('"')) return { path, text: JSON.parse(value) as string };
    return { path, refused: 'a value that is neither an object nor a text' };
  });
  return { total: items.length, items };
}

function checkedObject(text: string): string {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return text;
  } catch {
    // The parser's own error quotes the text.
  }
  throw new VaultError('invalid_request', 'The input is to be a JSON object such as {"prod/db": {"password": "…"}}.');
}

// ---- importing ----------------------------------------------------------------------------------------------------

type Outcome = 'created' | 'updated' | 'same' | 'differs' | 'failed';
export type Imported = { readonly path: string; readonly outcome: Outcome; readonly reason?: string };

/** Ends with exit code 1 when anything differs or failed. */
async function runImport(cli: Cli, source: Source, options: ImportOptions): Promise<void> {
  const client = cli.client();
  const done = await importAll(cli, { what: 'secrets', ...source }, (item) => importOne(client, item, options));
  await report(cli, done, options);
}

/** What is wrong with one secret; anything else ends the import, which can be run again. */
const OF_THE_ITEM: ReadonlySet<string> = new Set([
  ...['invalid_path', 'invalid_request', 'invalid_json', 'too_large', 'forbidden', 'version_mismatch', 'conflict'],
]);

async function importOne(client: Bulla, item: Incoming, options: ImportOptions): Promise<Imported> {
  const { path } = item;
  if ('refused' in item) return { path, outcome: 'failed', reason: item.refused };
  for (let attempt = 1; ; attempt += 1) {
    try {
      const there = await find(client, path);
      if (there && isSame(there, item)) return { path, outcome: 'same' };
      if (there && !options.overwrite) return { path, outcome: 'differs', reason: `version ${there.version} is there` };
      if (!options.dryRun) await client.secrets.put(path, inputOf(item, there?.version ?? 0));
      return { path, outcome: there ? 'updated' : 'created' };
    } catch (error) {
      if (!(error instanceof BullaError) || !OF_THE_ITEM.has(error.code)) throw error;
      // Somebody wrote it between the look and the write: another look says what is there now.
      if (error.code === 'version_mismatch' && attempt === 1) continue;
      return { path, outcome: 'failed', reason: error.code };
    }
  }
}

type There = { readonly version: number; readonly secret: Secret; readonly data: string | undefined };

/** The current version, with its data as it is stored. One that was deleted is none, and its number goes on. */
async function find(client: Bulla, path: string): Promise<There | undefined> {
  try {
    const text = await client.secrets.getText(path);
    const secret = JSON.parse(text) as Secret;
    return { version: secret.version, secret, data: sourceOf(text, ['data']) };
  } catch (error) {
    if (error instanceof BullaError && error.code === 'not_found') return undefined;
    throw error;
  }
}

/** JSON is the same token by token: blanks do not count, the digits of a number and the order of keys do. */
function isSame({ secret, data }: There, item: Incoming): boolean {
  if ('data' in item) return data !== undefined && tokensOf(data) === tokensOf(item.data);
  if ('text' in item) return secret.text === item.text;
  const stored = secret.bytes as unknown as string | undefined;
  return 'bytes' in item && stored === Buffer.from(item.bytes).toString('base64');
}

function inputOf(item: Incoming, cas: number): SecretInput {
  const rest = { cas, ...(item.metadata === undefined ? {} : { metadata: item.metadata }) };
  if ('data' in item) return { data: item.data, ...rest };
  if ('text' in item) return { text: item.text, ...rest };
  return { bytes: 'bytes' in item ? item.bytes : new Uint8Array(0), ...rest };
}

const OUTCOMES: readonly Outcome[] = ['created', 'updated', 'same', 'differs', 'failed'];

async function report(cli: Cli, done: readonly Imported[], { dryRun }: ImportOptions): Promise<void> {
  const counts = Object.fromEntries(OUTCOMES.map((name) => [name, done.filter((one) => one.outcome === name).length]));
  const open = done.filter(({ outcome }) => outcome === 'differs' || outcome === 'failed');
  open.sort((a, b) => (a.path < b.path ? -1 : 1));
  if (open.length > 0) cli.setExitCode(EXIT.failed);
  if (cli.json()) return printJson(cli.io, { ...counts, dry_run: dryRun ?? false, differences: open });
  if (open.length > 0) {
    await printList(cli.io, false, open, [
      ['path', ({ path }) => path],
      ['outcome', ({ outcome }) => outcome],
      ['reason', ({ reason }) => reason],
    ]);
  }
  const said = OUTCOMES.filter((name) => counts[name]! > 0).map((name) => `${counts[name]} ${name}`);
  await print(cli.io.stdout, `${dryRun ? 'Would be: ' : ''}${said.join(', ')}.\n`);
}
