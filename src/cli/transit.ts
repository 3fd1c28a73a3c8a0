/**
 * `bulla transit …`: keys that stay in the vault and work for applications.
 *
 * What is encrypted, signed or hashed comes from standard input or a file, passwords from a prompt; what comes out goes
 * to standard output and nowhere else. Ciphertexts, signatures and hashes are no secret, but long: they are read from
 * standard input too, or given as arguments where two inputs are needed.
 */
import { type Command, Option } from 'commander';
import type { HashAlgorithm } from '../client/transit.ts';
import { wholeNumber } from './argument.ts';
import type { Cli } from './cli.ts';
import { confirm } from './confirm.ts';
import { asText, createAsker, print, readInput } from './io.ts';
import { printDone, printFields, printJson, printList, time } from './print.ts';

const KEY_TYPES = [
  ...['aes256-gcm96', 'aes128-gcm96', 'chacha20-poly1305', 'xchacha20-poly1305', 'ed25519', 'ecdsa-p256'],
  ...['ecdsa-p384', 'ecdsa-p521', 'rsa-2048', 'rsa-3072', 'rsa-4096', 'hpke', 'hmac', 'password'],
] as const;

const HASHES = ['sha2-224', 'sha2-256', 'sha2-384', 'sha2-512', 'sha3-224', 'sha3-256', 'sha3-384', 'sha3-512'];

export function addTransitCommands(root: Command, cli: Cli): void {
  const transit = root.command('transit').description('named keys that encrypt, sign and hash, and never leave');
  addKeyCommands(transit.command('key').description('the keys themselves'), cli);
  addCipherCommands(transit, cli);
  addSignatureCommands(transit, cli);
  addPasswordCommands(transit, cli);
  transit
    .command('random')
    .description('write random bytes to standard output')
    .argument('[bytes]', 'how many', wholeNumber, 32)
    .option('--format <format>', 'base64, hex or raw', 'base64')
    .action(async (bytes: number, { format }: { format: string }) => {
      const random = await cli.client().transit.random(bytes);
      await print(
        cli.io.stdout,
        format === 'raw' ? random : `${random.toString(format === 'hex' ? 'hex' : 'base64')}\n`,
      );
    });
}

// ---- keys ---------------------------------------------------------------------------------------------------------

type MakeOptions = {
  readonly type?: (typeof KEY_TYPES)[number];
  readonly derived?: true;
  readonly convergent?: true;
  readonly exportable?: true;
  readonly autoRotate?: string;
  readonly keySize?: number;
};

type ConfigureOptions = {
  readonly minDecryption?: number;
  readonly minEncryption?: number;
  readonly allowDeletion?: boolean;
  readonly exportable?: true;
  readonly autoRotate?: string;
};

