/** `bulla user …`: the people of the tenant, and one's own password. */
import type { Command } from 'commander';
import type { UpdateUserBody, User, UserWithPassword } from '../client/index.ts';
import { dicewarePassphrase } from '../crypto/wordlist.ts';
import { VaultError } from '../errors.ts';
import { collect } from './argument.ts';
import type { Cli } from './cli.ts';
import { createAsker, print } from './io.ts';
import { choosePassword, keptOf, loginWithCode } from './login.ts';
import { printDone, printFields, printList, time } from './print.ts';
import { keepToken } from './token-file.ts';

export function addUserCommands(root: Command, cli: Cli): void {
  const user = root.command('user').description('the people and programs that log in with a password');
  user
    .command('list')
    .description('list users')
    .action(() =>
      printList(cli.io, cli.json(), cli.client().users.list(), [
        ['username', ({ username }) => username],
        ['policies', ({ policies }) => policies],
        ['state', stateOf],
        ['second factor', factorOf],
        ['created', ({ created_at }) => time(created_at)],
        ['last login', ({ last_login_at }) => time(last_login_at)],
      ]),
    );
  addCreateCommand(user, cli);
  user
    .command('show')
    .description('show a user')
    .argument('<name>')
    .action(async (name: string) => printUser(cli, await cli.client().users.get(name)));
  addUpdateCommand(user, cli);
  addUnlockCommands(user, cli);
  user
    .command('delete')
    .description('delete a user and end its tokens')
    .argument('<name>')
    .action(async (name: string) => {
      await cli.client().users.delete(name);
      await printDone(cli.io, cli.json(), `Deleted the user ${name}.`);
    });
  addPasswordCommand(user, cli);
}

function addUnlockCommands(user: Command, cli: Cli): void {
  user
    .command('unlock')
    .description('clear the failed logins of a user')
    .argument('<name>')
    .option('--on-host', 'the last operator, over the database of this host (as bulla server finds it); needs no login')
    .option('--remove-totp', 'with --on-host: take its lost second factor away too')
    .action(async (name: string, { onHost, removeTotp }: { onHost?: true; removeTotp?: true }) => {
      if (onHost) {
        await cli.unlockHere({ username: name, removeTotp });
        await printDone(cli.io, cli.json(), `The operator ${name} may log in again.`);
        return;
      }
      if (removeTotp) throw new VaultError('invalid_request', 'Without --on-host that is: bulla user remove-totp');
      await printUser(cli, await cli.client().users.unlock(name));
    });
  user
    .command('remove-totp')
    .description('take the second factor of a user away who has lost it, and end its tokens')
    .argument('<name>')
    .action(async (name: string) => {
      await cli.client().users.removeTotp(name);
      await printDone(cli.io, cli.json(), `${name} logs in with the password alone from now on.`);
    });
}

type CreateOptions = { readonly policy?: string[]; readonly password?: true; readonly generate?: true };

function addCreateCommand(user: Command, cli: Cli): void {
  user
    .command('create')
    .description('create a user; without --password with a one-time password, which is shown once')
    .argument('<name>')
    .option('-p, --policy <name>', 'what it may do; repeatable', collect)
    .option('--password', 'ask for its password, or take the first line of standard input')
    .option('--generate', 'give it a passphrase of six random words (Diceware), which is shown once and stays')
    .action(async (name: string, { policy = [], password, generate }: CreateOptions) => {
      if (password && generate) {
        throw new VaultError('invalid_request', '--password and --generate exclude each other.');
      }
      const generated = generate ? await dicewarePassphrase() : undefined;
      const chosen = password ? await askNewPassword(cli) : generated;
      const body = { username: name, policies: policy, ...(chosen === undefined ? {} : { password: chosen }) };
      const user = await cli.client().users.create(body);
      await printUser(cli, generated === undefined ? user : { ...user, generated_password: generated });
    });
}

type UpdateOptions = {
  readonly policy?: string[];
  readonly policies?: boolean;
  readonly disable?: true;
  readonly enable?: true;
  readonly requireTotp?: boolean;
};

