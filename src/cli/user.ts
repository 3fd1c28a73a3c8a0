/** `bulla user …`: the people of the tenant, and one's own password. */
import type { Command } from 'commander';
import type { UpdateUserBody, User, UserWithPassword } from '../client/index.ts';
import { VaultError } from '../errors.ts';
import { collect } from './argument.ts';
import type { Cli } from './cli.ts';
import { createAsker } from './io.ts';
import { keptOf } from './login.ts';
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
  user
    .command('unlock')
    .description('clear the failed logins of a user')
    .argument('<name>')
    .action(async (name: string) => printUser(cli, await cli.client().users.unlock(name)));
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

function addCreateCommand(user: Command, cli: Cli): void {
  user
    .command('create')
    .description('create a user; without --password with a one-time password, which is shown once')
    .argument('<name>')
    .option('-p, --policy <name>', 'what it may do; repeatable', collect)
    .option('--password', 'ask for its password, or take the first line of standard input')
    .action(async (name: string, { policy = [], password }: { policy?: string[]; password?: true }) => {
      const chosen = password ? { password: await askNewPassword(cli) } : {};
      await printUser(cli, await cli.client().users.create({ username: name, policies: policy, ...chosen }));
    });
}

type UpdateOptions = {
  readonly policy?: string[];
  readonly policies?: boolean;
  readonly disable?: true;
  readonly enable?: true;
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
    .action(async (name: string, { policy, policies, disable, enable }: UpdateOptions) => {
      if (disable && enable) throw new VaultError('invalid_request', '--disable and --enable exclude each other.');
      const patch: UpdateUserBody = {
        ...(policy === undefined ? {} : { policies: policy }),
        ...(policies === false ? { policies: [] } : {}),
        ...(disable || enable ? { disabled: disable ?? false } : {}),
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
    .addHelpText(
      'after',
      '\nWithout a terminal the answers are the lines of standard input: the current password, then the new one.',
    )
    .action(async (name: string | undefined, { set }: { set?: true }) => {
      if (name === undefined) return changeOwn(cli);
      const patch: UpdateUserBody = set ? { password: await askNewPassword(cli) } : { reset_password: true };
      await printUser(cli, await cli.client().users.patch(name, patch));
    });
}

/** All tokens end with the old password, so this logs in again where the login is ours to keep. */
async function changeOwn(cli: Cli): Promise<void> {
  const { io, config } = cli;
  const client = cli.client();
  const { tenant, username } = await client.auth.self();
  const asker = createAsker(io);
  try {
    const current = await asker.secret('Current password');
    const next = await asker.newSecret('New password');
    await client.auth.changePassword(current, next);
    if (config.token !== undefined) {
      await printDone(io, cli.json(), 'Changed. The token of BULLA_TOKEN has ended with the old password.');
      return;
    }
    const answer = await client.auth.login({ tenant, username, password: next });
    keepToken(config.stateDir, cli.address(), keptOf(answer));
    await printDone(io, cli.json(), 'Changed. All other logins of yours have ended.');
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

function stateOf({ disabled, locked_until, password_change_required }: User): string {
  if (disabled) return 'disabled';
  if (locked_until !== null) return `locked until ${time(locked_until)}`;
  return password_change_required ? 'must change password' : 'active';
}

function printUser(cli: Cli, user: UserWithPassword): Promise<void> {
  return printFields(cli.io, cli.json(), user, [
    ['username', ({ username }) => username],
    ['id', ({ id }) => id],
    ['policies', ({ policies }) => policies],
    ['state', stateOf],
    ['created', ({ created_at }) => time(created_at)],
    ['last login', ({ last_login_at }) => time(last_login_at)],
    ...(user.one_time_password === undefined ? [] : [['one-time password', () => user.one_time_password] as const]),
  ]);
}
