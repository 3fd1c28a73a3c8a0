/** `bulla policy …`: named lists of rules, as JSON documents. */
import type { Command } from 'commander';
import { wholeNumber } from './argument.ts';
import type { Cli } from './cli.ts';
import { asText, readInput } from './io.ts';
import { printDone, printJson, printList, time } from './print.ts';

type PutOptions = { readonly file?: string; readonly ifRevision?: number };

export function addPolicyCommands(root: Command, cli: Cli): void {
  const policy = root.command('policy').description('what users may do');
  policy
    .command('list')
    .description('list policies')
    .action(() =>
      printList(cli.io, cli.json(), cli.client().policies.list(), [
        ['name', ({ name }) => name],
        ['revision', ({ revision }) => revision],
        ['built-in', ({ built_in }) => built_in],
        ['updated', ({ updated_at }) => time(updated_at)],
      ]),
    );
  policy
    .command('show')
    .description('print the rules of a policy, as `policy put` takes them')
    .argument('<name>')
    .action(async (name: string) => {
      const found = await cli.client().policies.get(name);
      await printJson(cli.io, cli.json() ? found : { rules: found.rules });
    });
  policy
    .command('put')
    .description('create a policy or replace its rules, from standard input or a file')
    .argument('<name>')
    .option('-f, --file <file>', 'read the rules from this file in place of standard input')
    .option('--if-revision <number>', 'only if this is the current revision', wholeNumber)
    .addHelpText('after', PUT_EXAMPLE)
    .action(async (name: string, { file, ifRevision }: PutOptions) => {
      const document = asText(await readInput(cli.io, file));
      const options = ifRevision === undefined ? {} : { ifRevision };
      const stored = await cli.client().policies.put(name, document, options);
      await printDone(cli.io, cli.json(), `Stored the policy ${stored.name}, revision ${stored.revision}.`, stored);
    });
  policy
    .command('delete')
    .description('delete a policy')
    .argument('<name>')
    .action(async (name: string) => {
      await cli.client().policies.delete(name);
      await printDone(cli.io, cli.json(), `Deleted the policy ${name}.`);
    });
}

const PUT_EXAMPLE = `
  bulla policy put web <<'END'
  {"rules": [{"effect": "allow", "actions": ["secret.read"], "resources": ["secret:prod/web/**"]}]}
  END`;