function addUpdateCommand(user: Command, cli: Cli): void {
  user
    .command('update')
    .description('change what a user may do, or disable it and end its tokens')
    .argument('<name>')
    .option('-p, --policy <name>', 'its policies from now on, in place of all it has; repeatable', collect)
    .option('--no-policies', 'take all its policies away')
    .option('--disable', 'refuse its logins and end its tokens')
    .option('--enable', 'let it log in again')
    .option('--require-totp', 'let it do nothing without a second factor')
    .option('--no-require-totp', 'leave that to it, where the tenant does')
    .action(async (name: string, { policy, policies, disable, enable, requireTotp }: UpdateOptions) => {
      if (disable && enable) throw new VaultError('invalid_request', '--disable and --enable exclude each other.');
      const patch: UpdateUserBody = {
        ...(policy === undefined ? {} : { policies: policy }),
        ...(policies === false ? { policies: [] } : {}),
        ...(disable || enable ? { disabled: disable ?? false } : {}),
        ...(requireTotp === undefined ? {} : { mfa_required: requireTotp }),
      };
      if (Object.keys(patch).length === 0) throw new VaultError('invalid_request', 'Say what to change; see --help.');
      await printUser(cli, await cli.client().users.patch(name, patch));
    });
}

function addPasswordCommand(user: Command, cli: Cli): void {
  user
    .command('password')
    .description('change your own password, or with a name give that user a new one')
    .argument('[name]')
    .option('--set', 'ask for the new password of that user; otherwise it gets a one-time password')
    .option('--generate', 'take a passphrase of six random words (Diceware) as your own new password, and show it')
    .addHelpText(
      'after',
      '\nWithout a terminal the answers are the lines of standard input: the current password, then the new one.',
    )
    .action(async (name: string | undefined, { set, generate }: { set?: true; generate?: true }) => {
      if (name !== undefined && generate) {
        throw new VaultError('invalid_request', '--generate is for your own password; leave the name out.');
      }
      if (name === undefined) return changeOwn(cli, generate ? await dicewarePassphrase() : undefined);
      const patch: UpdateUserBody = set ? { password: await askNewPassword(cli) } : { reset_password: true };
      await printUser(cli, await cli.client().users.patch(name, patch));
    });
}

/** All tokens end with the old password, so this logs in again where the login is ours to keep. */
async function changeOwn(cli: Cli, generated: string | undefined): Promise<void> {
  const { io, config } = cli;
  const client = cli.client();
  const { tenant, username } = await client.auth.self();
  const asker = createAsker(io);
  try {
    const current = await asker.secret('Current password');
    const change = (password: string) => client.auth.changePassword(current, password);
    if (generated !== undefined) await change(generated);
    const next = generated ?? (await choosePassword(asker, (text) => io.stderr.write(text), change));
    // At once: whatever fails from here on, nobody else knows it.
    if (generated !== undefined) {
      const shown = { generated_password: generated };
      await printFields(io, cli.json(), shown, [['new password', ({ generated_password }) => generated_password]]);
    }
    const done = (sentence: string) =>
      generated === undefined ? printDone(io, cli.json(), sentence) : print(io.stderr, `${sentence}\n`);
    if (config.token !== undefined)
      return await done('Changed. The token of BULLA_TOKEN has ended with the old password.');
    const answer = await loginWithCode(client, { tenant, username, password: next }, asker);
    keepToken(config.stateDir, cli.address(), keptOf(answer));
    await done('Changed. All other logins of yours have ended.');
  } finally {
    asker.close();
  }
}

async function askNewPassword(cli: Cli): Promise<string> {
  const asker = createAsker(cli.io);
  try {
    return await asker.newSecret('New password');
  } finally {
    asker.close();
  }
}

function factorOf({ totp, mfa_required }: User): string {
  if (totp) return 'yes';
  return mfa_required ? 'no, but required' : 'no';
}

function stateOf({ disabled, locked_until, password_change_required }: User): string {
  if (disabled) return 'disabled';
  if (locked_until !== null) return `locked until ${time(locked_until)}`;
  return password_change_required ? 'must change password' : 'active';
}

function printUser(cli: Cli, user: UserWithPassword & { readonly generated_password?: string }): Promise<void> {
  return printFields(cli.io, cli.json(), user, [
    ['username', ({ username }) => username],
    ['id', ({ id }) => id],
    ['policies', ({ policies }) => policies],
    ['groups', ({ groups }) => groups],
    ['state', stateOf],
    ['second factor', factorOf],
    ['created', ({ created_at }) => time(created_at)],
    ['last login', ({ last_login_at }) => time(last_login_at)],
    ...(user.one_time_password === undefined ? [] : [['one-time password', () => user.one_time_password] as const]),
    ...(user.generated_password === undefined ? [] : [['password', () => user.generated_password] as const]),
  ]);
}
