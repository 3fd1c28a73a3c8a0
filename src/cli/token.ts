/** `bulla token …`: tokens under one's own, and all of them by accessor. */
import type { Command } from 'commander';
import type { CreateTokenBody, Token } from '../client/index.ts';
import { collect, pair, wholeNumber } from './argument.ts';
import type { Cli } from './cli.ts';
import { print } from './io.ts';
import { duration, printDone, printFields, printList, time } from './print.ts';

export function addTokenCommands(root: Command, cli: Cli): void {
  const token = root.command('token').description('tokens: children of your own, and who holds which');
  addCreateCommand(token, cli);
  token
    .command('list')
    .description('list tokens that have not ended; an accessor names a token and opens nothing')
    .option('--user <name>', 'of this account only')
    .action(({ user }: { user?: string }) =>
      printList(cli.io, cli.json(), cli.client().tokens.list({ username: user }), [
        ['accessor', ({ accessor }) => accessor],
        ['account', ({ username }) => username],
        ['kind', ({ kind }) => kind],
        ['method', ({ method }) => method],
        ['name', ({ name }) => name],
        ['from', ({ source }) => source],
        ['created', ({ created_at }) => time(created_at)],
        ['ends', ({ expires_at }) => time(expires_at)],
      ]),
    );
  token
    .command('show')
    .description('show what a token is, by its accessor; without one, your own')
    .argument('[accessor]')
    .action(async (accessor: string | undefined) => {
      const client = cli.client();
      const named = accessor ?? (await client.auth.self()).accessor;
      await printFields(cli.io, cli.json(), await client.tokens.get(named), FIELDS);
    });
  token
    .command('renew')
    .description('move the end of your own token, counted from now')
    .option('--ttl <duration>', 'for how long, such as 30m; a periodic token always lasts its period')
    .action(async ({ ttl }: { ttl?: string }) => {
      const renewed = await cli.client().auth.renew(ttl === undefined ? {} : { ttl });
      await printDone(cli.io, cli.json(), `Renewed until ${time(renewed.expires_at)}.`, renewed);
    });
  token
    .command('end')
    .description('end a token and all that hangs under it, by its accessor')
    .argument('<accessor>')
    .action(async (accessor: string) => {
      await cli.client().tokens.revoke(accessor);
      await printDone(cli.io, cli.json(), `Ended the token ${accessor} and all that hung under it.`);
    });
}

const FIELDS = [
  ['accessor', ({ accessor }: Token) => accessor],
  ['account', ({ username }: Token) => username],
  ['kind', ({ kind }: Token) => kind],
  ['method', ({ method }: Token) => method],
  ['second factor', ({ mfa }: Token) => mfa],
  ['name', ({ name }: Token) => name],
  ['under', ({ parent }: Token) => parent],
  ['bound to', ({ token_policies }: Token) => token_policies],
  ['uses left', ({ uses_left }: Token) => uses_left],
  ['networks', ({ cidrs }: Token) => cidrs],
  ['period', ({ period_seconds }: Token) => duration(period_seconds)],
  ['renewable', ({ renewable }: Token) => renewable],
  ['without default', ({ without_default }: Token) => without_default || null],
  ['by the role', ({ role }: Token) => role],
  ['metadata', ({ metadata }: Token) => Object.entries(metadata).map(([key, value]) => `${key}=${value}`)],
  ['from', ({ source }: Token) => source],
  ['created', ({ created_at }: Token) => time(created_at)],
  ['ends', ({ expires_at }: Token) => time(expires_at)],
  ['at most until', ({ max_expires_at }: Token) => time(max_expires_at)],
] as const;

type CreateOptions = {
  readonly ttl?: string;
  readonly period?: string;
  readonly policy?: string[];
  readonly uses?: number;
  readonly cidr?: string[];
  readonly renewable?: boolean;
  readonly name?: string;
  readonly metadata?: Record<string, string>;
  readonly printToken?: true;
};

function addCreateCommand(token: Command, cli: Cli): void {
  token
    .command('create')
    .description('make a token under your own: it ends with yours, and does nothing that yours may not do')
    .option('--ttl <duration>', 'for how long, such as 15m')
    .option('--period <duration>', 'in place of --ttl: each renewal lasts this long, as long as your own token lives')
    .option('-p, --policy <name>', 'bind it to a policy: it does only what one of them allows too; repeatable', collect)
    .option('--uses <count>', 'how many acts it does', wholeNumber)
    .option('--cidr <network>', 'where it may be used from, such as 10.0.0.0/8; repeatable', collect)
    .option('--no-renewable', 'it cannot be renewed')
    .option('--name <name>', 'what it is for, shown with its accessor')
    .option('--metadata <key=value>', 'more of that; repeatable', pair)
    .option('--print-token', 'print nothing but the token')
    .action(async ({ policy, cidr, renewable, printToken, ...rest }: CreateOptions) => {
      const wish: CreateTokenBody = {
        ...rest,
        ...(policy === undefined ? {} : { policies: policy }),
        ...(cidr === undefined ? {} : { cidrs: cidr }),
        ...(renewable === false ? { renewable } : {}),
      };
      const made = await cli.client().tokens.create(wish);
      if (printToken) return print(cli.io.stdout, `${made.token}\n`);
      await printFields(cli.io, cli.json(), made, [['token', ({ token }: { token: string }) => token], ...FIELDS]);
    });
}
