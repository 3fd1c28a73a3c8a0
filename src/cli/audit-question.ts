/** `bulla audit who-can | who-did | unread | actor | request | denials`: an auditor's questions, answered in tables. */
import type { Command } from 'commander';
import type { AuditFilter } from '../client/index.ts';
import { VaultError } from '../errors.ts';
import { wholeNumber } from './argument.ts';
import type { Cli } from './cli.ts';
import { type Column, printList, time } from './print.ts';

type Stretch = { readonly from?: string; readonly to?: string };

export function addQuestionCommands(audit: Command, cli: Cli): void {
  const ask = () => cli.client().audit;
  audit
    .command('who-can')
    .description('who could read a secret (or do what --action says), by the policies as they are now')
    .argument('<path>', 'of a secret, or <kind>:<name>')
    .option('--action <action>', 'such as secret.write')
    .action((path: string, options: { action?: string }) =>
      printList(cli.io, cli.json(), ask().whoCan(resourceOf(path), options), [
        ['who', ({ kind, name }) => (kind === 'account' ? name : `${kind.replace('_', ' ')} ${name}`)],
        ['when', ({ when, approval }) => `${when.replace('_', ' ')}${approval ? ', approved by others' : ''}`],
        ['by policy', ({ policies }) => policies],
        ['disabled', ({ disabled }) => disabled],
      ]),
    );
  withStretch(audit.command('who-did'))
    .description('who touched a secret, how often and when last')
    .argument('<path>', 'of a secret, or a glob such as "prod/**"')
    .option('--action <action>', 'only this, such as secret.read')
    .action(async (path: string, options: Stretch & { action?: string }) =>
      printList(cli.io, cli.json(), await ask().whoDid(resourceOf(path), options), [
        ['actor', ({ actor }) => actor],
        ['ok', ({ ok }) => ok],
        ['denied', ({ denied }) => denied],
        ['error', ({ error }) => error],
        ['first', ({ first_at }) => time(first_at)],
        ['last', ({ last_at }) => time(last_at)],
      ]),
    );
  audit
    .command('unread')
    .description('secrets that nobody has read for some days')
    .option('--days <number>', 'how many', wholeNumber, 90)
    .action(async ({ days }: { days: number }) =>
      printList(cli.io, cli.json(), await ask().unread(days), [
        ['path', ({ path }) => path],
        ['created', ({ created_at }) => time(created_at)],
      ]),
    );
  withStretch(audit.command('actor'))
    .description('everything that somebody did')
    .argument('<name>', 'or id')
    .action((actor: string, stretch: Stretch) => printEntries(cli, { actor, ...stretch }));
  audit
    .command('request')
    .description('everything that was done in one request')
    .argument('<id>')
    .action((request: string) => printEntries(cli, { request }));
  audit
    .command('denials')
    .description('everything that was denied on a day')
    .option('--day <date>', 'such as 2026-01-31, in UTC; today unless said')
    .action(({ day }: { day?: string }) => printEntries(cli, { outcome: 'denied', ...dayOf(day) }));
}

function withStretch(command: Command): Command {
  return command.option('--from <time>', 'from this time on (RFC 3339)').option('--to <time>', 'until this time');
}

const resourceOf = (path: string) => (path.includes(':') ? path : `secret:${path}`);

function dayOf(day = new Date().toISOString().slice(0, 10)): Stretch {
  if (!/^\d{4}-\d{2}-\d{2}$/.test(day) || Number.isNaN(Date.parse(day))) {
    throw new VaultError('invalid_request', '--day: expected a date such as 2026-01-31.');
  }
  return { from: `${day}T00:00:00Z`, to: `${day}T23:59:59.999999Z` };
}

type Entry = {
  readonly time: string;
  readonly outcome: string;
  readonly code?: string;
  readonly action: string;
  readonly resource?: string;
  readonly source: string;
  readonly request: string;
  readonly actor: { readonly kind: string; readonly name?: string };
};

const COLUMNS: readonly Column<Entry>[] = [
  ['time', (entry) => time(entry.time)],
  ['outcome', ({ outcome }) => outcome],
  ['actor', ({ actor }) => actor.name ?? actor.kind],
  ['action', ({ action }) => action],
  ['resource', ({ resource }) => resource],
  ['code', ({ code }) => code],
  ['source', ({ source }) => source],
  ['request', ({ request }) => request],
];

async function printEntries(cli: Cli, filter: AuditFilter): Promise<void> {
  const pieces = await cli.client().audit.entries(filter);
  await printList(cli.io, cli.json(), entriesOf(pieces), COLUMNS);
}

async function* entriesOf(pieces: AsyncIterable<Buffer>): AsyncGenerator<Entry, void, undefined> {
  let kept = Buffer.alloc(0);
  for await (const piece of pieces) {
    const bytes = Buffer.concat([kept, piece]);
    const end = bytes.lastIndexOf(0x0a) + 1;
    kept = Buffer.from(bytes.subarray(end));
    for (const line of bytes.toString('utf8', 0, end).split('\n')) if (line !== '') yield JSON.parse(line) as Entry;
  }
}
