/** `bulla backend …` and `bulla role …`: where dynamic credentials come from, and which. */
import type { Command } from 'commander';
import type { PutBackendBody, PutRoleBody } from '../client/index.ts';
import { VaultError } from '../errors.ts';
import { collect, wholeNumber } from './argument.ts';
import type { Cli } from './cli.ts';
import { confirm } from './confirm.ts';
import { asText, readInput } from './io.ts';
import { duration, printDone, printJson, printList, time } from './print.ts';

type Times = { readonly defaultTtl?: string; readonly maxTtl?: string };

const timesOf = ({ defaultTtl, maxTtl }: Times) => ({
  ...(defaultTtl === undefined ? {} : { default_ttl: defaultTtl }),
  ...(maxTtl === undefined ? {} : { max_ttl: maxTtl }),
});

export function addBackendCommands(root: Command, cli: Cli): void {
  const backend = root.command('backend').description('where dynamic credentials come from');
  backend
    .command('list')
    .description('list backends')
    .action(() =>
      printList(cli.io, cli.json(), cli.client().backends.list(), [
        ['name', ({ name }) => name],
        ['kind', ({ kind }) => kind],
        ['target', ({ config }) => (config as { host?: string }).host],
        ['default ttl', ({ default_ttl }) => duration(default_ttl)],
        ['max ttl', ({ max_ttl }) => duration(max_ttl)],
        ['changed', ({ updated_at }) => time(updated_at)],
      ]),
    );
  backend
    .command('show')
    .description('show a backend, without its secrets')
    .argument('<name>')
    .action(async (name: string) => printJson(cli.io, await cli.client().backends.get(name)));
  backend
    .command('put')
    .description('create or change a backend; its configuration is JSON, from standard input or a file')
    .argument('<name>')
    .requiredOption('--kind <kind>', 'postgres, or another one of docs/backends.md')
    .option('-f, --file <file>', 'read the configuration from this file in place of standard input')
    .option('--allow <role>', 'serve this role or static account, * is any characters; again for more', collect)
    .option('--default-ttl <duration>', 'of its leases, unless role or request say otherwise')
    .option('--max-ttl <duration>', 'of its leases, whatever is asked for')
    .addHelpText('after', BACKEND_EXAMPLE)
    .action(async (name: string, options: Times & { kind: string; file?: string; allow?: string[] }) => {
      const config = await readObject(cli, options.file);
      const body = {
        kind: options.kind,
        config,
        allowed_roles: options.allow ?? null,
        ...timesOf(options),
      } as PutBackendBody;
      const stored = await cli.client().backends.put(name, body);
      await printDone(cli.io, cli.json(), `Tried the backend ${name} on its target and stored it.`, stored);
    });
  backend
    .command('delete')
    .description('delete a backend with its roles')
    .argument('<name>')
    .option('--revoke', 'revoke its live leases first; otherwise it is refused while there are any')
    .option('--force', 'although an account of it may have either of two passwords, which nobody knows then')
    .option('--yes', 'do not ask')
    .action(async (name: string, { revoke, force, yes }: { revoke?: true; force?: true; yes?: true }) => {
      if (force && !yes) await confirm(cli.io, 'Nobody can say then which passwords its accounts have.', name);
      const { backends } = cli.client();
      if (force) await backends.deleteAlthoughNobodyKnowsPasswordsThen(name, { revoke });
      else await backends.delete(name, { revoke });
      await printDone(cli.io, cli.json(), `Deleted the backend ${name}.`);
    });
  addRoleCommands(root, cli);
}

const BACKEND_EXAMPLE = `
  bulla backend put db --kind postgres <<'END'
  {"host": "db.example", "database": "reports", "username": "bulla", "password": "…"}
  END`;

function addRoleCommands(root: Command, cli: Cli): void {
  const role = root.command('role').description('what a backend issues under a name');
  role
    .command('list')
    .description('list roles')
    .action(() =>
      printList(cli.io, cli.json(), cli.client().roles.list(), [
        ['name', ({ name }) => name],
        ['path', ({ path }) => path],
        ['default ttl', ({ default_ttl }) => duration(default_ttl)],
        ['max ttl', ({ max_ttl }) => duration(max_ttl)],
        ['max leases', ({ leases_max }) => leases_max],
        ['changed', ({ updated_at }) => time(updated_at)],
      ]),
    );
  role
    .command('show')
    .description('show a role')
    .argument('<name>')
    .action(async (name: string) => printJson(cli.io, await cli.client().roles.get(name)));
  role
    .command('put')
    .description('create or change a role; its settings are JSON, from standard input or a file')
    .argument('<name>')
    .requiredOption('--backend <backend>', 'that issues it')
    .option('-f, --file <file>', 'read the settings from this file in place of standard input')
    .option('--default-ttl <duration>', 'of its leases, unless a request says otherwise')
    .option('--max-ttl <duration>', 'of its leases, whatever is asked for')
    .option('--max-leases <number>', 'alive at once', wholeNumber)
    .addHelpText('after', ROLE_EXAMPLE)
    .action(async (name: string, options: Times & { backend: string; file?: string; maxLeases?: number }) => {
      const settings = await readObject(cli, options.file);
      const limits = options.maxLeases === undefined ? {} : { leases_max: options.maxLeases };
      const body = { backend: options.backend, settings, ...timesOf(options), ...limits } as PutRoleBody;
      const stored = await cli.client().roles.put(name, body);
      await printDone(cli.io, cli.json(), `Stored the role ${stored.path}.`, stored);
    });
  role
    .command('delete')
    .description('delete a role')
    .argument('<name>')
    .option('--revoke', 'revoke its live leases first; otherwise it is refused while there are any')
    .action(async (name: string, { revoke }: { revoke?: true }) => {
      await cli.client().roles.delete(name, { revoke });
      await printDone(cli.io, cli.json(), `Deleted the role ${name}.`);
    });
}

const ROLE_EXAMPLE = `
  bulla role put reporting --backend db --default-ttl 15m <<'END'
  {"grants": [{"on": "tables", "schema": "public", "privileges": ["SELECT"]}]}
  END`;

/** The parser's own error would quote the text, and the text has a password in it. */
export async function readObject(cli: Cli, file: string | undefined): Promise<object> {
  const text = asText(await readInput(cli.io, file));
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value;
  } catch {
    // Told below.
  }
  throw new VaultError('invalid_json', 'A JSON object is expected, such as {"host": "db.example"}.');
}
