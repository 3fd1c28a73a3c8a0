/** `bulla audit tail`, `checkpoint`, `key` and `acknowledge-rollback`. */
import { join } from 'node:path';
import type { Command } from 'commander';
import { VaultError } from '../errors.ts';
import { wholeNumber } from './argument.ts';
import type { Cli } from './cli.ts';
import { print } from './io.ts';
import { clean, printDone, time } from './print.ts';

export function addFollowCommands(audit: Command, cli: Cli): void {
  audit
    .command('tail')
    .description('show entries as they are written, until interrupted')
    .option('--from-index <number>', 'from this entry on', wholeNumber)
    .action((options: { fromIndex?: number }) => tail(cli, options.fromIndex));
  audit
    .command('checkpoint')
    .description('have the log signed as it is, and print the note')
    .option('--newest', 'print the newest one instead')
    .option('--log <tenant id>', 'the last of a tenant that was deleted (operators)')
    .action(async ({ newest, log }: { newest?: true; log?: string }) => {
      const { audit } = cli.client();
      await print(cli.io.stdout, newest || log !== undefined ? await audit.checkpoint({ log }) : await audit.sign());
    });
  audit
    .command('key')
    .description('print the key that checkpoints verify under')
    .option('--all', 'those that sign no more too')
    .option('--log <tenant id>', 'of the log of a tenant that was deleted (operators)')
    .action(async ({ all, log }: { all?: true; log?: string }) =>
      print(cli.io.stdout, await cli.client().audit.key({ all: all ?? false, log })),
    );
  audit
    .command('rotate-key')
    .description('make a new key that signs checkpoints (operators)')
    .action(async () => {
      const made = await cli.client().audit.rotateKey();
      await printDone(
        cli.io,
        cli.json(),
        `Checkpoints are signed by log key version ${made.version} from now on.`,
        made,
      );
    });
  audit
    .command('retention')
    .description('show or set how long lines are kept; export what goes before: bulla audit export FILE --proof')
    .option('--days <number>', 'remove older lines; their hashes stay', wholeNumber)
    .option('--for-ever', 'remove none')
    .action(async ({ days, forEver }: { days?: number; forEver?: true }) => {
      const { audit: log } = cli.client();
      const now = days === undefined && !forEver ? await log.retention() : await log.retain(forEver ? null : days!);
      const kept = now.days === null ? 'Lines are kept for ever.' : `Lines are kept for ${now.days} days.`;
      await printDone(cli.io, cli.json(), `${kept} Those before entry ${now.removed_to} are gone.`, now);
    });
  audit
    .command('acknowledge-rollback')
    .description('let a server start on an older database than it signed; on its machine, with its settings')
    .action(() => acknowledge(cli));
}

async function tail(cli: Cli, fromIndex: number | undefined): Promise<void> {
  const pieces = await cli.client().audit.tail(fromIndex === undefined ? {} : { fromIndex });
  let kept = '';
  for await (const piece of pieces) {
    const events = (kept + piece.toString('utf8')).split('\n');
    kept = events.pop()!;
    for (const line of events) {
      if (!line.startsWith('data: ')) continue;
      const entry = line.slice('data: '.length);
      await print(cli.io.stdout, `${cli.json() ? entry : shown(entry)}\n`);
    }
  }
}

type Line = {
  readonly time: string;
  readonly outcome: string;
  readonly action: string;
  readonly resource?: string;
  readonly source: string;
  readonly actor: { readonly kind: string; readonly name?: string };
};

function shown(line: string): string {
  const { time: at, outcome, action, resource = '-', source, actor } = JSON.parse(line) as Line;
  return clean([time(at), outcome.padEnd(6), actor.name ?? actor.kind, action, resource, source].join('  '));
}

/** Sets the mark aside, as whoever may write beside the data. */
async function acknowledge(cli: Cli): Promise<void> {
  const { loadConfig } = await import('../config.ts');
  const { acknowledgeRollback } = await import('../audit/mark.ts');
  const { resolveDataDir } = await import('../db/embedded-directory.ts');
  const { auditMarkFile, dataDir, dataDirConfigured } = loadConfig();
  const file = auditMarkFile ?? join(resolveDataDir(dataDir, dataDirConfigured), 'audit-mark.jsonl');
  if (!acknowledgeRollback(file)) {
    throw new VaultError('not_found', `There is no ${file}: set BULLA_DATA_DIR as for the server.`);
  }
  await printDone(
    cli.io,
    cli.json(),
    `The next start goes on from the database as it is, and records that. (${file})`,
    {
      file,
    },
  );
}
