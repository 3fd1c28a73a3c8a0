/**
 * `bulla login`, `logout` and `status`.
 *
 * The password is asked for without echo, or is the first line of standard input; where the server wants a code of the
 * second factor, or another password first, that is asked for too, or is the next line. The token is kept in a file of
 * the user's own.
 */
import type { Command } from 'commander';
import type { Bulla, Login, LoginBody, ProvenLogin, Status } from '../client/index.ts';
import { BullaError } from '../client/index.ts';
import { VaultError } from '../errors.ts';
import { loginByBrowser, REDIRECT_URI_DEFAULT } from './browser-login.ts';
import type { Cli } from './cli.ts';
import { type Asker, createAsker, print } from './io.ts';
import { clean, duration, printDone, printFields, time } from './print.ts';
import { keepToken, readToken, tokenFile } from './token-file.ts';
import { askCode } from './totp.ts';

const DEFAULT_TENANT = 'default';

type LoginOptions = {
  readonly printToken?: boolean;
  readonly certificateRole?: string;
  readonly oidc?: string;
  readonly redirectUri?: string;
};

export function addLoginCommands(root: Command, cli: Cli): void {
  root
    .command('login')
    .description('log in and keep the token in a file that only you can read')
    .argument('[tenant]', 'the tenant (BULLA_TENANT, default)')
    .argument('[username]', 'asked for when it is not given')
    .option('--print-token', 'print the token and nothing else, and do not keep it')
    .addHelpText(
      'after',
      `
Without a terminal each answer is a line of standard input: the password, for an account with a second factor a code of
it or a recovery code, and for an account that has to choose one the new password.

  bulla login acme admin
  bulla login acme --oidc people          # prints an address to open in a browser
  BULLA_TOKEN=$(bulla login acme app --print-token < password-file)`,
    )
    .option(
      '--certificate-role <role>',
      'log in with your client certificate (BULLA_CLIENT_CERT, BULLA_CLIENT_KEY) by this role',
    )
    .option('--oidc <role>', 'log in with a browser at the OpenID provider of this login role')
    .option(
      '--redirect-uri <uri>',
      `where the browser comes back to on this machine, as registered (${REDIRECT_URI_DEFAULT}, any port)`,
    )
    .action((tenant: string | undefined, username: string | undefined, options: LoginOptions) =>
      login(cli, tenant, username, options),
    );
  root
    .command('logout')
    .description('end the token on the server and forget it here')
    .action(() => logout(cli));
  root
    .command('status')
    .description('say whether the server can serve, and who you are to it')
    .action(() => status(cli));
}

async function login(
  cli: Cli,
  given: string | undefined,
  username: string | undefined,
  { certificateRole, oidc, redirectUri = REDIRECT_URI_DEFAULT, printToken = false }: LoginOptions,
): Promise<void> {
  const tenant = given ?? cli.config.tenant ?? DEFAULT_TENANT;
  if ([certificateRole, oidc, username].filter((way) => way !== undefined).length > 1) {
    throw new VaultError('invalid_request', 'Give one of a username, --certificate-role and --oidc.');
  }
  if (oidc !== undefined) {
    return conclude(cli, await loginByBrowser(cli, { tenant, role: oidc }, redirectUri), printToken);
  }
  // The client certificate says who it is.
  if (certificateRole !== undefined) {
    return conclude(cli, await cli.client().auth.certificate({ tenant, role: certificateRole }), printToken);
  }
  await loginByPassword(cli, tenant, username, printToken);
}

async function loginByPassword(
  cli: Cli,
  tenant: string,
  username: string | undefined,
  printToken: boolean,
): Promise<void> {
  const { io } = cli;
  const asker = createAsker(io);
  const client = cli.client();
  try {
    const who = { tenant, username: username ?? (await asker.line('Username')) };
    await conclude(cli, await loginWithChange(client, who, asker, (text) => io.stderr.write(text)), printToken);
  } finally {
    asker.close();
  }
}

