/** `bulla key …` and `bulla root-key …`: versions, and rotation while everything goes on. */
import type { Command } from 'commander';
import { wholeNumber } from './argument.ts';
import type { Cli } from './cli.ts';
import { confirm } from './confirm.ts';
import { followJob } from './job.ts';
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
    .option('--reencrypt', 'move everything stored to it, destroy the older versions, and wait for the end')
    .option('--detach', 'with --reencrypt: do not wait')
    .action(async ({ reencrypt, detach }: { reencrypt?: true; detach?: true }) => {
      if (reencrypt) {
        const { job, ...made } = await cli.client().keys.reencrypt();
        const sentence = `New writes use version ${made.version} (${made.fingerprint}); job ${job.id} moves the rest.`;
        if (detach) return printDone(cli.io, cli.json(), sentence, { ...made, job });
        if (!cli.json()) await printDone(cli.io, false, sentence);
        return followJob(cli, job);
      }
      const made = await cli.client().keys.rotate();
      await printDone(cli.io, cli.json(), `New writes use version ${made.version} (${made.fingerprint}).`, made);
    });

  key
    .command('destroy')
    .description('destroy a version that nothing stored depends on')
    .argument('<version>', 'the version', wholeNumber)
    .option('--yes', 'do not ask')
    .action(async (version: number, { yes }: { yes?: true }) => {
      if (!yes) await confirm(cli.io, `Destroy version ${version} of the data key?`, String(version));
      await cli.client().keys.destroy(version);
      await printDone(cli.io, cli.json(), `Version ${version} is destroyed.`);
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
