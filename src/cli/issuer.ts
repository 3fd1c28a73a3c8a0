/** `bulla issuer …` and `bulla login-role …`: identities that somebody else proves, and logging in as one. */
import type { Command } from 'commander';
import type { Issuer, LoginRole, PutIssuerBody, PutLoginRoleBody } from '../client/index.ts';
import { VaultError } from '../errors.ts';
import { collect } from './argument.ts';
import { REDIRECT_URI_DEFAULT } from './browser-login.ts';
import type { Cli } from './cli.ts';
import { asText, createAsker, print, readFile, readInput } from './io.ts';
import { keptOf } from './login.ts';
import { type Column, duration, printDone, printFields, printJson, printList, time } from './print.ts';
import { keepToken } from './token-file.ts';

export function addIssuerCommands(root: Command, cli: Cli): void {
  const issuer = root.command('issuer').description('who signs tokens (JWT, OpenID) that logins are taken from');
  issuer
    .command('list')
    .description('list issuers')
    .action(() => printList(cli.io, cli.json(), cli.client().issuers.list(), ISSUER_FIELDS));
  issuer
    .command('show')
    .description('show an issuer')
    .argument('<name>')
    .action(async (name: string) =>
      printFields(cli.io, cli.json(), await cli.client().issuers.get(name), ISSUER_FIELDS),
    );
  issuer
    .command('put')
    .description('create or change an issuer; a change ends the tokens that its login roles gave')
    .argument('<name>')
    .argument('<issuer>', 'as its tokens have it in "iss"; its keys are found there unless --jwks is given')
    .option('--jwks <file>', 'its public keys, as a JSON Web Key Set')
    .option('--jwks-url <url>', 'where its public keys are fetched, of an issuer without a discovery document')
    .option('--ca <file>', 'PEM certificates to trust when its keys are fetched')
    .option('--algorithm <name>', 'RS256 unless given; repeatable', collect)
    .option('--clock-skew <duration>', 'how far its clock may be off: 30s unless given, at most 5m')
    .option('--client-id <id>', 'what it calls this vault, for people who log in there with a browser')
    .option('--client-secret', 'ask for the secret of that registration, or read it from standard input')
    .option('--redirect-uri <uri>', `as registered; ${REDIRECT_URI_DEFAULT} unless given; repeatable`, collect)
    .option('--scope <scope>', 'openid unless given; repeatable', collect)
    .addHelpText('after', '\nWithout --client-secret a secret that is stored stays, as long as the client id does.')
    .action(async (name: string, address: string, options: PutIssuerOptions) => {
      const { jwks, jwksUrl, ca, algorithm, clockSkew } = options;
      const client = await clientOf(cli, options);
      const body: PutIssuerBody = {
        issuer: address,
        ...(jwks === undefined ? {} : { jwks: parsed(readFile(jwks).toString('utf8')) as PutIssuerBody['jwks'] }),
        ...(jwksUrl === undefined ? {} : { jwks_url: jwksUrl }),
        ...(ca === undefined ? {} : { ca: readFile(ca).toString('utf8') }),
        ...(algorithm === undefined ? {} : { algorithms: algorithm as PutIssuerBody['algorithms'] }),
        ...(clockSkew === undefined ? {} : { clock_skew: clockSkew }),
        ...(client ? { client } : {}),
      };
      const stored = await cli.client().issuers.put(name, body);
      await printDone(cli.io, cli.json(), `Stored the issuer ${name}, revision ${stored.revision}.`, stored);
    });
  issuer
    .command('delete')
    .description('delete an issuer, the accounts that it vouched for and their tokens')
    .argument('<name>')
    .action(async (name: string) => {
      await cli.client().issuers.delete(name);
      await printDone(cli.io, cli.json(), `Deleted the issuer ${name}.`);
    });
  addRoleCommands(root, cli);
}

type PutIssuerOptions = {
  readonly jwks?: string;
  readonly jwksUrl?: string;
  readonly ca?: string;
  readonly algorithm?: string[];
  readonly clockSkew?: string;
  readonly clientId?: string;
  readonly clientSecret?: true;
  readonly redirectUri?: string[];
  readonly scope?: string[];
};

async function clientOf(
  { io }: Cli,
  { clientId, clientSecret, redirectUri, scope }: PutIssuerOptions,
): Promise<PutIssuerBody['client']> {
  if (clientId === undefined) {
    if (!clientSecret && !redirectUri && !scope) return undefined;
    throw new VaultError('invalid_request', 'Give --client-id beside what is said of the client.');
  }
  const asker = createAsker(io);
  try {
    return {
      id: clientId,
      ...(clientSecret ? { secret: await asker.secret('Client secret') } : {}),
      ...(redirectUri ? { redirect_uris: redirectUri } : {}),
      ...(scope ? { scopes: scope } : {}),
    };
  } finally {
    asker.close();
  }
}

