/** `bulla secret …`: reading and listing, versions and metadata. Writing has a file of its own, secret-put.ts. */
import type { Command } from 'commander';
import type { Metadata, Secret } from '../client/index.ts';
import { VaultError } from '../errors.ts';
import { writePrivateFile } from '../private-file.ts';
import { collect, pair, versionList, wholeNumber } from './argument.ts';
import type { Cli } from './cli.ts';
import { confirm } from './confirm.ts';
import { type Io, print } from './io.ts';
import { sourceOf } from './json-source.ts';
import { printDone, printFields, printList, time } from './print.ts';
import { addPatchCommand, addPutCommand } from './secret-put.ts';

export function addSecretCommands(root: Command, cli: Cli): void {
  const secret = root.command('secret').description('store, read and manage secrets');
  addGetCommand(secret, cli);
  addPutCommand(secret, cli);
  addPatchCommand(secret, cli);
  addListCommand(secret, cli);
  addVersionCommands(secret, cli);
  addMetadataCommand(secret, cli);
  secret
    .command('move')
    .description('give a secret another path, with all its versions')
    .argument('<from>')
    .argument('<to>')
    .action(async (from: string, to: string) => {
      const moved = await cli.client().secrets.move(from, to);
      await printDone(cli.io, cli.json(), `${from} is now ${moved.path}, version ${moved.version}.`, moved);
    });
}

type GetOptions = { readonly key?: string; readonly version?: number; readonly out?: string };

function addGetCommand(secret: Command, cli: Cli): void {
  secret
    .command('get')
    .description('print the value of a secret to standard output, and nothing else')
    .argument('<path>')
    .option('-k, --key <key>', 'of a JSON object only the value of this key; a string without its quotes')
    .option('--version <number>', 'another version than the current one', wholeNumber)
    .option('-o, --out <file>', 'write to this file, which only you can read, in place of standard output')
    .addHelpText(
      'after',
      `
A text and bytes come out exactly as they went in, a JSON object as its text. --json prints all of the answer: version,
times, metadata, and bytes in base64.

  bulla secret get prod/web/database --key password
  bulla secret get prod/web/tls --key cert --out cert.pem
  bulla secret get prod/web/database --json | jq .version`,
    )
    .action(async (path: string, { key, version, out }: GetOptions) => {
      const text = await cli.client().secrets.getText(path, version === undefined ? {} : { version });
      const value = cli.json() ? Buffer.from(`${text.trimEnd()}\n`) : valueBytes(text, key);
      if (out !== undefined) writePrivateFile(out, value);
      else await printValue(cli.io, value);
    });
}

/** The value's own bytes. */
function valueBytes(answer: string, key: string | undefined): Buffer {
  const secret = JSON.parse(answer) as Omit<Secret, 'bytes'> & { bytes?: string };
  if (key === undefined) {
    if (secret.kind === 'data') return Buffer.from(sourceOf(answer, ['data']) ?? '');
    return secret.kind === 'text' ? Buffer.from(secret.text ?? '') : Buffer.from(secret.bytes ?? '', 'base64');
  }
  if (secret.kind !== 'data')
    throw new VaultError('invalid_request', `The secret is ${secret.kind} and has no keys; leave --key out.`);
  const source = sourceOf(answer, ['data', key]);
  if (source === undefined) throw new VaultError('not_found', `The secret has no key ${JSON.stringify(key)}.`);
  if (source === 'null') return Buffer.alloc(0);
  return Buffer.from(source.startsWith('"') ? (JSON.parse(source) as string) : source);
}

/** A terminal gets a line feed after the value and no bytes that would steer it. */
async function printValue({ stdout }: Io, value: Buffer): Promise<void> {
  if (!stdout.isTTY) return print(stdout, value);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
  if (/[\x00-\x08\x0e-\x1f\x7f-\x9f\ufffd]/.test(value.toString('utf8'))) {
    throw new VaultError(
      'invalid_request',
      'The value is not text that a terminal can show: use --out FILE, or a pipe.',
    );
  }
  await print(stdout, value.at(-1) === 0x0a ? value : Buffer.concat([value, Buffer.from('\n')]));
}

function addListCommand(secret: Command, cli: Cli): void {
  secret
    .command('list')
    .description('list paths, never values; by default one level, with folders ending in a slash')
    .argument('[prefix]')
    .option('-r, --recursive', 'all levels')
    .action(async (prefix: string | undefined, { recursive }: { recursive?: true }) => {
      const secrets = cli.client().secrets.list({
        ...(prefix === undefined ? {} : { prefix: prefix.replace(/\/$/, '') }),
        ...(recursive ? { recursive } : {}),
      });
      await printList(cli.io, cli.json(), secrets, [
        ['path', ({ path }) => path],
        ['version', (item) => (item.folder ? '' : item.version)],
        ['updated', (item) => (item.folder ? '' : time(item.updated_at))],
      ]);
    });
}

type VersionsOptions = { readonly versions?: readonly number[]; readonly all?: true; readonly yes?: true };

