/** `bulla approval …`: the two-person rule. */
import type { Command } from 'commander';
import type { Approval } from '../client/index.ts';
import { versionList, wholeNumber } from './argument.ts';
import type { Cli } from './cli.ts';
import { type Column, printDone, printFields, printList, time } from './print.ts';

const COLUMNS: readonly Column<Approval>[] = [
  ['id', ({ id }) => id],
  ['who', ({ requested_by }) => requested_by],
  ['wants', ({ action, resource, subject }) => `${action} ${resource}${subject === '' ? '' : ` (${subject})`}`],
  ['state', ({ state }) => state],
  ['approved by', ({ approved_by }) => approved_by],
  ['needs', ({ requirements }) => requirements.map(({ by, count }) => `${count} of ${by}`)],
  ['until', ({ expires_at }) => time(expires_at)],
];

type RequestOptions = { readonly version?: number; readonly versions?: number[]; readonly reason?: string };

export function addApprovalCommands(root: Command, cli: Cli): void {
  const approval = root.command('approval').description('what a policy allows only once others have approved it');
  approval
    .command('list')
    .description('list requests: one’s own, and those that one may answer')
    .option('--open', 'only those that wait')
    .action(({ open }: { open?: true }) =>
      printList(cli.io, cli.json(), cli.client().approvals.list(open ? { open } : {}), COLUMNS),
    );
  approval
    .command('request')
    .description('ask others to approve an act')
    .argument('<action>', 'secret.read, secret.destroy, key.rotate, key.destroy or root-key.rotate')
    .argument('[path]', 'of the secret')
    .option('--version <number>', 'of the secret, the current one if not given; or of the key', wholeNumber)
    .option('--versions <list>', 'to be destroyed, such as 1,2; the whole secret if not given', versionList)
    .option('--reason <text>', 'for those who answer; no secret')
    .action(async (action: string, path: string | undefined, options: RequestOptions) => {
      const resource = resourceOf(action, path);
      await printApproval(cli, await cli.client().approvals.request({ action, resource, ...options }));
    });
  approval
    .command('show')
    .description('show a request')
    .argument('<id>')
    .action(async (id: string) => printApproval(cli, await cli.client().approvals.get(id)));
  approval
    .command('approve')
    .description('approve the act of somebody else')
    .argument('<id>')
    .action(async (id: string) => printApproval(cli, await cli.client().approvals.approve(id)));
  approval
    .command('deny')
    .description('refuse it, which ends the request')
    .argument('<id>')
    .action(async (id: string) => printApproval(cli, await cli.client().approvals.deny(id)));
  approval
    .command('cancel')
    .description('take a request of one’s own back')
    .argument('<id>')
    .action(async (id: string) => {
      await cli.client().approvals.cancel(id);
      await printDone(cli.io, cli.json(), `Cancelled the request ${id}.`);
    });
}

function resourceOf(action: string, path: string | undefined): string {
  if (path !== undefined) return path.includes(':') ? path : `secret:${path}`;
  return action.startsWith('root-key.') ? 'key:root' : action.startsWith('key.') ? 'key:data' : 'secret:';
}

function printApproval(cli: Cli, found: Approval): Promise<void> {
  return printFields(cli.io, cli.json(), found, [
    ...COLUMNS,
    ['denied by', ({ denied_by }) => denied_by],
    ['reason', ({ reason }) => reason],
    ['asked', ({ created_at }) => time(created_at)],
  ]);
}
