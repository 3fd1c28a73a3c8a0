/** `bulla group …`: what several users and services may do alike. */
import type { Command } from 'commander';
import type { Group, UpdateGroupBody } from '../client/index.ts';
import { VaultError } from '../errors.ts';
import { collect } from './argument.ts';
import type { Cli } from './cli.ts';
import { type Column, printDone, printFields, printList, time } from './print.ts';

const COLUMNS: readonly Column<Group>[] = [
  ['name', ({ name }) => name],
  ['policies', ({ policies }) => policies],
  ['members', ({ members }) => members],
  ['changed', ({ updated_at }) => time(updated_at)],
];

export function addGroupCommands(root: Command, cli: Cli): void {
  const group = root.command('group').description('groups of users and services, which share policies');
  group
    .command('list')
    .description('list groups')
    .action(() => printList(cli.io, cli.json(), cli.client().groups.list(), COLUMNS));
  group
    .command('create')
    .description('create a group')
    .argument('<name>')
    .option('-p, --policy <name>', 'what its members may do; repeatable', collect)
    .option('-m, --member <username>', 'who is in it; repeatable', collect)
    .action(async (name: string, { policy = [], member = [] }: { policy?: string[]; member?: string[] }) =>
      printGroup(cli, await cli.client().groups.create({ name, policies: policy, members: member })),
    );
  group
    .command('show')
    .description('show a group')
    .argument('<name>')
    .action(async (name: string) => printGroup(cli, await cli.client().groups.get(name)));
  group
    .command('members')
    .description('list who is in a group')
    .argument('<name>')
    .action((name: string) =>
      printList(cli.io, cli.json(), cli.client().groups.members(name), [
        ['username', ({ username }) => username],
        ['kind', ({ kind }) => kind],
        ['since', ({ added_at }) => time(added_at)],
      ]),
    );
  addChangeCommands(group, cli);
  group
    .command('delete')
    .description('delete a group; its members keep what they hold themselves')
    .argument('<name>')
    .action(async (name: string) => {
      await cli.client().groups.delete(name);
      await printDone(cli.io, cli.json(), `Deleted the group ${name}.`);
    });
}

function addChangeCommands(group: Command, cli: Cli): void {
  const patch = async (name: string, change: UpdateGroupBody) =>
    printGroup(cli, await cli.client().groups.patch(name, change));
  group
    .command('update')
    .description('change what the members of a group may do')
    .argument('<name>')
    .option('-p, --policy <name>', 'its policies from now on, in place of all it has; repeatable', collect)
    .option('--no-policies', 'take all its policies away')
    .action(async (name: string, { policy, policies }: { policy?: string[]; policies?: boolean }) => {
      if (policy === undefined && policies !== false) {
        throw new VaultError('invalid_request', 'Say what to change; see --help.');
      }
      await patch(name, { policies: policy ?? [] });
    });
  group
    .command('add')
    .description('put users or services into a group')
    .argument('<name>')
    .argument('<username...>')
    .action((name: string, usernames: string[]) => patch(name, { add_members: usernames }));
  group
    .command('remove')
    .description('take users or services out of a group')
    .argument('<name>')
    .argument('<username...>')
    .action((name: string, usernames: string[]) => patch(name, { remove_members: usernames }));
}

function printGroup(cli: Cli, found: Group): Promise<void> {
  return printFields(cli.io, cli.json(), found, [...COLUMNS, ['id', ({ id }) => id]]);
}
