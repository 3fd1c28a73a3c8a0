/** `bulla lease …`: credentials and accesses that end by themselves. */
import type { Command } from 'commander';
import type { CreateLeaseBody, Lease, RevokeLeasesBody, TakenLease } from '../client/index.ts';
import { VaultError } from '../errors.ts';
import { pair, wholeNumber } from './argument.ts';
import type { Cli } from './cli.ts';
import { confirm } from './confirm.ts';
import { print } from './io.ts';
import { clean, duration, printDone, printFields, printJson, printList, time } from './print.ts';

export function addLeaseCommands(root: Command, cli: Cli): void {
  const lease = root.command('lease').description('credentials and accesses that end by themselves');
  addTakeCommand(lease, cli);
  addShareCommand(lease, cli);
  addListCommand(lease, cli);
  lease
    .command('show')
    .description('show a lease, without its credential')
    .argument('<id>')
    .action(async (id: string) => printFields(cli.io, cli.json(), await cli.client().leases.get(id), FIELDS));
  lease
    .command('renew')
    .description('let a lease last longer, counted from now')
    .argument('<id>')
    .option('--ttl <duration>', 'for how long, such as 30m; otherwise what it was taken for')
    .action(async (id: string, { ttl }: { ttl?: string }) => {
      const renewed = await cli.client().leases.renew(id, { ttl });
      await printDone(cli.io, cli.json(), `Renewed until ${time(renewed.expires_at)}.`, renewed);
    });
  addRevokeCommand(lease, cli);
  addSweeperCommand(lease, cli);
}

type TakeOptions = {
  readonly ttl?: string;
  readonly parameter?: Record<string, string>;
  readonly idempotencyKey?: string;
};

function addTakeCommand(lease: Command, cli: Cli): void {
  lease
    .command('take')
    .description('take a dynamic credential; it is printed once')
    .argument('<role>', 'backend/role, such as db/reporting')
    .option('--ttl <duration>', 'for how long, such as 15m; shortened to what is allowed')
    .option('--parameter <name=value>', 'what the kind of the backend takes beside; repeatable', pair)
    .option('--idempotency-key <key>', 'the same key gives the same credential again')
    .action(async (role: string, { ttl, parameter, idempotencyKey }: TakeOptions) => {
      const wanted = { role, ...(ttl ? { ttl } : {}), ...(parameter ? { parameters: parameter } : {}) };
      await printTaken(cli, await cli.client().leases.take(wanted as CreateLeaseBody, { idempotencyKey }));
    });
}

function addShareCommand(lease: Command, cli: Cli): void {
  lease
    .command('share')
    .description('make a token that reads just one secret, so often, until then; it is printed once')
    .argument('<secret>')
    .option('--ttl <duration>', 'for how long, such as 15m')
    .option('--uses <number>', 'how often it can be read; any number of times when absent', wholeNumber)
    .addHelpText('after', '\n  bulla lease share prod/web/tls --ttl 15m --uses 1')
    .action(async (secret: string, { ttl, uses }: { ttl?: string; uses?: number }) => {
      const wanted = { secret, ...(ttl ? { ttl } : {}), ...(uses === undefined ? {} : { uses }) };
      const taken = await cli.client().leases.take(wanted);
      if (cli.json()) return printJson(cli.io, taken);
      // Alone on standard output, so that it can go on in a pipe.
      cli.io.stderr.write(`Lease ${taken.id}, until ${time(taken.expires_at)}.\n`);
      await print(cli.io.stdout, `${taken.token}\n`);
    });
}

/** The credential is what was asked for, so here it is shown. */
async function printTaken(cli: Cli, taken: TakenLease): Promise<void> {
  if (cli.json()) return printJson(cli.io, taken);
  cli.io.stderr.write(`Lease ${taken.id}, until ${time(taken.expires_at)}.\n`);
  const lines = Object.entries(taken.credential ?? {}).map(([name, value]) => `${name}=${clean(String(value))}\n`);
  await print(cli.io.stdout, lines.join(''));
}

type ListOptions = {
  readonly state?: string;
  readonly prefix?: string;
  readonly holder?: string;
  readonly accessor?: string;
};

function addListCommand(lease: Command, cli: Cli): void {
  lease
    .command('list')
    .description('list leases, without their credentials')
    .option('--state <state>', 'pending, active, revoking, checking, ended, or stuck')
    .option('--prefix <prefix>', 'of the path, such as db')
    .option('--holder <name>', 'who took them')
    .option('--accessor <accessor>', 'of the token that took them')
    .action((options: ListOptions) =>
      printList(cli.io, cli.json(), cli.client().leases.list(options as object), [
        ['id', ({ id }) => id],
        ['path', ({ path }) => path],
        ['holder', ({ holder }) => holder],
        ['state', (one) => (one.stuck ? 'stuck' : one.state)],
        ['taken', ({ issued_at }) => time(issued_at)],
        ['ends', ({ expires_at }) => time(expires_at)],
        ['renewals', ({ renewals }) => renewals],
        ['last error', ({ last_error }) => last_error],
      ]),
    );
}

