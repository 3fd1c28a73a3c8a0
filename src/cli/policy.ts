/** `bulla policy …`: named lists of rules, as JSON documents. */
import type { Command } from 'commander';
import type { Explanation, PolicyPreview, PutPolicyBody } from '../client/index.ts';
import { wholeNumber } from './argument.ts';
import type { Cli } from './cli.ts';
import { asText, readInput } from './io.ts';
import { clean, printDone, printFields, printJson, printList, time } from './print.ts';

type PutOptions = { readonly file?: string; readonly ifRevision?: number; readonly dryRun?: true };

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
    .command('history')
    .description('list what a policy has been, and who changed it; --json has the rules')
    .argument('<name>')
    .action((name: string) =>
      printList(cli.io, cli.json(), cli.client().policies.changes(name), [
        ['change', ({ number }) => number],
        ['revision', ({ revision }) => revision],
        ['rules', ({ rules }) => (rules === null ? 'deleted' : rules.length)],
        ['by', ({ changed_by_name }) => changed_by_name ?? 'the vault'],
        ['at', ({ changed_at }) => time(changed_at)],
      ]),
    );
  policy
    .command('put')
    .description('create a policy or replace its rules, from standard input or a file')
    .argument('<name>')
    .option('-f, --file <file>', 'read the rules from this file in place of standard input')
    .option('--dry-run', 'change nothing; print who would gain and who would lose what')
    .option('--if-revision <number>', 'only if this is the current revision', wholeNumber)
    .addHelpText('after', PUT_EXAMPLE)
    .action(async (name: string, { file, ifRevision, dryRun }: PutOptions) => {
      const document = asText(await readInput(cli.io, file));
      if (dryRun) return printPreview(cli, await cli.client().policies.dryRun(name, document));
      const options = ifRevision === undefined ? {} : { ifRevision };
      const stored = await cli.client().policies.put(name, document, options);
      await printDone(cli.io, cli.json(), `Stored the policy ${stored.name}, revision ${stored.revision}.`, stored);
    });
  policy
    .command('explain')
    .description('say whether an account may do something, by which rule, and what would allow it')
    .argument('<action>', 'such as secret.read')
    .argument('<path>', 'of a secret, or <kind>:<name>')
    .option('--user <name>', 'somebody else than oneself')
    .option('--from <address>', 'as if it came from there')
    .action(async (action: string, path: string, { user, from }: { user?: string; from?: string }) => {
      const found = await cli.client().policies.explain({
        action,
        resource: path.includes(':') ? path : `secret:${path}`,
        ...(user === undefined ? {} : { username: user }),
        ...(from === undefined ? {} : { circumstances: { source: from } }),
      });
      await printExplanation(cli, found);
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

type Rule = PutPolicyBody['rules'][number];

/** A rule in a line, for people. */
function ruleText({ effect, actions, resources, conditions, approval }: Rule): string {
  const when = conditions === undefined ? '' : ` when ${JSON.stringify(conditions)}`;
  const after = approval === undefined ? '' : ` once ${approval.count ?? 1} of ${approval.by} approved`;
  return `${effect} ${actions.join(', ')} on ${resources.join(', ')}${when}${after}`;
}

function printExplanation(cli: Cli, found: Explanation): Promise<void> {
  const { rule, smallest_rule: smallest } = found;
  return printFields(cli.io, cli.json(), found, [
    ['account', ({ username }) => username],
    ['allowed', ({ allowed }) => allowed],
    ['because', ({ reason }) => reason.replace('_', ' ')],
    ...(rule
      ? [['rule', () => `${rule.index} of ${rule.policy}${rule.rule ? `: ${ruleText(rule.rule)}` : ''}`] as const]
      : []),
    ...found.almost.map(
      (one) => ['almost', () => `${one.index} of ${one.policy}, but for ${one.conditions.join(', ')}`] as const,
    ),
    ...found.requirements.map((one) => ['approvals', () => `${one.count} of ${one.by}`] as const),
    ...(smallest ? [['would allow it', () => ruleText(smallest)] as const] : []),
  ]);
}

async function printPreview(cli: Cli, preview: PolicyPreview): Promise<void> {
  if (cli.json()) return printJson(cli.io, preview);
  const { holders, changes, truncated } = preview;
  await printDone(
    cli.io,
    false,
    `${holders} hold it; for ${changes.length} of them something would change.${truncated ? ' There are more than were looked at.' : ''}`,
  );
  for (const { username, gains, loses } of changes) {
    for (const rule of gains) await printDone(cli.io, false, clean(`  ${username} + ${ruleText(rule)}`));
    for (const rule of loses) await printDone(cli.io, false, clean(`  ${username} - ${ruleText(rule)}`));
  }
}

const PUT_EXAMPLE = `
  bulla policy put web <<'END'
  {"rules": [{"effect": "allow", "actions": ["secret.read"], "resources": ["secret:prod/web/**"]}]}
  END`;
