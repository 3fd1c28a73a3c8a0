/**
 * `bulla import vault`: secrets of a KV 2 mount with all their versions and metadata, and policies, out of a running Vault
 * or OpenBao.
 *
 * Version numbers stay what they are: a version that the source cannot show any more (deleted, destroyed, pruned) takes
 * its number as a destroyed one. Run again, it goes on after the versions that are there, if the last of them is the
 * source's too; what is there with another value is reported and never touched, and every write names the version that
 * it follows. What differs in the end is reported by path and reason, never by value.
 */
import type { Command } from 'commander';
import { type Bulla, BullaError } from '../client/index.ts';
import { parseDurationSeconds } from '../config-duration.ts';
import { VaultError } from '../errors.ts';
import type { Cli } from './cli.ts';
import { EXIT } from './exit.ts';
import { importAll } from './import-all.ts';
import { asText, createAsker, print, readFile } from './io.ts';
import { sourceOf } from './json-source.ts';
import { printJson } from './print.ts';
import { type SourceMetadata, type VaultSource, vaultSource } from './vault-source.ts';

type Options = {
  readonly addr: string;
  readonly authFile?: string;
  readonly namespace?: string;
  readonly mount: string;
  readonly to: string;
  readonly policies: boolean;
  readonly dryRun?: true;
};

type Outcome = 'copied' | 'continued' | 'same' | 'differs' | 'failed';
type Line = {
  readonly kind: 'secret' | 'policy';
  readonly name: string;
  readonly outcome: Outcome;
  readonly notes: readonly string[];
};

export function addImportVaultCommand(root: Command, cli: Cli): void {
  const group =
    root.commands.find((command) => command.name() === 'import') ??
    root.command('import').description('bring secrets from elsewhere');
  group
    .command('vault')
    .description(
      'secrets with all versions, metadata and policies from a running Vault or OpenBao; run again, it goes on',
    )
    .requiredOption('--addr <url>', 'where it runs, such as https://vault.example:8200')
    .option('--auth-file <file>', 'a file with its token; asked for when absent')
    .option('--namespace <name>', 'of the source')
    .option('--mount <path>', 'the KV version 2 mount', 'secret')
    .option('--to <prefix>', 'put every secret under this path', '')
    .option('--no-policies', 'leave the policies out')
    .option('--dry-run', 'say what would be done, and write nothing')
    .action((options: Options) =>
      importVault(cli, { ...options, mount: withoutSlashes(options.mount), to: withoutSlashes(options.to) }),
    );
}

/** A mount is written with a slash at its end as often as without. */
const withoutSlashes = (text: string) => text.replace(/^\/{1,16}/, '').replace(/\/{1,16}$/, '');

async function importVault(cli: Cli, options: Options): Promise<void> {
  const { authFile } = options;
  const asker = authFile === undefined ? createAsker(cli.io) : undefined;
  let token: string;
  try {
    token = (authFile === undefined ? await asker!.secret('Token of the source: ') : asText(readFile(authFile))).trim();
  } finally {
    asker?.close();
  }
  const source = vaultSource({ address: options.addr, token, namespace: options.namespace });
  await source.checkMount(options.mount);
  const client = cli.client();
  const paths: string[] = [];
  for await (const path of source.paths(options.mount)) paths.push(path);
  const policies = options.policies ? await source.policies() : [];
  const items = [
    ...paths.map((path) => () => copySecret(client, source, options, path)),
    ...policies.map((name) => () => copyPolicy(client, source, options, name)),
  ];
  const all = { what: 'secrets and policies', total: items.length, items };
  const lines = await importAll(cli, all, (copy): Promise<Line> => copy());
  await report(cli, lines, options);
}

// ---- secrets ------------------------------------------------------------------------------------------------------

const VERSIONS_KEPT_MAX = 1000;
const PLACE_OF_WHAT_IS_GONE = '{}';
const VERSIONS_KEPT_DEFAULT = 10;

/** What is wrong with one thing; anything else ends the import, which can be run again. */
const OF_ONE: ReadonlySet<string> = new Set([
  ...[
    'invalid_path',
    'invalid_request',
    'invalid_json',
    'too_large',
    'forbidden',
    'version_mismatch',
    'conflict',
    'not_found',
  ],
]);

const isOfOne = (error: unknown): error is BullaError | VaultError =>
  (error instanceof BullaError || error instanceof VaultError) && OF_ONE.has(error.code);

async function copySecret(client: Bulla, source: VaultSource, options: Options, path: string): Promise<Line> {
  const name = options.to === '' ? path : `${options.to}/${path}`;
  const notes: string[] = [];
  if (path.endsWith('/')) {
    return { kind: 'secret', name, outcome: 'failed', notes: ['folders that deep were not looked into'] };
  }
  try {
    const metadata = await source.metadata(options.mount, path);
    if (metadata.current_version === 0) {
      return {
        kind: 'secret',
        name,
        outcome: 'differs',
        notes: ['it has metadata and no version: nothing was copied'],
      };
    }
    const there = await currentVersion(client, name);
    const follows = there === 0 || (await isSame(client, source, options, path, name, there, metadata));
    if (!follows || there > metadata.current_version) {
      return { kind: 'secret', name, outcome: 'differs', notes: [`version ${there} is there, with another value`] };
    }
    const left = metadata.current_version - there;
    if (!options.dryRun) {
      for (let version = there + 1; version <= metadata.current_version; version++) {
        await copyVersion(client, source, options.mount, path, name, version, metadata);
      }
      await copySettings(client, name, metadata);
    }
    for (const [version, { destroyed, deletion_time }] of Object.entries(metadata.versions)) {
      if (destroyed) continue;
      if (isOver(deletion_time)) notes.push(`version ${version} is deleted at the source: its value was not copied`);
    }
    const outcome = left === 0 ? 'same' : there === 0 ? 'copied' : 'continued';
    return { kind: 'secret', name, outcome, notes };
  } catch (error) {
    if (!isOfOne(error)) throw error;
    return { kind: 'secret', name, outcome: 'failed', notes: [error.message] };
  }
}

