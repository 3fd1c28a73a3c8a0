/**
 * `bulla`: the tree of commands, and one run of it from arguments to an exit code.
 *
 * One file per group of commands; all of them talk to the server through client/ only, but for `server` and for
 * `audit verify`, which needs none. No option takes a secret (T-229).
 */
import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { Bulla } from '../client/index.ts';
import type { ClientConfig } from '../config-client.ts';
import { VaultError } from '../errors.ts';
import type { Cli } from './cli.ts';
import { describeError, EXIT, exitCodeOf } from './exit.ts';
import { type Io, print, readFile } from './io.ts';
import { readToken } from './token-file.ts';

/**
 * `serve` is what `bulla server` does, with settings from its options; it is given, so that no other command loads the
 * server.
 */
export type Program = {
  readonly io: Io;
  readonly config: ClientConfig;
  readonly serve: (settings: Readonly<Record<string, string>>) => Promise<number>;
  /** The same for `bulla unseal` where the seal opens by itself. */
  readonly unsealHere?: () => Promise<boolean>;
  readonly unlockHere?: Cli['unlockHere'];
};

/** `args` are those after the name of the program. Resolves with the exit code; never rejects. */
export async function runProgram(args: readonly string[], program: Program): Promise<number> {
  // By hand, because an option of the root would take `--version` away from `secret get`.
  if (args.length === 1 && args[0] === '--version') {
    await print(program.io.stdout, `${version()}\n`);
    return EXIT.done;
  }
  let exitCode: number = EXIT.done;
  const clients: Bulla[] = [];
  const root = createRoot(program.io);
  const cli = createCli(root, program, clients, (code) => {
    exitCode = code;
  });
  addServerCommand(root, cli, program.serve);
  // The server starts sooner without the commands that talk to it.
  if (args[0] !== 'server') (await import('./commands.ts')).addCommands(root, cli);
  try {
    await root.parseAsync([...args], { from: 'user' });
    return exitCode;
  } catch (error) {
    // Commander has printed its own; help and version are no faults.
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.done : EXIT.usage;
    program.io.stderr.write(`${describeError(error, cli.json())}\n`);
    return exitCodeOf(error);
  } finally {
    for (const client of clients) client.close();
  }
}

function addServerCommand(root: Command, cli: Cli, serve: Program['serve']): void {
  root
    .command('server')
    .description('start the vault, with its own PostgreSQL unless BULLA_DATABASE_URL is set')
    .option('--tls <source>', 'speak TLS, with a certificate from: auto (an authority of its own), files, acme; or off')
    .option('--workers <n>', 'processes that serve the port, for a machine with cores to spare')
    .action(async ({ tls, workers }: { tls?: string; workers?: string }) => {
      const settings = {
        ...(tls === undefined ? {} : { BULLA_TLS: tls }),
        ...(workers === undefined ? {} : { BULLA_WORKERS: workers }),
      };
      cli.setExitCode(await serve(settings));
    });
}

const collect = (pin: string, before: readonly string[] = []) => [...before, pin];

function ownCertificate(given: Globals, config: ClientConfig): { cert: string; key: string } | undefined {
  const certFile = given.clientCert ?? config.clientCertFile;
  const keyFile = given.clientKey ?? config.clientKeyFile;
  if (certFile === undefined && keyFile === undefined) return undefined;
  if (certFile === undefined || keyFile === undefined) {
    throw new VaultError(
      'invalid_request',
      'A certificate of your own needs both files: --client-cert and --client-key.',
    );
  }
  return { cert: readFile(certFile).toString('utf8'), key: readFile(keyFile).toString('utf8') };
}

type Globals = {
  readonly json?: true;
  readonly address?: string;
  readonly cacert?: string;
  readonly pin?: readonly string[];
  readonly clientCert?: string;
  readonly clientKey?: string;
};

function createCli(
  root: Command,
  { io, config, unsealHere, unlockHere }: Program,
  clients: Bulla[],
  setExitCode: (code: number) => void,
): Cli {
  const globals = () => root.opts<Globals>();
  const address = () => (globals().address ?? config.address).replace(/\/{1,16}$/, '');
  return {
    io,
    config,
    json: () => globals().json ?? false,
    address,
    client: () => {
      const caFile = globals().cacert ?? config.caCertFile;
      const certificate = ownCertificate(globals(), config);
      const client = new Bulla({
        address: address(),
        token: config.token ?? readToken(config.stateDir, address())?.token,
        ca: caFile === undefined ? undefined : readFile(caFile).toString('utf8'),
        pins: globals().pin ?? config.pins,
        certificate,
        sendTokensOverPlainHttp: config.sendTokensOverPlainHttp,
      });
      clients.push(client);
      return client;
    },
    setExitCode,
    unsealHere: unsealHere ?? (async () => false),
    unlockHere: unlockHere ?? (async () => undefined),
  };
}

function createRoot(io: Io): Command {
  return new Command('bulla')
    .description('A secrets vault whose every access is provable.')
    .option('--json', 'print JSON for programs, with the names of the API')
    .option('--address <url>', 'where the server is (BULLA_ADDR, http://127.0.0.1:8200)')
    .option('--cacert <file>', 'PEM certificates to trust in place of the system’s (BULLA_CACERT)')
    .option('--pin <pin>', 'a key that the server may have, sha256/…; can be given again (BULLA_PINS)', collect)
    .option('--client-cert <file>', 'PEM of a certificate of your own, with its chain (BULLA_CLIENT_CERT)')
    .option('--client-key <file>', 'PEM of its key (BULLA_CLIENT_KEY)')
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({
      writeOut: (text) => io.stdout.write(text),
      writeErr: (text) => io.stderr.write(text),
      getOutHasColors: () => false,
      getErrHasColors: () => false,
      outputError: (text, write) => write(`bulla: ${withoutValues(text)}`),
    })
    .exitOverride()
    .showHelpAfterError(
      'See --help. Secrets are never arguments: give them on standard input, in a file or at a prompt.',
    )
    .addHelpText('after', AFTER_HELP);
}

const AFTER_HELP = `
Environment: BULLA_ADDR, BULLA_TOKEN, BULLA_TENANT, BULLA_CACERT, BULLA_PINS,
BULLA_CLIENT_CERT, BULLA_CLIENT_KEY.
Exit codes: 0 done, 1 failed, 2 wrong use or input, 3 not logged in, 4 not allowed, 5 not found, 6 conflict,
7 not available now, 8 outcome unknown.`;

/** Commander repeats the argument that it does not know, and somebody may have put a secret behind its "=". */
function withoutValues(text: string): string {
  return text.replace(/=(?<=-[\w-]+=)[^\n]*/g, '=…').replace(/(unknown command) '[^\n]*'/g, '$1');
}

function version(): string {
  const file = new URL('../../package.json', import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}
