/** `bulla pepper …`: the secret that every password is hashed with, for operators. */
import type { Command } from 'commander';
import { wholeNumber } from './argument.ts';
import type { Cli } from './cli.ts';
import { confirm } from './confirm.ts';
import { printDone, printList, time } from './print.ts';

export function addPepperCommands(root: Command, cli: Cli): void {
  const pepper = root.command('pepper').description('the secret that passwords are hashed with (operators)');
  pepper
    .command('list')
    .description('list its versions, and how many passwords depend on each')
    .action(() =>
      printList(cli.io, cli.json(), cli.client().peppers.list(), [
        ['version', ({ version }) => version],
        ['state', ({ state }) => state],
        ['users', ({ users }) => users],
        ['created', ({ created_at }) => time(created_at)],
        ['destroyed', ({ destroyed_at }) => time(destroyed_at)],
      ]),
    );
  pepper
    .command('rotate')
    .description('make a new version; each user takes it at the next login')
    .action(async () => {
      const made = await cli.client().peppers.rotate();
      await printDone(cli.io, cli.json(), `New passwords use pepper version ${made.version}.`, made);
    });
  pepper
    .command('users')
    .description('list whose password depends on a version: of an old one, who has not come back')
    .argument('<version>', 'the version', wholeNumber)
    .option('--absent-for <duration>', 'only who has not logged in for so long, such as 30d')
    .action((version: number, { absentFor }: { absentFor?: string }) =>
      printList(cli.io, cli.json(), cli.client().peppers.users(version, { absentFor }), [
        ['tenant', ({ tenant }) => tenant],
        ['user', ({ username }) => username],
        ['last login', ({ last_login_at }) => time(last_login_at)],
      ]),
    );
  pepper
    .command('destroy')
    .description('destroy an old version that no password depends on')
    .argument('<version>', 'the version', wholeNumber)
    .option('--end-passwords', 'end the passwords that depend on it: their users must be given new ones')
    .option('--yes', 'do not ask')
    .action(async (version: number, { endPasswords, yes }: { endPasswords?: true; yes?: true }) => {
      const question = `Destroy pepper version ${version}${endPasswords ? ' and every password under it' : ''}?`;
      if (!yes) await confirm(cli.io, question, String(version));
      await cli.client().peppers.destroy(version, { endPasswords: endPasswords ?? false });
      await printDone(cli.io, cli.json(), `Pepper version ${version} is destroyed.`);
    });
}
