/** `bulla account …`: accounts that are at a target already, and whose password the vault changes. */
import type { Command } from 'commander';
import type { Account, PutAccountBody } from '../client/index.ts';
import type { Cli } from './cli.ts';
import { confirm } from './confirm.ts';
import { createAsker, print } from './io.ts';
import { clean, duration, printDone, printFields, printJson, printList, time } from './print.ts';

type PutOptions = {
  readonly backend: string;
  readonly username: string;
  readonly password?: true;
  readonly rotationPeriod?: string;
  readonly keepSessions?: true;
  readonly defaultTtl?: string;
  readonly maxTtl?: string;
};

export function addAccountCommands(root: Command, cli: Cli): void {
  const account = root.command('account').description('accounts at a target whose password the vault changes');
  account
    .command('list')
    .description('list static accounts')
    .option('--state <state>', 'active, rotating or stuck')
    .action(({ state }: { state?: Account['state'] }) =>
      printList(cli.io, cli.json(), cli.client().accounts.list({ state }), [
        ['name', ({ name }) => name],
        ['backend', ({ backend }) => backend],
        ['username', ({ username }) => username],
        ['state', ({ state: now }) => now],
        ['rotated', ({ rotated_at }) => time(rotated_at)],
        ['next rotation', ({ next_rotation_at }) => time(next_rotation_at)],
        ['held until', ({ held_until }) => time(held_until)],
        ['last error', ({ last_error }) => last_error],
      ]),
    );
  account
    .command('show')
    .description('show a static account, without its password')
    .argument('<name>')
    .action(async (name: string) => printFields(cli.io, cli.json(), await cli.client().accounts.get(name), FIELDS));
  addPutCommand(account, cli);
  addUseCommands(account, cli);
  account
    .command('rotate')
    .description('change its password now')
    .argument('<name>')
    .action(async (name: string) => {
      const rotated = await cli.client().accounts.rotate(name);
      await printDone(cli.io, cli.json(), `The account ${name} has a new password.`, rotated);
    });
  account
    .command('delete')
    .description('forget a static account; at its target it stays, with the password that it has')
    .argument('<name>')
    .option('--revoke', 'revoke its lease first; otherwise it is refused while somebody has it')
    .option('--force', 'although it may have either of two passwords, which nobody knows then')
    .option('--yes', 'do not ask')
    .action(async (name: string, { revoke, force, yes }: { revoke?: true; force?: true; yes?: true }) => {
      if (force && !yes) await confirm(cli.io, 'Nobody can say then which password the account has.', name);
      const { accounts } = cli.client();
      if (force) await accounts.deleteAlthoughNobodyKnowsItsPasswordThen(name, { revoke });
      else await accounts.delete(name, { revoke });
      await printDone(cli.io, cli.json(), `Deleted the account ${name}.`);
    });
}

function addPutCommand(account: Command, cli: Cli): void {
  account
    .command('put')
    .description('create or change a static account; a new one without --password gets another password at once')
    .argument('<name>')
    .requiredOption('--backend <backend>', 'whose target it is at')
    .requiredOption('--username <username>', 'as the target writes it')
    .option('--password', 'it has this one, from a prompt or standard input; it is proven by a login')
    .option('--rotation-period <duration>', 'change the password this often, such as 24h')
    .option('--keep-sessions', 'do not end its sessions when it is checked in')
    .option('--default-ttl <duration>', 'of a check-out, unless a request says otherwise')
    .option('--max-ttl <duration>', 'of a check-out, whatever is asked for')
    .addHelpText('after', PUT_EXAMPLE)
    .action(async (name: string, options: PutOptions) => {
      const stored = await cli.client().accounts.put(name, await bodyOf(cli, options));
      const done =
        stored.state === 'active'
          ? `Stored the account ${name}; its password is proven.`
          : `Stored the account ${name}, but its password is not proven: ${stored.last_error ?? 'see bulla account show'}`;
      await printDone(cli.io, cli.json(), done, stored);
    });
}

const PUT_EXAMPLE = `
  bulla account put billing --backend db --username billing_app --rotation-period 24h
  bulla account take billing --ttl 1h`;

async function bodyOf(cli: Cli, options: PutOptions): Promise<PutAccountBody> {
  const { backend, username, rotationPeriod, keepSessions, defaultTtl, maxTtl } = options;
  return {
    ...{ backend, username },
    ...(options.password ? { password: await askPassword(cli) } : {}),
    ...(rotationPeriod === undefined ? {} : { rotation_period: rotationPeriod }),
    ...(keepSessions ? { end_sessions: false } : {}),
    ...(defaultTtl === undefined ? {} : { default_ttl: defaultTtl }),
    ...(maxTtl === undefined ? {} : { max_ttl: maxTtl }),
  };
}

async function askPassword(cli: Cli): Promise<string> {
  const asker = createAsker(cli.io);
  try {
    return await asker.secret('Password of the account: ');
  } finally {
    asker.close();
  }
}

function addUseCommands(account: Command, cli: Cli): void {
  account
    .command('take')
    .description('have it alone for a while, as a lease; its password is changed when that ends')
    .argument('<name>')
    .option('--ttl <duration>', 'for how long, such as 1h; shortened to what is allowed')
    .option('--idempotency-key <key>', 'the same key gives the same lease again')
    .action(async (name: string, { ttl, idempotencyKey }: { ttl?: string; idempotencyKey?: string }) => {
      const wanted = { account: name, ...(ttl === undefined ? {} : { ttl }) };
      const taken = await cli.client().leases.take(wanted, { idempotencyKey });
      if (cli.json()) return printJson(cli.io, taken);
      cli.io.stderr.write(
        `Lease ${taken.id}, until ${time(taken.expires_at)}; give it back with bulla lease revoke ${taken.id}.\n`,
      );
      await printCredential(cli, taken.credential ?? {});
    });
  account
    .command('password')
    .description('print what it is logged in with now; others may have it too')
    .argument('<name>')
    .action(async (name: string) => {
      const found = await cli.client().accounts.credential(name);
      if (cli.json()) return printJson(cli.io, found);
      if (found.held_until !== null) cli.io.stderr.write(`Somebody has it until ${time(found.held_until)}.\n`);
      await printCredential(cli, found.credential);
    });
}

/** The credential is what was asked for, so here it is shown. */
async function printCredential(cli: Cli, credential: Readonly<Record<string, unknown>>): Promise<void> {
  const lines = Object.entries(credential).map(([name, value]) => `${name}=${clean(String(value))}\n`);
  await print(cli.io.stdout, lines.join(''));
}

const FIELDS = [
  ['name', ({ name }: Account) => name],
  ['backend', ({ backend }: Account) => backend],
  ['username', ({ username }: Account) => username],
  ['state', ({ state }: Account) => state],
  ['rotation period', ({ rotation_period }: Account) => duration(rotation_period)],
  ['ends sessions', ({ end_sessions }: Account) => end_sessions],
  ['rotated', ({ rotated_at }: Account) => time(rotated_at)],
  ['next rotation', ({ next_rotation_at }: Account) => time(next_rotation_at)],
  ['held until', ({ held_until }: Account) => time(held_until)],
  ['default ttl', ({ default_ttl }: Account) => duration(default_ttl)],
  ['max ttl', ({ max_ttl }: Account) => duration(max_ttl)],
  ['failed rotations', ({ attempts }: Account) => attempts],
  ['last error', ({ last_error }: Account) => last_error],
] as const;