type RevokeOptions = {
  readonly force?: true;
  readonly yes?: true;
  readonly prefix?: string;
  readonly role?: string;
  readonly holder?: string;
  readonly accessor?: string;
  readonly all?: true;
};

function addRevokeCommand(lease: Command, cli: Cli): void {
  lease
    .command('revoke')
    .description('end one lease by its id, or many by what they have in common')
    .argument('[id]')
    .option('--prefix <prefix>', 'all below this path')
    .option('--role <role>', 'all of this role, such as db/reporting')
    .option('--holder <name>', 'all that this account took')
    .option('--accessor <accessor>', 'all that this token took')
    .option('--all', 'all of the tenant')
    .option('--force', 'drop it although its credential may still work: for a target that is gone for good')
    .option('--yes', 'do not ask')
    .action(async (id: string | undefined, options: RevokeOptions) => {
      const { force, yes, ...which } = options;
      const many = Object.keys(which).length;
      if ((id === undefined) === (many === 0) || (force && id === undefined)) {
        throw new VaultError(
          'invalid_request',
          'Give either the id of a lease, or one of --prefix, --role, --holder, --accessor and --all.',
        );
      }
      if (id === undefined) return revokeMany(cli, which, yes ?? false);
      if (force) return dropOne(cli, id, yes ?? false);
      const lease = await cli.client().leases.revoke(id);
      const done =
        lease.state === 'ended'
          ? 'Its credential is gone.'
          : `It is being revoked, and tried until it is gone${lease.last_error ? `: ${lease.last_error}` : '.'}`;
      await printDone(cli.io, cli.json(), `Revoked the lease ${id}. ${done}`, lease);
    });
}

async function revokeMany(cli: Cli, which: object, yes: boolean): Promise<void> {
  if ('all' in which && !yes) await confirm(cli.io, 'Every lease of the tenant is revoked.', 'all');
  const { condemned } = await cli.client().leases.revokeMany(which as RevokeLeasesBody);
  await printDone(cli.io, cli.json(), `${condemned} leases are being revoked.`, { condemned });
}

async function dropOne(cli: Cli, id: string, yes: boolean): Promise<void> {
  if (!yes) await confirm(cli.io, 'The lease is forgotten, and its credential may go on working.', id);
  const dropped = await cli.client().leases.dropByForceAlthoughItsCredentialMayStillWork(id);
  cli.io.stderr.write(`${clean(dropped.warning ?? '')}\n`);
  await printDone(cli.io, cli.json(), `Dropped the lease ${id}.`, dropped);
}

function addSweeperCommand(lease: Command, cli: Cli): void {
  lease
    .command('sweeper')
    .description('whether leases expire, or wait for a clock that has jumped (operators)')
    .option('--confirm', 'the time is right: leases expire again')
    .action(async ({ confirm: confirmed }: { confirm?: true }) => {
      const leases = cli.client().leases;
      const found = confirmed ? await leases.confirmClock() : await leases.sweeper();
      await printFields(cli.io, cli.json(), found, [
        ['waits for a confirmed clock', ({ latched }) => latched],
        ['since', ({ latched_at }) => time(latched_at)],
        ['jump', ({ jump_seconds }) => duration(jump_seconds)],
        ['time of the database', ({ now }) => time(now)],
      ]);
    });
}

const FIELDS = [
  ['id', ({ id }: Lease) => id],
  ['path', ({ path }: Lease) => path],
  ['state', (one: Lease) => (one.stuck ? 'stuck' : one.state)],
  ['why', ({ reason }: Lease) => reason],
  ['holder', ({ holder }: Lease) => holder],
  ['called', ({ handle }: Lease) => handle],
  ['token', ({ token_accessor }: Lease) => token_accessor],
  ['taken', ({ issued_at }: Lease) => time(issued_at)],
  ['ends', ({ expires_at }: Lease) => time(expires_at)],
  ['ends at the latest', ({ max_expires_at }: Lease) => time(max_expires_at)],
  ['renewals', ({ renewals }: Lease) => renewals],
  ['failed revocations', ({ attempts }: Lease) => attempts],
  ['last error', ({ last_error }: Lease) => last_error],
] as const;
