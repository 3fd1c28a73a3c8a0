/**
 * `bulla run`: starts a program with secrets and leased credentials in its environment.
 *
 * The secrets go from the answer to the child's environment and nowhere else: no file, no argument, no output. The
 * child does not get the token. It has our standard streams; signals go on to it, and we end as it ended, so whoever
 * supervises us sees the program.
 *
 * Leases are taken before the program starts, renewed while it runs, and revoked when it has ended, however it ended.
 *
 * A variable that makes programs load code, such as LD_PRELOAD or NODE_OPTIONS, is refused: whoever may write one secret
 * under the prefix could otherwise run code as this program (secret.write would be more than it says).
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { constants } from 'node:os';
import type { Command } from 'commander';
import type { Bulla, KeptLease, TakenLease } from '../client/index.ts';
import { VaultError } from '../errors.ts';
import { collect } from './argument.ts';
import type { Cli } from './cli.ts';
import { describeError, EXIT } from './exit.ts';
import type { Io } from './io.ts';
import { readToken } from './token-file.ts';

type RunOptions = {
  readonly prefix?: string[];
  readonly path?: string[];
  readonly lease?: string[];
  readonly leaseTtl?: string;
  readonly except?: string[];
  readonly allowUnsafeEnv?: true;
  readonly passToken?: true;
};

export function addRunCommand(root: Command, cli: Cli): void {
  root
    .command('run')
    .usage('[options] -- <program> [arguments...]')
    .description('start a program with secrets in its environment; nothing is written to disk')
    .argument('<program>')
    .argument('[arguments...]')
    .option('-p, --prefix <prefix>', 'all secrets under this prefix that you may read; repeatable', collect)
    .option('--path <path>', 'this secret; repeatable', collect)
    .option(
      '-l, --lease <name=role>',
      'a credential of this role (or account:ACCOUNT), as NAME_USERNAME, NAME_PASSWORD …; repeatable',
      collect,
    )
    .option('--lease-ttl <duration>', 'of each lease, renewed while the program runs')
    .option('--except <name>', 'leave this variable out; repeatable', collect)
    .option('--allow-unsafe-env', 'allow variables that make programs load code, such as LD_PRELOAD')
    .option('--pass-token', 'give the program the token too, as BULLA_TOKEN')
    .addHelpText('after', RUN_HELP)
    .action(async (program: string, args: string[], options: RunOptions) => {
      cli.setExitCode(await run(cli, program, args, options));
    });
}

const RUN_HELP = `
Variables are named by the path below the prefix and the key: with --prefix prod/web the key "url" of prod/web/database
is DATABASE_URL; with --path the whole path is in the name. They replace variables of the same name that are there
already. Bytes are in base64.
Signals are passed on, and the exit code is the program's.

  bulla run --prefix prod/web -- node app.js
  bulla run --lease reporting=db/reporting -- node report.js`;

async function run(cli: Cli, program: string, args: readonly string[], options: RunOptions): Promise<number> {
  const { prefix = [], path = [], except = [] } = options;
  const wanted = (options.lease ?? []).map(parseLease);
  if (prefix.length + path.length + wanted.length === 0) {
    throw usage('Say which secrets: --prefix PREFIX, --path PATH or --lease NAME=BACKEND/ROLE.');
  }
  const client = cli.client();
  const variables = prefix.length + path.length === 0 ? {} : await fetchVariables(client, prefix, path);
  const kept: KeptLease[] = [];
  const giveBack = () => revokeAll(cli.io, kept);
  try {
    for (const one of wanted) kept.push(await takeLease(cli.io, client, one, options.leaseTtl, variables));
    for (const name of except) delete variables[name];
    checkVariables(variables, options.allowUnsafeEnv ?? false);
  } catch (error) {
    await giveBack();
    throw error;
  }
  if (kept.length === 0) client.close();
  const { config } = cli;
  const token = options.passToken ? (config.token ?? readToken(config.stateDir, cli.address())?.token) : undefined;
  const env = { ...config.childEnvironment, ...variables, ...(token === undefined ? {} : { BULLA_TOKEN: token }) };
  return runChild(cli.io, program, args, env, giveBack);
}

type WantedLease = { readonly name: string; readonly role: string };

function parseLease(text: string): WantedLease {
  const [, name, role] = /^([A-Za-z_][A-Za-z0-9_-]{0,62})=([^=\s]+)$/.exec(text) ?? [];
  if (name !== undefined && role !== undefined) return { name: name.toUpperCase().replaceAll('-', '_'), role };
  throw usage('--lease takes NAME=BACKEND/ROLE, such as reporting=db/reporting.');
}

/** An environment cannot change any more: at its maximum the credential ends, and the program is told to be restarted. */
async function takeLease(
  io: Io,
  client: Bulla,
  { name, role }: WantedLease,
  ttl: string | undefined,
  variables: Record<string, string>,
): Promise<KeptLease> {
  const warn = (text: string) => io.stderr.write(`bulla: ${text}\n`);
  const take = ({ credential = {} }: TakenLease) => {
    for (const [key, value] of Object.entries(credential)) {
      const variable = `${name}_${key.toUpperCase()}`;
      if (variable in variables) throw usage(`Two secrets become ${variable}; give the lease another name.`);
      variables[variable] = String(value);
    }
  };
  const wanted = role.startsWith('account:') ? { account: role.slice('account:'.length) } : { role };
  return client.keepLease({ ...wanted, ...(ttl === undefined ? {} : { ttl }) }, take, {
    next: false,
    onError: (error) => warn(`the lease of ${role} was not renewed: ${describeError(error, false)}`),
    onEnding: ({ expires_at }) => warn(`the lease of ${role} ends at ${expires_at}: restart the program before.`),
  });
}

