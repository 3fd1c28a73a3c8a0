/**
 * `bulla secret put` and `patch`: from standard input, files or a prompt to a secret.
 *
 * Nothing is guessed: the caller says whether the input is a JSON object, a text or bytes, because a key pair stored as
 * the wrong kind is found out when a server does not start. No value is ever an argument (T-229).
 */
import { parseEnv } from 'node:util';
import type { Command } from 'commander';
import type { SecretInput } from '../client/index.ts';
import { VaultError } from '../errors.ts';
import { collect, pair, wholeNumber } from './argument.ts';
import type { Cli } from './cli.ts';
import { asText, createAsker, type Io, readFile, readInput } from './io.ts';
import { printDone } from './print.ts';

type ValueOptions = {
  readonly data?: true;
  readonly text?: true;
  readonly bytes?: true;
  readonly key?: string;
  readonly keyFile?: Record<string, string>;
  readonly envFile?: string;
  readonly file?: string;
};

type PutOptions = ValueOptions & {
  readonly contentType?: string;
  readonly cas?: number;
  readonly ifAbsent?: true;
  readonly ttl?: string;
  readonly expiresAt?: string;
  readonly metadata?: Record<string, string>;
  readonly versionsKept?: number;
};

export function addPutCommand(secret: Command, cli: Cli): void {
  secret
    .command('put')
    .description('store a secret as a new version; the value comes from standard input, a file or a prompt')
    .argument('<path>')
    .option('--data', 'the input is a JSON object')
    .option('--text', 'the input is a text, stored to the letter')
    .option('--bytes', 'the input is anything else')
    .option('-k, --key <key>', 'store {"KEY": "…"}; the input is the value, without a line feed at its end')
    .option('--key-file <key=file>', 'store {"KEY": "the text of the file"}; repeatable', pair)
    .option('--env-file <file>', 'store the variables of an .env file as a JSON object')
    .option('-f, --file <file>', 'read the input from this file in place of standard input')
    .option('--content-type <type>', 'of --bytes')
    .option('--cas <version>', 'only if this is the current version', wholeNumber)
    .option('--if-absent', 'only if the secret does not exist')
    .option('--ttl <duration>', 'how long this version can be read, such as 15m, 24h or 30d')
    .option('--expires-at <time>', 'until when this version can be read (RFC 3339)')
    .option('--metadata <key=value>', 'metadata, readable to whoever lists it; repeatable', pair)
    .option('--versions-kept <number>', 'how many versions to keep', wholeNumber)
    .addHelpText('after', PUT_EXAMPLES)
    .action((path: string, options: PutOptions) => put(cli, path, options));
}

const PUT_EXAMPLES = `
  bulla secret put prod/web/database --key password            asks, and shows nothing
  pwgen 32 1 | bulla secret put prod/web/database --key password
  bulla secret put prod/web/tls --key-file cert=cert.pem --key-file key=key.pem
  bulla secret put prod/web/config --data < config.json
  bulla secret put prod/web/config --env-file .env
  bulla secret put prod/web/logo --bytes --content-type image/png --file logo.png`;

async function put(cli: Cli, path: string, options: PutOptions): Promise<void> {
  if (options.contentType !== undefined && !options.bytes) throw usage('--content-type goes with --bytes.');
  if (options.cas !== undefined && options.ifAbsent) throw usage('--cas and --if-absent exclude each other.');
  const value = await inputValue(cli.io, options);
  const cas = options.ifAbsent ? 0 : options.cas;
  const written = await cli.client().secrets.put(path, {
    ...value,
    ...defined({
      content_type: options.contentType,
      cas,
      ttl: options.ttl,
      expires_at: options.expiresAt,
      metadata: options.metadata,
      versions_kept: options.versionsKept,
    }),
  });
  await printDone(cli.io, cli.json(), `Stored ${written.path}, version ${written.version}.`, written);
}

type PatchOptions = {
  readonly key?: string;
  readonly keyFile?: Record<string, string>;
  readonly remove?: string[];
  readonly file?: string;
  readonly cas?: number;
};

export function addPatchCommand(secret: Command, cli: Cli): void {
  secret
    .command('patch')
    .description('change keys of a JSON object: store it as a new version with a merge patch (RFC 7396) applied')
    .argument('<path>')
    .option('-k, --key <key>', 'set this key; the input is the value, without a line feed at its end')
    .option('--key-file <key=file>', 'set a key to the text of a file; repeatable', pair)
    .option('--remove <key>', 'remove a key; repeatable', collect)
    .option('-f, --file <file>', 'read the input from this file in place of standard input')
    .option('--cas <version>', 'only if this is the current version', wholeNumber)
    .addHelpText('after', '\nWithout --key, --key-file and --remove the input is the merge patch: null removes a key.')
    .action(async (path: string, options: PatchOptions) => {
      const data = await patchOf(cli.io, options);
      const written = await cli.client().secrets.patch(path, { data, ...defined({ cas: options.cas }) });
      await printDone(cli.io, cli.json(), `Stored ${written.path}, version ${written.version}.`, written);
    });
}

async function patchOf(io: Io, options: PatchOptions): Promise<string | Record<string, unknown>> {
  const { key, keyFile, remove = [], file } = options;
  if (key === undefined && keyFile === undefined && remove.length === 0) return asText(await readInput(io, file));
  return {
    ...Object.fromEntries(remove.map((name) => [name, null])),
    ...(keyFile === undefined ? {} : await filesByKey(keyFile)),
    ...(key === undefined ? {} : { [key]: await keyValue(io, key, file) }),
  };
}

async function inputValue(io: Io, options: ValueOptions): Promise<SecretInput> {
  const { data, text, bytes, key, keyFile, envFile, file } = options;
  const kinds = [data, text, bytes, key ?? keyFile, envFile].filter((kind) => kind !== undefined);
  if (kinds.length !== 1) {
    throw usage('Say what the input is, with one of --data, --text, --bytes, --key or --key-file, and --env-file.');
  }
  if (envFile !== undefined) return { data: parseEnvFile(asText(await readInput(io, envFile))) };
  if (keyFile !== undefined || key !== undefined) {
    const own = key === undefined ? {} : { [key]: await keyValue(io, key, file) };
    return { data: { ...(keyFile === undefined ? {} : await filesByKey(keyFile)), ...own } };
  }
  const input = await readInput(io, file);
  if (data) return { data: asText(input) };
  return text ? { text: asText(input) } : { bytes: input };
}

/** From a prompt, or from the input without its last line feed, which editors and `echo` add and no password has. */
async function keyValue(io: Io, key: string, file: string | undefined): Promise<string> {
  if (file !== undefined || !io.stdin.isTTY) return asText(await readInput(io, file)).replace(/\r?\n$/, '');
  const asker = createAsker(io);
  try {
    return await asker.newSecret(`Value of ${key}`);
  } finally {
    asker.close();
  }
}

async function filesByKey(files: Readonly<Record<string, string>>): Promise<Record<string, string>> {
  return Object.fromEntries(Object.entries(files).map(([key, file]) => [key, asText(readFile(file))]));
}

/** As `node --env-file` reads it. */
function parseEnvFile(text: string): Record<string, string> {
  const variables = parseEnv(text) as Record<string, string>;
  if (Object.keys(variables).length === 0) throw usage('The .env file has no variables.');
  return { ...variables };
}

/** Without the members that were not given. */
function defined<T extends Record<string, unknown>>(members: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}

function usage(message: string): VaultError {
  return new VaultError('invalid_request', message);
}
