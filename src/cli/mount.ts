/** `bulla mount …`: parts of the tree of secrets under names of their own, for clients under /v1. */
import type { Command } from 'commander';
import { wholeNumber } from './argument.ts';
import type { Cli } from './cli.ts';
import { printDone, printList, time } from './print.ts';

type Settings = {
  readonly versionsKept?: number;
  readonly casRequired?: true;
  readonly casOptional?: true;
  readonly deleteAfter?: string;
};

export function addMountCommands(root: Command, cli: Cli): void {
  const mount = root
    .command('mount')
    .description('parts of the tree of secrets under names of their own, for Vault clients');
  mount
    .command('list')
    .description('list them, with the settings of their secrets')
    .action(async () =>
      printList(cli.io, cli.json(), await cli.client().mounts.list(), [
        ['path', ({ path }) => `${path}/`],
        ['prefix', ({ prefix }) => prefix || '(all)'],
        ['version', ({ version }) => version],
        ['kept', ({ versions_kept }) => versions_kept],
        ['cas', ({ cas_required }) => (cas_required ? 'required' : '')],
        ['made', ({ created_at }) => time(created_at)],
      ]),
    );
  mount
    .command('create')
    .description('give what lies under a path a name of its own')
    .argument('<path>')
    .option('--kv <version>', '1: one value a secret; 2: versions', wholeNumber, 2)
    .option('--prefix <path>', 'where in the tree; the path of the mount when absent')
    .option('--description <text>')
    .action(async (path: string, options: { kv: number; prefix?: string; description?: string }) => {
      const { kv, ...rest } = options;
      const made = await cli.client().mounts.create({ path, version: kv as 1 | 2, ...rest });
      await printDone(cli.io, cli.json(), `Mounted ${made.path}/ at ${made.prefix}/.`, made);
    });
  mount
    .command('set')
    .description('change what holds for its secrets, where a secret has no setting of its own')
    .argument('<path>')
    .option('--versions-kept <count>', 'how many versions are kept', wholeNumber)
    .option('--cas-required', 'a write says which version it replaces')
    .option('--cas-optional', 'it need not')
    .option('--delete-after <duration>', 'how long after its writing a version is readable, such as 30d')
    .action(async (path: string, { versionsKept, casRequired, casOptional, deleteAfter }: Settings) => {
      const change = {
        ...(versionsKept === undefined ? {} : { versions_kept: versionsKept }),
        ...(casRequired ? { cas_required: true } : casOptional ? { cas_required: false } : {}),
        ...(deleteAfter === undefined ? {} : { delete_after: deleteAfter }),
      };
      const changed = await cli.client().mounts.change(path, change);
      await printDone(cli.io, cli.json(), `Changed what holds for the secrets of ${changed.path}/.`, changed);
    });
  mount
    .command('remove')
    .description('take the name away; refused while there are secrets under it')
    .argument('<path>')
    .action(async (path: string) => {
      await cli.client().mounts.remove(path);
      await printDone(cli.io, cli.json(), `Removed the mount ${path}/.`);
    });
}