async function revokeAll(io: Io, kept: readonly KeptLease[]): Promise<void> {
  await Promise.all(
    kept.map(async (lease) => {
      try {
        await lease.close();
      } catch (error) {
        const { id, expires_at } = lease.lease();
        const why = describeError(error, false);
        io.stderr.write(`bulla: the lease ${id} was not revoked and ends at ${expires_at}: ${why}\n`);
      }
    }),
  );
}

async function fetchVariables(
  client: Bulla,
  prefixes: readonly string[],
  paths: readonly string[],
): Promise<Record<string, string>> {
  const variables: Record<string, string> = Object.create(null);
  const selections = [
    ...(prefixes.length === 0 ? [] : [{ prefixes: prefixes.map((prefix) => prefix.replace(/\/$/, '')) }]),
    ...(paths.length === 0 ? [] : [{ paths }]),
  ];
  for (const selection of selections) {
    for (const [name, value] of Object.entries(await client.secrets.fetchFlat(selection))) {
      if (name in variables)
        throw usage(`Two secrets become ${name}; rename one of them, or leave it out with --except.`);
      variables[name] = value;
    }
  }
  if (Object.keys(variables).length > 0) return variables;
  throw new VaultError(
    'not_found',
    `There is no secret that you may read under ${prefixes.join(', ')}, so the program was not started.`,
  );
}

/** What dynamic linkers, shells and interpreters load, run or stop checking because of a variable. */
const UNSAFE = new RegExp(
  `^(?:${[
    'LD_.*|DYLD_.*|GCONV_PATH|GLIBC_TUNABLES|LOCPATH|NLSPATH|HOSTALIASES',
    'HOME|XDG_CONFIG_HOME|ZDOTDIR|PATH|IFS|BASH_ENV|BASH_FUNC_.*|SHELLOPTS|BASHOPTS|PS4|PROMPT_COMMAND',
    'NODE_OPTIONS|NODE_PATH|NODE_REPL_EXTERNAL_MODULE|NODE_TLS_REJECT_UNAUTHORIZED|SSLKEYLOGFILE',
    'NPM_CONFIG_(?:SCRIPT_SHELL|NODE_OPTIONS|PREFIX|GLOBALCONFIG|USERCONFIG)',
    'PYTHON(?:PATH|HOME|STARTUP|EXECUTABLE|USERBASE|INSPECT|BREAKPOINT|WARNINGS|PLATLIBDIR|PYCACHEPREFIX)',
    'PERL5?LIB|PERL5OPT|PERL5DB|RUBYLIB|RUBYOPT|GEM_HOME|GEM_PATH|BUNDLE_GEMFILE|BUNDLE_PATH',
    'LUA_INIT.*|LUA_PATH.*|LUA_CPATH.*|PHPRC|PHP_INI_SCAN_DIR',
    'JAVA_TOOL_OPTIONS|_JAVA_OPTIONS|JDK_JAVA_OPTIONS|CLASSPATH',
    'DOTNET_STARTUP_HOOKS|DOTNET_ADDITIONAL_DEPS|COR(?:ECLR)?_(?:ENABLE_)?PROFIL.*',
    'GIT_(?:SSH|SSH_COMMAND|EXEC_PATH|EXTERNAL_DIFF|PAGER|EDITOR|ASKPASS|CONFIG.*|PROXY_COMMAND|TEMPLATE_DIR)',
    'OPENSSL_(?:CONF|MODULES|ENGINES)|SSL_CERT_(?:FILE|DIR)|NODE_EXTRA_CA_CERTS|CURL_HOME|PSQLRC|PGSYSCONFDIR',
    'LESSOPEN|LESSCLOSE|MAKEFLAGS|GNUMAKEFLAGS|GOFLAGS|RUSTC_WRAPPER|RUSTC_WORKSPACE_WRAPPER|BUN_OPTIONS|COMPLUS_.*',
    'ERL_(?:LIBS|FLAGS|AFLAGS|ZFLAGS)|ELIXIR_ERL_OPTIONS|R_(?:PROFILE|ENVIRON)(?:_USER)?|JULIA_LOAD_PATH|TCLLIBPATH',
    'GUILE_LOAD_(?:COMPILED_)?PATH|(?:MAVEN|GRADLE|SBT|CATALINA)_OPTS',
  ].join('|')})$`,
  'i',
);