const isOver = (time: string) => time !== '' && Date.parse(time) <= Date.now();

async function currentVersion(client: Bulla, name: string): Promise<number> {
  try {
    return (await client.secrets.versions(name)).current_version;
  } catch (error) {
    if (error instanceof BullaError && error.code === 'not_found') return 0;
    throw error;
  }
}

/** Whether the last version that is there is the source's of that number. */
async function isSame(
  client: Bulla,
  source: VaultSource,
  { mount, dryRun }: Options,
  path: string,
  name: string,
  version: number,
  { versions }: SourceMetadata,
): Promise<boolean> {
  const theirs =
    versions[version] && !versions[version].destroyed ? await source.read(mount, path, version) : undefined;
  let ours: string | undefined;
  try {
    ours = sourceOf(await client.secrets.getText(name, { version }), ['data']);
  } catch (error) {
    if (!(error instanceof BullaError) || error.code !== 'not_found') throw error;
  }
  if (theirs !== undefined || ours !== PLACE_OF_WHAT_IS_GONE) return theirs === ours;
  // An import that was ended between the two took the number and no more.
  if (!dryRun) await client.secrets.destroy(name, [version]);
  return true;
}

async function copyVersion(
  client: Bulla,
  source: VaultSource,
  mount: string,
  path: string,
  name: string,
  version: number,
  metadata: SourceMetadata,
): Promise<void> {
  const one = metadata.versions[version];
  const readable = one !== undefined && !one.destroyed && !isOver(one.deletion_time);
  const data = readable ? await source.read(mount, path, version) : undefined;
  const kept = Math.max(metadata.max_versions || VERSIONS_KEPT_DEFAULT, Object.keys(metadata.versions).length);
  await client.secrets.put(name, {
    data: data ?? PLACE_OF_WHAT_IS_GONE,
    cas: version - 1,
    versions_kept: Math.min(kept, VERSIONS_KEPT_MAX),
    ...(data !== undefined && one && one.deletion_time !== '' ? { expires_at: micros(one.deletion_time) } : {}),
  });
  if (data === undefined) await client.secrets.destroy(name, [version]);
}

/** Nanoseconds of a Go server are more than we keep. */
const micros = (time: string) => time.replace(/(\.\d{6})\d+/, '$1');

async function copySettings(client: Bulla, name: string, metadata: SourceMetadata): Promise<void> {
  const after = goSeconds(metadata.delete_version_after);
  const custom = metadata.custom_metadata ?? {};
  const change = {
    ...(Object.keys(custom).length > 0 ? { metadata: { ...custom } } : {}),
    ...(metadata.cas_required ? { cas_required: true } : {}),
    ...(after > 0 ? { delete_after: after } : {}),
  };
  if (Object.keys(change).length > 0) await client.secrets.patchMetadata(name, change);
}

/** `3h25m19s` */
function goSeconds(text: string): number {
  let seconds = 0;
  for (const [part] of text.matchAll(/\d{1,12}[hms]/g)) seconds += parseDurationSeconds(part) ?? 0;
  return seconds;
}

// ---- policies -----------------------------------------------------------------------------------------------------

async function copyPolicy(client: Bulla, source: VaultSource, { dryRun }: Options, name: string): Promise<Line> {
  try {
    const text = await source.policy(name);
    const there = await client.policies.text(name);
    if (there === text) return { kind: 'policy', name, outcome: 'same', notes: [] };
    if (there !== undefined)
      return { kind: 'policy', name, outcome: 'differs', notes: ['a policy of this name is there'] };
    if (!dryRun) await client.policies.putText(name, text);
    return { kind: 'policy', name, outcome: 'copied', notes: [] };
  } catch (error) {
    if (!isOfOne(error)) throw error;
    return { kind: 'policy', name, outcome: 'failed', notes: [error.message] };
  }
}

// ---- the report ---------------------------------------------------------------------------------------------------

const OUTCOMES: readonly Outcome[] = ['copied', 'continued', 'same', 'differs', 'failed'];

async function report(cli: Cli, lines: readonly Line[], { dryRun }: Options): Promise<void> {
  const counts = Object.fromEntries(
    OUTCOMES.map((one) => [one, lines.filter(({ outcome }) => outcome === one).length]),
  );
  if (cli.json()) await printJson(cli.io, { dry_run: dryRun ?? false, counts, items: lines });
  else {
    const said = lines.filter(
      ({ outcome, notes }) => outcome === 'differs' || outcome === 'failed' || notes.length > 0,
    );
    for (const { kind, name, outcome, notes } of said) {
      for (const note of notes) await print(cli.io.stdout, `${kind} ${name}: ${outcome}: ${note}\n`);
    }
    const sums = OUTCOMES.filter((one) => counts[one]! > 0).map((one) => `${one} ${counts[one]}`);
    await print(cli.io.stdout, `${dryRun ? 'Would be: ' : ''}${sums.join(', ') || 'nothing there'}.\n`);
  }
  if (counts.differs! > 0 || counts.failed! > 0) cli.setExitCode(EXIT.failed);
}