function addVersionCommands(secret: Command, cli: Cli): void {
  secret
    .command('history')
    .description('list the versions of a secret')
    .argument('<path>')
    .action(async (path: string) => {
      const history = await cli.client().secrets.versions(path);
      await printList(cli.io, cli.json(), history.items, [
        ['version', ({ version }) => (version === history.current_version ? `${version} (current)` : version)],
        ['state', ({ state }) => state],
        ['kind', ({ kind }) => kind],
        ['created', ({ created_at }) => time(created_at)],
        ['by', ({ created_by }) => created_by],
        ['expires', ({ expires_at }) => time(expires_at)],
      ]);
    });
  secret
    .command('delete')
    .description('delete versions, by default the current one, so that they can be undeleted')
    .argument('<path>')
    .option('--versions <list>', 'such as 1,2', versionList)
    .action(async (path: string, { versions }: VersionsOptions) => {
      await cli.client().secrets.delete(path, versions === undefined ? {} : { versions });
      await printDone(
        cli.io,
        cli.json(),
        `Deleted ${versions === undefined ? 'the current version' : named(versions)} of ${path}.`,
      );
    });
  secret
    .command('undelete')
    .description('bring deleted versions back')
    .argument('<path>')
    .requiredOption('--versions <list>', 'such as 1,2', versionList)
    .action(async (path: string, { versions = [] }: VersionsOptions) => {
      await cli.client().secrets.undelete(path, versions);
      await printDone(cli.io, cli.json(), `Brought ${named(versions)} of ${path} back.`);
    });
  secret
    .command('destroy')
    .description('destroy the ciphertext of versions for good')
    .argument('<path>')
    .option('--versions <list>', 'such as 1,2', versionList)
    .option('--all', 'the whole secret, with its metadata')
    .option('--yes', 'do not ask')
    .action((path: string, options: VersionsOptions) => destroy(cli, path, options));
}

async function destroy(cli: Cli, path: string, { versions, all, yes }: VersionsOptions): Promise<void> {
  if ((versions === undefined) === (all === undefined)) {
    throw new VaultError('invalid_request', 'Say what to destroy: --versions LIST, or --all.');
  }
  const what = versions === undefined ? 'all versions' : named(versions);
  if (!yes) await confirm(cli.io, `Destroy ${what} of ${path} for good?`, path);
  const { secrets } = cli.client();
  await (versions === undefined ? secrets.remove(path) : secrets.destroy(path, versions));
  await printDone(cli.io, cli.json(), `Destroyed ${what} of ${path}.`);
}

type MetadataOptions = {
  readonly set?: Record<string, string>;
  readonly unset?: string[];
  readonly versionsKept?: number;
  readonly casRequired?: boolean;
  readonly deleteAfter?: string;
};

function addMetadataCommand(secret: Command, cli: Cli): void {
  secret
    .command('metadata')
    .description('show or change the metadata and settings of a secret')
    .argument('<path>')
    .option('--set <key=value>', 'set a key; repeatable. Metadata is no place for secrets', pair)
    .option('--unset <key>', 'remove a key; repeatable', collect)
    .option('--versions-kept <number>', 'how many versions to keep', wholeNumber)
    .option('--cas-required', 'a write has to say which version it replaces')
    .option('--no-cas-required', 'a write may say nothing of versions')
    .option('--delete-after <duration>', 'how long after its writing a version is deleted; 0: never')
    .action(async (path: string, options: MetadataOptions) => {
      const { set, unset = [], versionsKept, casRequired, deleteAfter } = options;
      const { secrets } = cli.client();
      const metadata = { ...Object.fromEntries(unset.map((key) => [key, null])), ...set };
      const patch = {
        ...(set === undefined && unset.length === 0 ? {} : { metadata }),
        ...(versionsKept === undefined ? {} : { versions_kept: versionsKept }),
        ...(casRequired === undefined ? {} : { cas_required: casRequired }),
        ...(deleteAfter === undefined ? {} : { delete_after: deleteAfter === '0' ? null : deleteAfter }),
      };
      const changes = Object.keys(patch).length > 0;
      await printMetadata(cli, changes ? await secrets.patchMetadata(path, patch) : await secrets.metadata(path));
    });
}

function printMetadata(cli: Cli, metadata: Metadata): Promise<void> {
  return printFields(cli.io, cli.json(), metadata, [
    ['path', ({ path }) => path],
    ['current version', ({ current_version }) => current_version],
    ['versions kept', ({ versions_kept }) => versions_kept],
    ['cas required', ({ cas_required }) => (cas_required ? 'yes' : 'no')],
    ['delete after', ({ delete_after }) => (delete_after ? `${delete_after} s` : 'never')],
    ['created', ({ created_at }) => time(created_at)],
    ['updated', ({ updated_at }) => time(updated_at)],
    ...Object.entries(metadata.metadata).map(([key, value]) => [`metadata ${key}`, () => value] as const),
  ]);
}

function named(versions: readonly number[]): string {
  return `version${versions.length === 1 ? '' : 's'} ${versions.join(', ')}`;
}
