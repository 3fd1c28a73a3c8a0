/**
 * `bulla totp …`: one's own second factor.
 *
 * On a terminal `enrol` goes all the way: the QR code, a code of the authenticator, the recovery codes. For programs it
 * prints the seed and ends, and `confirm` takes the code. Codes are asked for or are lines of standard input, like every
 * secret; a code of six digits may be typed with a blank in the middle, as authenticators show it.
 */
import type { Command } from 'commander';
import { renderUnicodeCompact } from 'uqr';
import { type Bulla, BullaError, type TotpConfirmed, type TotpSeed } from '../client/index.ts';
import type { Cli } from './cli.ts';
import { type Asker, createAsker, print } from './io.ts';
import { clean, printDone, printFields, printJson } from './print.ts';
import { keepToken, readToken } from './token-file.ts';

export function addTotpCommands(root: Command, cli: Cli): void {
  const totp = root.command('totp').description('your own second factor: codes of an authenticator (TOTP)');
  totp
    .command('show')
    .description('show whether you have one, and how many recovery codes are left')
    .action(async () =>
      printFields(cli.io, cli.json(), await cli.client().secondFactor.state(), [
        ['state', ({ state }) => state],
        ['required', ({ required }) => required],
        ['recovery codes left', ({ recovery_codes_left }) => recovery_codes_left],
      ]),
    );
  totp
    .command('enrol')
    .description('begin to use one, or another one in its place: shows a QR code and asks for a code of it')
    .addHelpText(
      'after',
      '\nWithout a terminal the answers are lines of standard input: the password, a code if you have a factor already.\nThe seed is printed then, and waits 15 minutes for: bulla totp confirm',
    )
    .action(() => asking(cli, (asker) => enrol(cli, asker)));
  totp
    .command('confirm')
    .description('show a code of the one that you enrolled; your other sessions end, and recovery codes are shown once')
    .action(() => asking(cli, (asker) => confirm(cli, cli.client(), asker)));
  totp
    .command('remove')
    .description('take it away, with a code of it or a recovery code; all your sessions end')
    .action(() =>
      asking(cli, async (asker) => {
        await cli.client().secondFactor.remove(await askCode(asker));
        if (cli.config.token === undefined) keepToken(cli.config.stateDir, cli.address(), undefined);
        await printDone(cli.io, cli.json(), 'Removed. Log in again: the password alone is asked for.');
      }),
    );
  totp
    .command('recovery-codes')
    .description('make new recovery codes in place of those that are left')
    .action(() =>
      asking(cli, async (asker) => {
        const answer = await cli.client().secondFactor.recoveryCodes(await askCode(asker));
        if (cli.json()) return printJson(cli.io, answer);
        await printRecoveryCodes(cli, answer.recovery_codes);
      }),
    );
}

async function asking(cli: Cli, act: (asker: Asker) => Promise<void>): Promise<void> {
  const asker = createAsker(cli.io);
  try {
    await act(asker);
  } finally {
    asker.close();
  }
}

/** As it is typed from an authenticator or from paper. */
export async function askCode(asker: Asker): Promise<string> {
  return (await asker.secret('Code of the second factor')).replace(/\s/g, '');
}

async function enrol(cli: Cli, asker: Asker): Promise<void> {
  const { io } = cli;
  const client = cli.client();
  const password = await asker.secret('Password');
  const { state } = await client.secondFactor.state();
  const code = state === 'active' ? { totp: await askCode(asker) } : {};
  const seed = await client.secondFactor.enrol({ password, ...code });
  if (cli.json()) return printJson(io, seed);
  await print(io.stdout, seedText(seed));
  if (io.stdin.isTTY) return confirm(cli, client, asker);
  io.stderr.write('It counts once you show a code of it within 15 minutes: bulla totp confirm\n');
}

function seedText({ secret, uri }: TotpSeed): string {
  return [
    renderUnicodeCompact(uri, { border: 2 }),
    '',
    'Scan this with an authenticator, or type the seed into it:',
    '',
    `  ${clean(secret)}`,
    '',
    `${clean(uri)}`,
    '',
  ].join('\n');
}

/** At a terminal a code that does not fit may be typed again. */
async function confirm(cli: Cli, client: Bulla, asker: Asker): Promise<void> {
  const { io, config } = cli;
  let done: TotpConfirmed | undefined;
  while (done === undefined) {
    try {
      done = await client.secondFactor.confirm(await askCode(asker));
    } catch (error) {
      if (!(io.stdin.isTTY && error instanceof BullaError && error.code === 'login_failed')) throw error;
      io.stderr.write('That is not a code of it now. Wait for the next one.\n');
    }
  }
  if (config.token === undefined) keepSession(cli, done);
  if (cli.json()) return printJson(io, done);
  await printRecoveryCodes(cli, done.recovery_codes);
  io.stderr.write(
    config.token === undefined
      ? 'The second factor counts from now on. Your other sessions have ended.\n'
      : 'The second factor counts from now on. The token of BULLA_TOKEN has ended: log in again.\n',
  );
}

/** The session goes on under another token. */
export function keepSession(cli: Cli, { token, expires_at }: { token: string; expires_at: string }): void {
  const { stateDir } = cli.config;
  const kept = readToken(stateDir, cli.address());
  if (kept !== undefined) keepToken(stateDir, cli.address(), { ...kept, token, expires_at });
}

async function printRecoveryCodes(cli: Cli, codes: readonly string[]): Promise<void> {
  const lines = codes.map((code) => `  ${clean(code)}`);
  await print(
    cli.io.stdout,
    `Recovery codes, shown this once. Each takes the place of a code, once; keep them apart from your authenticator:\n\n${lines.join('\n')}\n\n`,
  );
}
