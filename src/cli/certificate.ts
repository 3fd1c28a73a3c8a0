/** `bulla authority …` and `bulla certificate-role …`: whose client certificates a tenant believes, and what they give. */
import type { Command } from 'commander';
import type { Authority } from '../client/index.ts';
import type { Cli } from './cli.ts';
import { asText, readInput } from './io.ts';
import { printDone, printFields, printList, time } from './print.ts';

type PutAuthority = { readonly file?: string; readonly listRequired?: true; readonly acceptStaleList?: true };
type PutRole = {
  readonly authority: string;
  readonly name: readonly string[];
  readonly policy?: readonly string[];
  readonly tokenTtl?: string;
};

const collect = (one: string, before: readonly string[] = []) => [...before, one];

export function addCertificateCommands(root: Command, cli: Cli): void {
  addAuthorityCommands(root, cli);
  addRoleCommands(root, cli);
}

function addAuthorityCommands(root: Command, cli: Cli): void {
  const authority = root.command('authority').description('whose client certificates are believed');
  authority
    .command('list')
    .description('list authorities')
    .action(() =>
      printList(cli.io, cli.json(), cli.client().authorities.list(), [
        ['name', ({ name }) => name],
        ['list required', ({ list_required }) => list_required],
        ['stale list', ({ stale_list }) => stale_list],
        ['next list due', ({ lists }) => lists.map(({ next_update }) => time(next_update))],
        ['updated', ({ updated_at }) => time(updated_at)],
      ]),
    );
  authority
    .command('show')
    .description('show an authority and its revocation lists')
    .argument('<name>')
    .action(async (name: string) => {
      await printFields<Authority>(cli.io, cli.json(), await cli.client().authorities.get(name), [
        ['name', (found) => found.name],
        ['certificates', ({ certificates }) => certificates.match(/BEGIN CERTIFICATE/g)?.length],
        ['list required', ({ list_required }) => list_required],
        ['stale list', ({ stale_list }) => stale_list],
        ['lists', ({ lists }) => lists.map((list) => `${list.revoked} revoked, next due ${time(list.next_update)}`)],
      ]);
    });
  authority
    .command('put')
    .description('create or replace an authority, from PEM on standard input or in a file; ends tokens of its clients')
    .argument('<name>')
    .option('-f, --file <file>', 'read the certificates from this file in place of standard input')
    .option('--list-required', 'no login without a revocation list of every issuer')
    .option('--accept-stale-list', 'use a list on that is past its next update; otherwise nobody logs in then')
    .action(async (name: string, options: PutAuthority) => {
      const stored = await cli.client().authorities.put(name, {
        certificates: asText(await readInput(cli.io, options.file)),
        list_required: options.listRequired ?? false,
        stale_list: options.acceptStaleList ? 'accept' : 'refuse',
      });
      await printDone(cli.io, cli.json(), `Stored the authority ${stored.name}.`, stored);
    });
  authority
    .command('crl')
    .description('give its newest revocation list, as PEM; tokens of certificates in it end')
    .argument('<name>')
    .option('-f, --file <file>', 'read the list from this file in place of standard input')
    .action(async (name: string, { file }: { file?: string }) => {
      const stored = await cli.client().authorities.putRevocationList(name, asText(await readInput(cli.io, file)));
      await printDone(cli.io, cli.json(), `Took the revocation list for ${stored.name}.`, stored);
    });
  authority
    .command('delete')
    .description('delete an authority that no role names')
    .argument('<name>')
    .action(async (name: string) => {
      await cli.client().authorities.delete(name);
      await printDone(cli.io, cli.json(), `Deleted the authority ${name}.`);
    });
}

function addRoleCommands(root: Command, cli: Cli): void {
  const role = root.command('certificate-role').description('what client certificates give');
  role
    .command('list')
    .description('list certificate roles')
    .action(() =>
      printList(cli.io, cli.json(), cli.client().certificateRoles.list(), [
        ['name', ({ name }) => name],
        ['authority', ({ authority }) => authority],
        ['names', ({ names }) => names],
        ['policies', ({ policies }) => policies],
      ]),
    );
  role
    .command('put')
    .description('create or replace a certificate role; ends the tokens that it gave')
    .argument('<name>')
    .requiredOption('--authority <name>', 'whose certificates')
    .requiredOption(
      '--name <pattern>',
      'a name in the certificate, such as dns:*.web.example.com; can be given again',
      collect,
    )
    .option('--policy <policy>', 'what it gives; can be given again', collect)
    .option('--token-ttl <duration>', 'how long a token lasts until it is renewed')
    .action(async (name: string, { authority, name: names, policy = [], tokenTtl }: PutRole) => {
      const stored = await cli.client().certificateRoles.put(name, {
        ...{ authority, names: [...names], policies: [...policy] },
        ...(tokenTtl === undefined ? {} : { token_ttl: tokenTtl }),
      });
      await printDone(cli.io, cli.json(), `Stored the certificate role ${stored.name}.`, stored);
    });
  role
    .command('delete')
    .description('delete a certificate role, the accounts that came by it and their tokens')
    .argument('<name>')
    .action(async (name: string) => {
      await cli.client().certificateRoles.delete(name);
      await printDone(cli.io, cli.json(), `Deleted the certificate role ${name}.`);
    });
}