const ISSUER_FIELDS: readonly Column<Issuer>[] = [
  ['name', ({ name }) => name],
  ['issuer', ({ issuer }) => issuer],
  ['keys', ({ jwks, jwks_url }) => jwks?.keys.length ?? jwks_url ?? 'discovered'],
  ['algorithms', ({ algorithms }) => algorithms],
  ['client', ({ client }) => client && `${client.id}${client.confidential ? ', with a secret' : ''}`],
  ['redirect uris', ({ client }) => client?.redirect_uris],
  ['clock skew', ({ clock_skew_seconds }) => duration(clock_skew_seconds)],
  ['updated', ({ updated_at }) => time(updated_at)],
];

function addRoleCommands(root: Command, cli: Cli): void {
  const role = root.command('login-role').description('what an identity that an issuer vouches for may do');
  role
    .command('list')
    .description('list login roles')
    .action(() =>
      printList<LoginRole>(cli.io, cli.json(), cli.client().loginRoles.list(), [
        ['name', ({ name }) => name],
        ['kind', ({ kind }) => kind],
        ['issuer', ({ issuer }) => issuer],
        ['audiences', ({ audiences }) => audiences],
        ['policies', ({ rules }) => [...new Set(rules.flatMap(({ policies }) => policies))]],
        ['updated', ({ updated_at }) => time(updated_at)],
      ]),
    );
  role
    .command('show')
    .description('print a login role, as `login-role put` takes it')
    .argument('<name>')
    .action(async (name: string) => {
      const found = await cli.client().loginRoles.get(name);
      const { kind, issuer, audiences, rules, token_ttl_seconds: ttl, cidrs } = found;
      const taken = { kind, issuer, audiences, rules, ...(ttl ? { token_ttl: ttl } : {}), ...(cidrs ? { cidrs } : {}) };
      await printJson(cli.io, cli.json() ? found : taken);
    });
  role
    .command('put')
    .description('create or change a login role, from standard input or a file; a change ends its tokens')
    .argument('<name>')
    .option('-f, --file <file>', 'read it from this file in place of standard input')
    .addHelpText('after', PUT_EXAMPLE)
    .action(async (name: string, { file }: { file?: string }) => {
      const body = parsed(asText(await readInput(cli.io, file))) as PutLoginRoleBody;
      const stored = await cli.client().loginRoles.put(name, body);
      await printDone(cli.io, cli.json(), `Stored the login role ${name}, revision ${stored.revision}.`, stored);
    });
  role
    .command('delete')
    .description('delete a login role and end its tokens')
    .argument('<name>')
    .action(async (name: string) => {
      await cli.client().loginRoles.delete(name);
      await printDone(cli.io, cli.json(), `Deleted the login role ${name}.`);
    });
  addRoleLogin(role, cli);
}

const PUT_EXAMPLE = `
  bulla login-role put deploy <<'END'
  {"issuer": "github", "audiences": ["https://vault.example"], "token_ttl": "15m",
   "rules": [{"claims": {"repository": ["acme/web"], "ref": ["refs/heads/main"]}, "policies": ["deploy"]}]}
  END
  bulla login-role put people <<'END'
  {"kind": "oidc", "issuer": "corp", "rules": [{"claims": {"groups": ["vault-users"]}, "policies": ["reader"]}]}
  END`;

function addRoleLogin(role: Command, cli: Cli): void {
  role
    .command('login')
    .description('log in by a login role, with a token from standard input or a file')
    .argument('<name>')
    .option('-f, --file <file>', 'read the token from this file in place of standard input')
    .option('--print-token', 'print the token of the vault and keep nothing')
    .addHelpText(
      'after',
      '\n  bulla login-role login deploy --file /var/run/secrets/tokens/vault      the tenant is that of BULLA_TENANT',
    )
    .action(async (name: string, { file, printToken }: { file?: string; printToken?: true }) => {
      const { io, config } = cli;
      const jwt = asText(await readInput(io, file)).trim();
      const answer = await cli.client().auth.jwt({ tenant: config.tenant ?? 'default', role: name, jwt });
      if (printToken) return print(io.stdout, cli.json() ? `${JSON.stringify(answer)}\n` : `${answer.token}\n`);
      keepToken(config.stateDir, cli.address(), keptOf(answer));
      const { token: _, ...shown } = answer;
      const until = `Logged in to ${answer.tenant} as ${answer.username} until ${time(answer.expires_at)}.`;
      await printDone(io, cli.json(), until, shown);
    });
}

/** The text is not repeated when it is no JSON: it may be a secret in the wrong place. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new VaultError('invalid_request', 'What was given is not JSON; see --help.');
  }
}