function addKeyCommands(key: Command, cli: Cli): void {
  key
    .command('list')
    .description('list keys')
    .action(() =>
      printList(cli.io, cli.json(), cli.client().transit.keys.list(), [
        ['name', ({ name }) => name],
        ['type', ({ type }) => type],
        ['version', ({ latest_version }) => latest_version],
        ['created', ({ created_at }) => time(created_at)],
      ]),
    );
  key
    .command('create')
    .description('make a key')
    .argument('<key>')
    .addOption(new Option('-t, --type <type>', 'what it is for').choices(KEY_TYPES).default('aes256-gcm96'))
    .option('--derived', 'every call needs a context, and each context has a key of its own')
    .option('--convergent', 'with --derived: equal plaintexts have equal ciphertexts')
    .option('--exportable', 'it may be handed out')
    .option('--auto-rotate <duration>', 'how old a version gets before a new one is made, such as 30d')
    .option('--key-size <bytes>', 'of --type hmac, 32 to 512', wholeNumber)
    .action(async (name: string, options: MakeOptions) => {
      const { type, derived, convergent, exportable, autoRotate, keySize } = options;
      const input = {
        type,
        derived,
        convergentEncryption: convergent,
        exportable,
        autoRotatePeriod: autoRotate,
        keySize,
      };
      const made = await cli.client().transit.keys.create(name, input);
      await printDone(cli.io, cli.json(), `Made the key ${made.name} (${made.type}).`, made);
    });
  key
    .command('show')
    .description('show the settings and public halves of a key')
    .argument('<key>')
    .option('--public', 'print the public half of the latest version only')
    .action(async (name: string, options: { public?: true }) => {
      const found = await cli.client().transit.keys.get(name);
      if (options.public) {
        const text = found.versions[0]?.public_key;
        return print(cli.io.stdout, text ? `${text.trimEnd()}\n` : '');
      }
      await printFields(cli.io, cli.json(), found, [
        ['name', ({ name }) => name],
        ['type', ({ type }) => type],
        ['latest version', ({ latest_version }) => latest_version],
        ['opens from version', ({ min_decryption_version }) => min_decryption_version],
        ['encrypts from version', (k) => k.min_encryption_version || k.min_decryption_version],
        ['kept from version', ({ min_available_version }) => min_available_version],
        ['derived', ({ derived }) => derived],
        ['convergent', ({ convergent_encryption }) => convergent_encryption],
        ['exportable', ({ exportable }) => exportable],
        ['deletion allowed', ({ deletion_allowed }) => deletion_allowed],
        ['rotates by itself', (k) => (k.auto_rotate_period === 0 ? 'never' : `after ${k.auto_rotate_period} s`)],
        ['created', ({ created_at }) => time(created_at)],
        ['latest made', ({ versions }) => time(versions[0]?.created_at)],
      ]);
    });
  key
    .command('configure')
    .description('change the settings of a key')
    .argument('<key>')
    .option('--min-decryption <version>', 'what older versions encrypted does not open any more', wholeNumber)
    .option(
      '--min-encryption <version>',
      'the oldest version that may be asked for to encrypt; 0: as above',
      wholeNumber,
    )
    .option('--allow-deletion', 'it may be deleted')
    .option('--no-allow-deletion', 'it may not')
    .option('--exportable', 'it may be handed out; this cannot be taken back')
    .option('--auto-rotate <duration>', 'such as 30d; 0: never by itself')
    .action(async (name: string, options: ConfigureOptions, command: Command) => {
      const deletion = command.getOptionValueSource('allowDeletion') === 'cli' ? options.allowDeletion : undefined;
      const changed = await cli.client().transit.keys.configure(name, {
        minDecryptionVersion: options.minDecryption,
        minEncryptionVersion: options.minEncryption,
        deletionAllowed: deletion,
        exportable: options.exportable,
        autoRotatePeriod: options.autoRotate,
      });
      await printDone(cli.io, cli.json(), `Changed the key ${changed.name}.`, changed);
    });
  key
    .command('rotate')
    .description('make a new version for whatever is encrypted or signed from here on')
    .argument('<key>')
    .action(async (name: string) => {
      const rotated = await cli.client().transit.keys.rotate(name);
      await printDone(cli.io, cli.json(), `${rotated.name} uses version ${rotated.latest_version}.`, rotated);
    });
  key
    .command('trim')
    .description('destroy the versions below one; what they encrypted never opens again')
    .argument('<key>')
    .argument('<version>', 'the oldest to keep', wholeNumber)
    .option('--yes', 'do not ask')
    .action(async (name: string, version: number, { yes }: { yes?: true }) => {
      if (!yes) await confirm(cli.io, `Destroy every version of ${name} below ${version}?`, name);
      const trimmed = await cli.client().transit.keys.trim(name, version);
      await printDone(cli.io, cli.json(), `${name} has the versions from ${version} on.`, trimmed);
    });
  key
    .command('export')
    .description('print versions of an exportable key, or its public halves')
    .argument('<key>')
    .addOption(
      new Option('--kind <kind>', 'which half')
        .choices(['encryption-key', 'signing-key', 'hmac-key', 'public-key'])
        .default('public-key'),
    )
    .option('--version-number <version>', 'of one version in place of all', wholeNumber)
    .action(async (name: string, options: { kind: 'public-key'; versionNumber?: number }) => {
      const { kind, versionNumber } = options;
      const version = versionNumber === undefined ? {} : { version: versionNumber };
      const exported = await cli.client().transit.keys.export(name, kind, version);
      if (cli.json()) return printJson(cli.io, exported);
      for (const { key } of exported.keys) await print(cli.io.stdout, `${key.trimEnd()}\n`);
    });
  key
    .command('delete')
    .description('delete a key; what it encrypted never opens again')
    .argument('<key>')
    .option('--yes', 'do not ask')
    .action(async (name: string, { yes }: { yes?: true }) => {
      if (!yes) await confirm(cli.io, `Delete ${name}, and with it all that it encrypted?`, name);
      await cli.client().transit.keys.delete(name);
      await printDone(cli.io, cli.json(), `Deleted the key ${name}.`);
    });
}

