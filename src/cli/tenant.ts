/** `bulla tenant …`, for operators. */
import type { Command } from 'commander';
import type { Tenant } from '../client/index.ts';
import { VaultError } from '../errors.ts';
import { wholeNumber } from './argument.ts';
import type { Cli } from './cli.ts';
import { confirm } from './confirm.ts';
import { printDone, printFields, printList, time } from './print.ts';

export function addTenantCommands(root: Command, cli: Cli): void {
  const tenant = root.command('tenant').description('the tenants of this vault (operators)');
  tenant
    .command('list')
    .description('list tenants')
    .action(() =>
      printList(cli.io, cli.json(), cli.client().tenants.list(), [
        ['name', ({ name }) => name],
        ['id', ({ id }) => id],
        ['state', ({ state }) => state],
        ['created', ({ created_at }) => time(created_at)],
      ]),
    );
  tenant
    .command('create')
    .description('create a tenant and its first admin, whose one-time password is shown once')
    .argument('<name>')
    .option('--admin <username>', 'the name of its first admin (admin)')
    .action(async (name: string, { admin }: { admin?: string }) => {
      const made = await cli.client().tenants.create(admin === undefined ? { name } : { name, admin_username: admin });
      await printFields(cli.io, cli.json(), made, [
        ['tenant', (created) => created.name],
        ['id', ({ id }) => id],
        ['admin', (created) => created.admin.username],
        ['one-time password', (created) => created.admin.one_time_password],
      ]);
    });
  tenant
    .command('show')
    .description('show a tenant')
    .argument('<name>')
    .action(async (name: string) => printTenant(cli, await cli.client().tenants.get(name)));
  tenant
    .command('suspend')
    .description('refuse everything to everybody in a tenant until it is resumed')
    .argument('<name>')
    .action(async (name: string) => printTenant(cli, await cli.client().tenants.suspend(name)));
  tenant
    .command('resume')
    .description('let a suspended tenant go on')
    .argument('<name>')
    .action(async (name: string) => printTenant(cli, await cli.client().tenants.resume(name)));
  addQuotaCommand(tenant, cli);
  tenant
    .command('require-totp')
    .description('let nobody in a tenant do anything without a second factor')
    .argument('<name>')
    .option('--off', 'leave it to its users again')
    .action(async (name: string, { off }: { off?: true }) =>
      printTenant(cli, await cli.client().tenants.requireTotp(name, !off)),
    );
  tenant
    .command('unlock')
    .description('let the last administrator of a tenant in again')
    .argument('<name>')
    .argument('<username>')
    .option('--remove-totp', 'the second factor is lost: take it away, and end every session')
    .action(async (name: string, username: string, { removeTotp }: { removeTotp?: true }) => {
      await cli.client().tenants.unlock(name, { username, ...(removeTotp ? { remove_totp: true } : {}) });
      await printDone(cli.io, cli.json(), `${username} of ${name} may log in again.`);
    });
  tenant
    .command('delete')
    .description('delete a tenant with everything it has, its data keys first')
    .argument('<name>')
    .option('--force', 'give up leases whose targets never answer: their credentials may go on working')
    .option('--yes', 'do not ask')
    .action(async (name: string, { force, yes }: { force?: true; yes?: true }) => {
      if (!yes) await confirm(cli.io, `Delete the tenant ${name} with all its secrets?`, name);
      await cli.client().tenants.delete(name, force ? { force } : {});
      await printDone(cli.io, cli.json(), `Deleted the tenant ${name}.`);
    });
}

/** Commander takes null for an option without a value. */
type Rate = number | 'any';
type QuotaOptions = {
  readonly secrets?: number;
  readonly users?: number;
  readonly requestsPerSecond?: Rate;
  readonly accountRequestsPerSecond?: Rate;
};

function addQuotaCommand(tenant: Command, cli: Cli): void {
  tenant
    .command('quota')
    .description('set how much a tenant may have, and how fast it may ask; what is not given stays')
    .argument('<name>')
    .option('--secrets <number>', 'how many', wholeNumber)
    .option('--users <number>', 'accounts of every kind', wholeNumber)
    .option('--requests-per-second <number>', 'of the whole tenant, on each node; "any" for no limit', numberOrAny)
    .option('--account-requests-per-second <number>', 'of each account; "any" for no limit', numberOrAny)
    .action(async (name: string, options: QuotaOptions) => {
      const { secrets, users, requestsPerSecond, accountRequestsPerSecond } = options;
      const quotas = {
        ...(secrets === undefined ? {} : { secrets }),
        ...(users === undefined ? {} : { users }),
        ...(requestsPerSecond === undefined ? {} : { requests_per_second: limitOf(requestsPerSecond) }),
        ...(accountRequestsPerSecond === undefined
          ? {}
          : { account_requests_per_second: limitOf(accountRequestsPerSecond) }),
      };
      if (Object.keys(quotas).length === 0) throw new VaultError('invalid_request', 'Say what to set; see --help.');
      await printTenant(cli, await cli.client().tenants.setQuotas(name, quotas));
    });
}

const numberOrAny = (text: string): Rate => (text === 'any' ? text : wholeNumber(text));
const limitOf = (given: Rate) => (given === 'any' ? null : given);
const rate = (perSecond: number | null) => (perSecond === null ? 'any' : `${perSecond} a second`);

function printTenant(cli: Cli, tenant: Tenant): Promise<void> {
  return printFields(cli.io, cli.json(), tenant, [
    ['name', ({ name }) => name],
    ['id', ({ id }) => id],
    ['state', ({ state }) => state],
    ['second factor required', ({ mfa_required }) => mfa_required],
    ['created', ({ created_at }) => time(created_at)],
    ['secrets', ({ usage, quotas }) => `${usage.secrets} of ${quotas.secrets}`],
    ['accounts', ({ usage, quotas }) => `${usage.users} of ${quotas.users}`],
    ['requests', ({ quotas }) => rate(quotas.requests_per_second)],
    ['requests of an account', ({ quotas }) => rate(quotas.account_requests_per_second)],
  ]);
}
