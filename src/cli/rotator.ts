/** `bulla rotator …`: stored secrets that get a new version by themselves. */
import type { Command } from 'commander';
import type { PutRotatorBody, Rotator } from '../client/index.ts';
import { wholeNumber } from './argument.ts';
import { readObject } from './backend.ts';
import type { Cli } from './cli.ts';
import { duration, printDone, printFields, printList, time } from './print.ts';

type PutOptions = {
  readonly kind: PutRotatorBody['kind'];
  readonly field?: string;
  readonly length?: number;
  readonly alphabet?: string;
  readonly account?: string;
  readonly every?: string;
  readonly grace?: string;
  readonly webhooks?: string | true;
};

export function addRotatorCommands(root: Command, cli: Cli): void {
  const rotator = root.command('rotator').description('stored secrets that get a new version by themselves');
  rotator
    .command('list')
    .description('list rotators')
    .action(() =>
      printList(cli.io, cli.json(), cli.client().rotators.list(), [
        ['secret', ({ path }) => path],
        ['kind', ({ kind }) => kind],
        ['every', ({ every }) => duration(every)],
        ['rotated', ({ rotated_at }) => time(rotated_at)],
        ['next', ({ next_at }) => time(next_at)],
        ['version', ({ version }) => version],
        ['last error', ({ last_error }) => last_error],
      ]),
    );
  rotator
    .command('show')
    .description('show how a secret rotates, and how that went')
    .argument('<path>')
    .action(async (path: string) => printFields(cli.io, cli.json(), await cli.client().rotators.get(path), FIELDS));
  addPutCommand(rotator, cli);
  rotator
    .command('rotate')
    .description('rotate a secret now')
    .argument('<path>')
    .action(async (path: string) => {
      const rotated = await cli.client().rotators.rotate(path);
      await printDone(cli.io, cli.json(), `The secret ${path} is at version ${rotated.version}.`, rotated);
    });
  rotator
    .command('delete')
    .description('let a secret rotate no more; it stays as it is')
    .argument('<path>')
    .action(async (path: string) => {
      await cli.client().rotators.delete(path);
      await printDone(cli.io, cli.json(), `The secret ${path} does not rotate any more.`);
    });
}

function addPutCommand(rotator: Command, cli: Cli): void {
  rotator
    .command('put')
    .description('let a secret rotate by itself, or change how; one that is not there gets its first version')
    .argument('<path>')
    .requiredOption('--kind <kind>', 'password, diceware, account or webhook')
    .option('--field <name>', 'the member of its data that changes; the whole secret when absent')
    .option('--length <number>', 'of a password', wholeNumber)
    .option('--alphabet <characters>', 'of a password')
    .option('--account <name>', 'the static account whose password it has')
    .option('--every <duration>', 'how often, such as 30d')
    .option('--grace <duration>', 'how long the version before stays readable; a day when absent')
    .option('--webhooks [file]', 'read {"webhook": …, "notify": …} from standard input or this file')
    .addHelpText('after', PUT_EXAMPLE)
    .action(async (path: string, { webhooks, ...options }: PutOptions) => {
      const hooks = webhooks === undefined ? {} : await readObject(cli, webhooks === true ? undefined : webhooks);
      const stored = await cli.client().rotators.put(path, { ...options, ...hooks } as PutRotatorBody);
      const done =
        stored.last_error === null
          ? `The secret ${path} rotates${stored.next_at === null ? ' when asked' : `, next at ${time(stored.next_at)}`}.`
          : `Stored, but the secret ${path} was not rotated and is tried again: ${stored.last_error}`;
      await printDone(cli.io, cli.json(), done, stored);
    });
}

const PUT_EXAMPLE = `
  bulla rotator put prod/web/session-key --kind password --every 30d
  bulla rotator put prod/billing/db --kind account --account billing --every 1d
  bulla rotator put prod/mail/key --kind webhook --every 7d --webhooks <<'END'
  {"webhook": {"url": "https://mail.example/next-key", "secret": "whsec_…"}}
  END`;

const FIELDS = [
  ['secret', ({ path }: Rotator) => path],
  ['kind', ({ kind }: Rotator) => kind],
  ['field', ({ field }: Rotator) => field],
  ['account', ({ account }: Rotator) => account],
  ['asks', ({ webhook }: Rotator) => webhook?.url],
  ['tells', ({ notify }: Rotator) => notify?.url],
  ['every', ({ every }: Rotator) => duration(every)],
  ['grace', ({ grace }: Rotator) => duration(grace)],
  ['rotated', ({ rotated_at }: Rotator) => time(rotated_at)],
  ['next', ({ next_at }: Rotator) => time(next_at)],
  ['version', ({ version }: Rotator) => version],
  ['failed tries', ({ attempts }: Rotator) => attempts],
  ['last error', ({ last_error }: Rotator) => last_error],
  ['not told because', ({ notice_error }: Rotator) => notice_error],
] as const;