// ---- encryption ---------------------------------------------------------------------------------------------------

type BoundOptions = { readonly context?: string; readonly aad?: string; readonly file?: string };

const boundOf = ({ context, aad }: BoundOptions) => ({ context, associatedData: aad });

function withBound(command: Command): Command {
  return command
    .option('--context <text>', 'of a derived key: what it is derived with; of an hpke key: its info')
    .option('--aad <text>', 'associated data: bound to the ciphertext, and needed again to open it')
    .option('-f, --file <file>', 'read this file in place of standard input');
}

/** A line feed at the end of a ciphertext is the terminal's or the editor's. */
const textInput = async (cli: Cli, file: string | undefined) => asText(await readInput(cli.io, file)).trim();

function addCipherCommands(transit: Command, cli: Cli): void {
  withBound(transit.command('encrypt').description('encrypt standard input, to the byte'))
    .argument('<key>')
    .action(async (name: string, options: BoundOptions) => {
      const made = await cli.client().transit.encrypt(name, await readInput(cli.io, options.file), boundOf(options));
      await printDone(cli.io, cli.json(), made.ciphertext, made);
    });
  withBound(transit.command('decrypt').description('decrypt a ciphertext from standard input'))
    .argument('<key>')
    .action(async (name: string, options: BoundOptions) => {
      const text = await textInput(cli, options.file);
      await print(cli.io.stdout, await cli.client().transit.decrypt(name, text, boundOf(options)));
    });
  withBound(transit.command('rewrap').description('move a ciphertext from standard input to the latest version'))
    .argument('<key>')
    .action(async (name: string, options: BoundOptions) => {
      const text = await textInput(cli, options.file);
      const moved = await cli.client().transit.rewrap(name, text, boundOf(options));
      await printDone(cli.io, cli.json(), moved.ciphertext, moved);
    });
  transit
    .command('datakey')
    .description('make a data key: its ciphertext, and with --plaintext the key in base64 on the line after it')
    .argument('<key>')
    .option('--bits <bits>', '128, 256 or 512', wholeNumber, 256)
    .option('--context <text>', 'of a derived key')
    .option('--plaintext', 'print the readable key too')
    .action(async (name: string, options: { bits: number; context?: string; plaintext?: true }) => {
      const ask = { bits: options.bits as 256, context: options.context };
      if (!options.plaintext) {
        const made = await cli.client().transit.wrappedDataKey(name, ask);
        return printDone(cli.io, cli.json(), made.ciphertext, made);
      }
      const made = await cli.client().transit.dataKey(name, ask);
      const plaintext = made.plaintext.toString('base64');
      if (cli.json()) return printJson(cli.io, { ...made, plaintext });
      await print(cli.io.stdout, `${made.ciphertext}\n${plaintext}\n`);
    });
  transit
    .command('seal-to')
    .description('encrypt standard input to an X25519 public key (HPKE)')
    .argument('<public-key>', '32 bytes in base64')
    .option('--info <text>', 'what both sides know of the exchange')
    .option('--aad <text>', 'associated data')
    .option('-f, --file <file>', 'read this file in place of standard input')
    .action(async (publicKey: string, options: { info?: string; aad?: string; file?: string }) => {
      const input = await readInput(cli.io, options.file);
      const bound = {
        ...(options.info === undefined ? {} : { info: options.info }),
        ...(options.aad === undefined ? {} : { associatedData: options.aad }),
      };
      const sealed = await cli.client().transit.sealTo(Buffer.from(publicKey, 'base64'), input, bound);
      await print(cli.io.stdout, `${sealed.toString('base64')}\n`);
    });
}

// ---- signatures ---------------------------------------------------------------------------------------------------