async function conclude(cli: Cli, answer: Login | ProvenLogin, printToken: boolean): Promise<void> {
  const { io, config } = cli;
  if (printToken) {
    await print(io.stdout, cli.json() ? `${JSON.stringify(answer)}\n` : `${answer.token}\n`);
    return;
  }
  keepToken(config.stateDir, cli.address(), keptOf(answer));
  const { token: _, ...shown } = answer;
  await printDone(
    io,
    cli.json(),
    `Logged in to ${answer.tenant} as ${answer.username} until ${time(answer.expires_at)}.`,
    shown,
  );
  if ('mfa_required' in answer && answer.mfa_required)
    io.stderr.write('A second factor is required of you, and nothing else can be done before: bulla totp enrol\n');
  if (config.token !== undefined) io.stderr.write('BULLA_TOKEN is set and comes first: unset it to use this login.\n');
}

async function loginWithChange(
  client: Bulla,
  who: { readonly tenant: string; readonly username: string },
  asker: Asker,
  say: (text: string) => void,
): Promise<Login> {
  const password = await asker.secret('Password');
  const answer = await loginWithCode(client, { ...who, password }, asker);
  if (!answer.password_change_required) return answer;
  say('This account has to choose its own password first.\n');
  const next = await choosePassword(asker, say, (chosen) => client.auth.changePassword(password, chosen));
  return loginWithCode(client, { ...who, password: next }, asker);
}

/** At a terminal one that is refused is said and asked for again; a program hears of the first. */
export async function choosePassword(
  asker: Asker,
  say: (text: string) => void,
  change: (password: string) => Promise<void>,
): Promise<string> {
  for (;;) {
    const chosen = await asker.newSecret('New password');
    try {
      await change(chosen);
      return chosen;
    } catch (error) {
      if (!(asker.interactive && error instanceof BullaError && error.code === 'invalid_request')) throw error;
      say(`${clean(error.message)}\n`);
    }
  }
}

/** Asks for a code of the second factor when the server does, which is when the password was right. */
export async function loginWithCode(client: Bulla, credentials: LoginBody, asker: Asker): Promise<Login> {
  try {
    return await client.auth.login(credentials);
  } catch (error) {
    if (!(error instanceof BullaError && error.code === 'totp_required')) throw error;
    return client.auth.login({ ...credentials, totp: await askCode(asker) });
  }
}

export function keptOf({ token, tenant, username, expires_at }: Login | ProvenLogin) {
  return { token, tenant, username, expires_at };
}

async function logout(cli: Cli): Promise<void> {
  const { io, config } = cli;
  const kept = config.token === undefined;
  try {
    await cli.client().auth.logout();
  } catch (error) {
    // A token that has ended already is what was asked for.
    if (!(kept && error instanceof BullaError && error.code === 'unauthenticated')) throw error;
  } finally {
    if (kept) keepToken(config.stateDir, cli.address(), undefined);
  }
  await printDone(io, cli.json(), kept ? 'Logged out.' : 'The token of BULLA_TOKEN has ended; unset it.');
}

async function status(cli: Cli): Promise<void> {
  const { io, config } = cli;
  const client = cli.client();
  await client.ready();
  const known = config.token ?? readToken(config.stateDir, cli.address())?.token;
  if (known === undefined) {
    const facts = { address: client.address, ready: true };
    await printFields(io, cli.json(), facts, [
      ['address', ({ address }) => address],
      ['ready', ({ ready }) => ready],
      ['login', () => `none (${tokenFile(config.stateDir)})`],
    ]);
    return;
  }
  const [server, self] = await Promise.all([client.status(), client.auth.self()]);
  await printFields(io, cli.json(), { address: client.address, ready: true, ...server, login: self }, [
    ['address', ({ address }) => address],
    ['ready', ({ ready }) => ready],
    ['version', ({ version }) => version],
    ['deployment', ({ deployment_id }) => deployment_id],
    ['seal', (facts: Status) => `${facts.seal.kind}, key ${facts.seal.fingerprint}`],
    ['certificate', ({ tls }) => tls?.certificates.map(({ key, not_after }) => `${key}, until ${time(not_after)}`)],
    ['attention', ({ tls }) => (tls ? [...tls.alarms, ...(tls.faults ?? [])] : undefined)],
    ['running for', ({ uptime_seconds }) => duration(uptime_seconds)],
    ['tenant', ({ login }) => login.tenant],
    ['username', ({ login }) => login.username],
    ['policies', ({ login }) => login.policies],
    ['token until', ({ login }) => time(login.expires_at)],
    ['at most until', ({ login }) => time(login.max_expires_at)],
  ]);
}
