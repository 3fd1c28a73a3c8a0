/** `bulla key …` and `bulla root-key …`: versions, and rotation while everything goes on. */
import type { Command } from 'commander';
import type { Cli } from './cli.ts';
import { printDone, printList, time } from './print.ts';

export function addKeyCommands(root: Command, cli: Cli): void {
  const key = root.command('key').description('the tenant’s data key');
  key
    .command('list')
    .description('list its versions, and how many rows still depend on each')
    .action(() =>
      printList(cli.io, cli.json(), cli.client().keys.list(), [
        ['version', ({ version }) => version],
        ['state', ({ state }) => state],
        ['fingerprint', ({ fingerprint }) => fingerprint],
        ['root key', ({ root_version }) => root_version],
        ['depends', ({ depends }) => depends],
        ['created', ({ created_at }) => time(created_at)],
        ['destroyed', ({ destroyed_at }) => time(destroyed_at)],
      ]),
    );
  key
    .command('rotate')
    .description('make a new version for all new writes; older ones still open what they encrypted')
    .action(async () => {
      const made = await cli.client().keys.rotate();
      await printDone(cli.io, cli.json(), `New writes use version ${made.version} (${made.fingerprint}).`, made);
    });

  const rootKey = root.command('root-key').description('the key that wraps all data keys (operators)');
  rootKey
    .command('list')
    .description('list its versions')
    .action(() =>
      printList(cli.io, cli.json(), cli.client().rootKeys.list(), [
        ['version', ({ version }) => version],
        ['state', ({ state }) => state],
        ['fingerprint', ({ fingerprint }) => fingerprint],
        ['seal', ({ seal }) => seal],
        ['created', ({ created_at }) => time(created_at)],
        ['destroyed', ({ destroyed_at }) => time(destroyed_at)],
      ]),
    );
  rootKey
    .command('rotate')
    .description('make a new version, wrap every data key under it and destroy the old one')
    .action(async () => {
      const made = await cli.client().rootKeys.rotate();
      await printDone(
        cli.io,
        cli.json(),
        `Version ${made.version} (${made.fingerprint}) wraps ${made.rewrapped} keys; version ${made.destroyed_version} is destroyed.`,
        made,
      );
    });
}