type SignOptions = {
  readonly hash?: HashAlgorithm;
  readonly padding?: 'pss' | 'pkcs1v15';
  readonly jws?: true;
  readonly context?: string;
  readonly file?: string;
};

const schemeOf = ({ hash, padding, jws, context }: SignOptions) => ({
  hashAlgorithm: hash,
  signatureAlgorithm: padding,
  marshalingAlgorithm: jws ? ('jws' as const) : undefined,
  context,
});

function withScheme(command: Command): Command {
  return command
    .addOption(new Option('--hash <algorithm>', 'sha2-256 when absent').choices(HASHES))
    .addOption(new Option('--padding <padding>', 'of RSA keys, pss when absent').choices(['pss', 'pkcs1v15']))
    .option('--jws', 'of ECDSA keys: r and s in base64url in place of DER')
    .option('--context <text>', 'of a derived key')
    .option('-f, --file <file>', 'read this file in place of standard input');
}

function addSignatureCommands(transit: Command, cli: Cli): void {
  /** Exit code 1 when it is not right, so that scripts need not read. */
  const verdict = async (valid: boolean) => {
    await printDone(cli.io, cli.json(), valid ? 'Right.' : 'Wrong.', { valid });
    if (!valid) cli.setExitCode(1);
  };
  withScheme(transit.command('sign').description('sign standard input'))
    .argument('<key>')
    .action(async (name: string, options: SignOptions) => {
      const made = await cli.client().transit.sign(name, await readInput(cli.io, options.file), schemeOf(options));
      await printDone(cli.io, cli.json(), made.signature, made);
    });
  withScheme(transit.command('verify').description('verify the signature of standard input'))
    .argument('<key>')
    .argument('<signature>')
    .action(async (name: string, signature: string, options: SignOptions) => {
      const input = await readInput(cli.io, options.file);
      await verdict(await cli.client().transit.verify(name, input, signature, schemeOf(options)));
    });
  const hash = () => new Option('--hash <algorithm>', 'sha2-256 when absent').choices(HASHES);
  transit
    .command('hmac')
    .description('compute the HMAC of standard input')
    .argument('<key>')
    .addOption(hash())
    .option('-f, --file <file>', 'read this file in place of standard input')
    .action(async (name: string, options: { hash?: HashAlgorithm; file?: string }) => {
      const input = await readInput(cli.io, options.file);
      const made = await cli.client().transit.hmac(name, input, options.hash ? { hashAlgorithm: options.hash } : {});
      await printDone(cli.io, cli.json(), made.hmac, made);
    });
  transit
    .command('verify-hmac')
    .description('verify the HMAC of standard input')
    .argument('<key>')
    .argument('<hmac>')
    .addOption(hash())
    .option('-f, --file <file>', 'read this file in place of standard input')
    .action(async (name: string, hmac: string, options: { hash?: HashAlgorithm; file?: string }) => {
      const input = await readInput(cli.io, options.file);
      const rest = options.hash ? { hashAlgorithm: options.hash } : {};
      await verdict(await cli.client().transit.verifyHmac(name, input, hmac, rest));
    });
}

// ---- passwords ----------------------------------------------------------------------------------------------------

function addPasswordCommands(transit: Command, cli: Cli): void {
  const asked = async () => {
    const asker = createAsker(cli.io);
    try {
      return await asker.secret('Password');
    } finally {
      asker.close();
    }
  };
  transit
    .command('hash-password')
    .description('hash a password from a prompt or standard input; the key is of type password')
    .argument('<key>')
    .action(async (name: string) => {
      const hash = await cli.client().transit.hashPassword(name, await asked());
      await printDone(cli.io, cli.json(), hash, { hash });
    });
  transit
    .command('verify-password')
    .description('verify a password from a prompt or standard input against its hash')
    .argument('<key>')
    .argument('<hash>', 'what hash-password printed')
    .action(async (name: string, hash: string) => {
      const verdict = await cli.client().transit.verifyPassword(name, await asked(), hash);
      const sentence = verdict.valid ? `Right.${verdict.needs_rehash ? ' It should be hashed anew.' : ''}` : 'Wrong.';
      await printDone(cli.io, cli.json(), sentence, verdict);
      if (!verdict.valid) cli.setExitCode(1);
    });
}