export const decidesCode = (variable: string) => UNSAFE.test(variable);

/** Linux takes a variable of up to 32 pages, its name and its end included. */
const VARIABLE_BYTES_MAX = 128 * 1024;

function checkVariables(variables: Readonly<Record<string, string>>, unsafeAllowed: boolean): void {
  for (const [name, value] of Object.entries(variables)) {
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) throw usage('The server gave a variable a name that is none.');
    if (!unsafeAllowed && decidesCode(name)) {
      throw usage(
        `A secret would set ${name}, which decides what code programs load: leave it out with --except ${name}, or allow it with --allow-unsafe-env.`,
      );
    }
    if (value.includes('\0'))
      throw usage(`${name} has a NUL character, which no environment can hold: leave it out with --except ${name}.`);
    const bytes = Buffer.byteLength(name) + Buffer.byteLength(value) + 2;
    if (bytes > VARIABLE_BYTES_MAX) {
      throw usage(
        `${name} has ${bytes} bytes and an environment variable at most ${VARIABLE_BYTES_MAX}: leave it out with --except ${name}, and read it with bulla secret get --out FILE.`,
      );
    }
  }
}

const FORWARDED = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2', 'SIGWINCH'] as const;
/** A terminal sends these to all of the foreground, the program included: it would get them twice. */
const SENT_BY_TERMINAL: readonly string[] = ['SIGINT', 'SIGQUIT', 'SIGWINCH'];
/** Dying of these would write a core of ours, with the secrets in it; SIGUSR1 would open Node's debugger. */
const NOT_REPEATED: readonly string[] = 'QUIT ILL TRAP ABRT BUS FPE SEGV SYS XCPU XFSZ USR1'
  .split(' ')
  .map((name) => `SIG${name}`);

type Ended = { readonly code: number | null; readonly signal: NodeJS.Signals | null } | { readonly fault: unknown };

/** Resolves with the exit code. Where the program died of a signal, so do we. */
async function runChild(
  io: Io,
  program: string,
  args: readonly string[],
  env: Record<string, string>,
  atEnd: () => Promise<void>,
): Promise<number> {
  const terminal = io.stdin.isTTY || io.stdout.isTTY || io.stderr.isTTY;
  let child: ChildProcess | undefined;
  // Before the program is there: once it runs, whoever watches it may signal us. A handler runs when spawn has returned.
  const handlers = FORWARDED.map((name) => {
    const handler = terminal && SENT_BY_TERMINAL.includes(name) ? () => {} : () => child?.kill(name);
    process.on(name, handler);
    return () => process.off(name, handler);
  });
  const ended = await new Promise<Ended>((resolve) => {
    try {
      child = spawn(program, args, { env, stdio: 'inherit' });
      child.once('error', (fault) => resolve({ fault }));
      child.once('exit', (code, signal) => resolve({ code, signal }));
    } catch (fault) {
      resolve({ fault });
    }
  });
  // Signals still end here: what the program held is given back first.
  await atEnd();
  for (const remove of handlers) remove();
  if ('fault' in ended) return notStarted(io, program, ended.fault);
  if (ended.signal === null) return ended.code ?? EXIT.failed;
  if (!NOT_REPEATED.includes(ended.signal)) process.kill(process.pid, ended.signal);
  return 128 + constants.signals[ended.signal];
}

/** The codes are a shell's. The fault's own text would repeat the arguments. */
function notStarted(io: Io, program: string, fault: unknown): number {
  const code = fault instanceof Error && 'code' in fault ? String(fault.code) : 'unknown fault';
  if (code === 'E2BIG') {
    throw usage(
      'The environment with the secrets is too large for a program: fetch fewer, or leave some out with --except.',
    );
  }
  io.stderr.write(`bulla: ${program} cannot be started (${code}).\n`);
  return code === 'ENOENT' ? EXIT.commandNotFound : EXIT.notExecutable;
}

function usage(message: string): VaultError {
  return new VaultError('invalid_request', message);
}
