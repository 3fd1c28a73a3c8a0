/** `bulla service …`: machines, their client secrets, and logging in as one. */
import type { Command } from 'commander';
import type {
  ClientSecret,
  CreateClientSecretBody,
  CreateServiceBody,
  NewClientSecret,
  Service,
  UpdateServiceBody,
} from '../client/index.ts';
import { VaultError } from '../errors.ts';
import { collect, wholeNumber } from './argument.ts';
import type { Cli } from './cli.ts';
import { createAsker, print } from './io.ts';
import { keptOf } from './login.ts';
import { type Column, duration, printDone, printFields, printList, time } from './print.ts';
import { keepToken } from './token-file.ts';

export function addServiceCommands(root: Command, cli: Cli): void {
  const service = root.command('service').description('machines that log in with client secrets');
  service
    .command('list')
    .description('list services')
    .action(() =>
      printList(cli.io, cli.json(), cli.client().services.list(), [
        ['name', ({ name }) => name],
        ['policies', ({ policies }) => policies],
        ['state', stateOf],
        ['description', ({ description }) => description],
        ['last login', ({ last_login_at }) => time(last_login_at)],
      ]),
    );
  addCreateCommand(service, cli);
  service
    .command('show')
    .description('show a service')
    .argument('<name>')
    .action(async (name: string) => printService(cli, await cli.client().services.get(name)));
  addUpdateCommand(service, cli);
  service
    .command('delete')
    .description('delete a service, its client secrets and its tokens')
    .argument('<name>')
    .action(async (name: string) => {
      await cli.client().services.delete(name);
      await printDone(cli.io, cli.json(), `Deleted the service ${name}.`);
    });
  addSecretCommands(service, cli);
  addLoginCommand(service, cli);
}

type TokenOptions = {
  readonly ttl?: string;
  readonly maxTtl?: string;
  readonly period?: string;
  readonly uses?: number | 'any';
  readonly cidr?: string[];
  readonly fromAnywhere?: true;
};
type CreateOptions = TokenOptions & { readonly policy?: string[]; readonly description?: string };

const tokenBody = ({ ttl, maxTtl, period, uses, cidr, fromAnywhere }: TokenOptions) => ({
  ...(ttl === undefined ? {} : { token_ttl: ttl }),
  ...(maxTtl === undefined ? {} : { token_max_ttl: maxTtl === 'default' ? null : maxTtl }),
  ...(period === undefined ? {} : { token_period: period }),
  ...(uses === undefined ? {} : { token_uses: uses === 'any' ? null : uses }),
  ...(cidr === undefined ? {} : { token_cidrs: cidr }),
  ...(fromAnywhere ? { token_cidrs: null } : {}),
});

const usesOrAny = (text: string) => (text === 'any' ? text : wholeNumber(text));

function addCreateCommand(service: Command, cli: Cli): void {
  service
    .command('create')
    .description('create a service; it cannot log in before it has a client secret: see `bulla service secret create`')
    .argument('<name>')
    .option('-p, --policy <name>', 'what it may do; repeatable', collect)
    .option('--description <text>', 'what it is')
    .option('--ttl <duration>', 'how long its tokens last, such as 15m')
    .option('--max-ttl <duration>', 'how long they can be renewed for')
    .option('--period <duration>', 'for daemons: tokens that are renewed for this long, again and again')
    .option('--uses <number>', 'how many acts a token of it does', wholeNumber)
    .option('--cidr <network>', 'where its tokens may be used from; repeatable', collect)
    .action(async (name: string, { policy = [], description, ...rest }: CreateOptions) => {
      const body: CreateServiceBody = {
        name,
        policies: policy,
        ...(description === undefined ? {} : { description }),
        ...tokenBody(rest),
      };
      await printService(cli, await cli.client().services.create(body));
    });
}

type UpdateOptions = CreateOptions & {
  readonly policies?: boolean;
  readonly disable?: true;
  readonly enable?: true;
};

function addUpdateCommand(service: Command, cli: Cli): void {
  service
    .command('update')
    .description('change what a service may do, or disable it and end its tokens')
    .argument('<name>')
    .option('-p, --policy <name>', 'its policies from now on, in place of all it has; repeatable', collect)
    .option('--no-policies', 'take all its policies away')
    .option('--description <text>', 'what it is')
    .option('--ttl <duration>', 'how long its tokens last from now on, or "default"')
    .option('--max-ttl <duration>', 'how long they can be renewed for, or "default"')
    .option('--period <duration>', 'tokens that are renewed for this long, or "none"')
    .option('--uses <number>', 'how many acts a token of it does, or "any"', usesOrAny)
    .option('--cidr <network>', 'where its tokens may be used from; repeatable', collect)
    .option('--from-anywhere', 'its tokens may be used from anywhere')
    .option('--disable', 'refuse its logins and end its tokens')
    .option('--enable', 'let it log in again')
    .action(async (name: string, { policy, policies, description, disable, enable, ...rest }: UpdateOptions) => {
      if (disable && enable) throw new VaultError('invalid_request', '--disable and --enable exclude each other.');
      const patch: UpdateServiceBody = {
        ...(policy === undefined ? {} : { policies: policy }),
        ...(policies === false ? { policies: [] } : {}),
        ...(description === undefined ? {} : { description }),
        ...tokenBody(rest),
        ...(rest.ttl === 'default' ? { token_ttl: null } : {}),
        ...(rest.period === 'none' ? { token_period: null } : {}),
        ...(disable || enable ? { disabled: disable ?? false } : {}),
      };
      if (Object.keys(patch).length === 0) throw new VaultError('invalid_request', 'Say what to change; see --help.');
      await printService(cli, await cli.client().services.patch(name, patch));
    });
}

type SecretOptions = {
  readonly ttl?: string;
  readonly uses?: number;
  readonly cidr?: string[];
  readonly replaces?: string;
  readonly overlap?: string;
  readonly printSecret?: true;
};

function addSecretCommands(service: Command, cli: Cli): void {
  const secret = service.command('secret').description('the client secrets of a service');
  secret
    .command('create')
    .description('make a client secret; it is shown once, and several work side by side')
    .argument('<service>')
    .argument('<name>', 'what to call it, such as 2026-q1')
    .option('--ttl <duration>', 'how long it works; 90 days unless the server is set otherwise')
    .option('--cidr <network>', 'where it, and the tokens given for it, may be used from; repeatable', collect)
    .option('--uses <number>', 'how many logins it does', wholeNumber)
    .option('--replaces <name>', 'end this one after the overlap')
    .option('--overlap <duration>', 'how long the one that is replaced still works; a day unless given')
    .option('--print-secret', 'print nothing but the client secret')
    .action(async (name: string, called: string, { cidr, printSecret, ...rest }: SecretOptions) => {
      const wish: CreateClientSecretBody = { name: called, ...rest, ...(cidr === undefined ? {} : { cidrs: cidr }) };
      const made = await cli.client().services.createSecret(name, wish);
      if (printSecret) return print(cli.io.stdout, `${made.client_secret}\n`);
      await printFields<NewClientSecret>(cli.io, cli.json(), made, [
        ['client id', ({ client_id }) => client_id],
        ['client secret', ({ client_secret }) => client_secret],
        ...SECRET_FIELDS,
      ]);
    });
  secret
    .command('list')
    .description('list the client secrets of a service, never to use them')
    .argument('<service>')
    .action((name: string) => printList(cli.io, cli.json(), cli.client().services.listSecrets(name), SECRET_FIELDS));
  secret
    .command('delete')
    .description('end a client secret and the tokens that were given for it')
    .argument('<service>')
    .argument('<name>')
    .action(async (name: string, called: string) => {
      await cli.client().services.deleteSecret(name, called);
      await printDone(cli.io, cli.json(), `Ended the client secret ${called} of ${name}.`);
    });
}

const SECRET_FIELDS: readonly Column<ClientSecret>[] = [
  ['name', ({ name }) => name],
  ['networks', ({ cidrs }) => cidrs],
  ['uses left', ({ uses_left }) => uses_left],
  ['created', ({ created_at }) => time(created_at)],
  ['ends', ({ expires_at, expired }) => (expired ? 'has ended' : time(expires_at))],
  ['last used', ({ last_used_at }) => time(last_used_at)],
  ['from', ({ last_used_from }) => last_used_from],
];

function addLoginCommand(service: Command, cli: Cli): void {
  service
    .command('login')
    .description('log in as a service: the client secret is asked for, or the first line of standard input')
    .argument('<client-id>')
    .option('-p, --policy <name>', 'bind the token to a policy; repeatable', collect)
    .option('--print-token', 'print the token and keep nothing')
    .addHelpText('after', '\n  BULLA_TOKEN=$(bulla service login <client-id> --print-token < client-secret-file)')
    .action(async (clientId: string, { policy, printToken }: { policy?: string[]; printToken?: true }) => {
      const { io, config } = cli;
      const asker = createAsker(io);
      try {
        const secret = (await asker.secret('Client secret')).trim();
        const bound = policy === undefined ? {} : { policies: policy };
        const answer = await cli.client().auth.service({ client_id: clientId, client_secret: secret, ...bound });
        if (printToken) return await print(io.stdout, cli.json() ? `${JSON.stringify(answer)}\n` : `${answer.token}\n`);
        keepToken(config.stateDir, cli.address(), keptOf(answer));
        const { token: _, ...shown } = answer;
        const until = `Logged in to ${answer.tenant} as ${answer.username} until ${time(answer.expires_at)}.`;
        await printDone(io, cli.json(), until, shown);
      } finally {
        asker.close();
      }
    });
}

function stateOf({ disabled }: Service): string {
  return disabled ? 'disabled' : 'active';
}

function printService(cli: Cli, service: Service): Promise<void> {
  return printFields(cli.io, cli.json(), service, [
    ['name', ({ name }) => name],
    ['client id', ({ client_id }) => client_id],
    ['policies', ({ policies }) => policies],
    ['state', stateOf],
    ['description', ({ description }) => description],
    ['token ttl', ({ token_ttl_seconds }) => duration(token_ttl_seconds)],
    ['token max ttl', ({ token_max_ttl_seconds }) => duration(token_max_ttl_seconds)],
    ['token uses', ({ token_uses }) => token_uses],
    ['token networks', ({ token_cidrs }) => token_cidrs],
    ['token period', ({ token_period_seconds }) => duration(token_period_seconds)],
    ['created', ({ created_at }) => time(created_at)],
    ['last login', ({ last_login_at }) => time(last_login_at)],
  ]);
}
