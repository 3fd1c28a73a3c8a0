/** `bulla session …`: where one is logged in, ending that, and showing the second factor again. */
import type { Command } from 'commander';
import { VaultError } from '../errors.ts';
import type { Cli } from './cli.ts';
import { createAsker, print } from './io.ts';
import { printDone, printList, time } from './print.ts';
import { askCode, keepSession } from './totp.ts';

export function addSessionCommands(root: Command, cli: Cli): void {
  const session = root.command('session').description('where you are logged in');
  session
    .command('list')
    .description('list your logins that go on, and the tokens that were made with them')
    .action(() =>
      printList(cli.io, cli.json(), cli.client().sessions.list(), [
        ['accessor', ({ accessor }) => accessor],
        ['kind', ({ kind, current }) => (current ? `${kind} (this one)` : kind)],
        ['name', ({ name }) => name],
        ['method', ({ method }) => method],
        ['second factor', ({ mfa }) => mfa],
        ['from', ({ source }) => source],
        ['since', ({ created_at }) => time(created_at)],
        ['ends', ({ expires_at }) => time(expires_at)],
      ]),
    );
  session
    .command('end')
    .description('end one of them, by its accessor, with all that hangs under it')
    .argument('[accessor]')
    .option('--others', 'end all but this one')
    .action(async (accessor: string | undefined, { others }: { others?: true }) => {
      if ((accessor === undefined) === (others === undefined)) {
        throw new VaultError('invalid_request', 'Give either the accessor of a session or --others.');
      }
      if (accessor === undefined) {
        const answer = await cli.client().sessions.endOthers();
        await printDone(cli.io, cli.json(), `Other sessions ended: ${answer.ended}.`, answer);
        return;
      }
      await cli.client().sessions.end(accessor);
      await printDone(cli.io, cli.json(), `Ended the session ${accessor}.`);
    });
  session
    .command('elevate')
    .description('show your second factor again: this session goes on under a new token')
    .option('--print-token', 'print the new token and nothing else, and do not keep it')
    .action((options: { printToken?: true }) => elevate(cli, options.printToken ?? false));
}

async function elevate(cli: Cli, printToken: boolean): Promise<void> {
  const { io, config } = cli;
  if (config.token !== undefined && !printToken) {
    throw new VaultError('invalid_request', 'BULLA_TOKEN is set, and would end: take the new one with --print-token.');
  }
  const asker = createAsker(io);
  try {
    const answer = await cli.client().auth.elevate(await askCode(asker));
    if (printToken) {
      await print(io.stdout, cli.json() ? `${JSON.stringify(answer)}\n` : `${answer.token}\n`);
      return;
    }
    keepSession(cli, answer);
    const { token: _, ...shown } = answer;
    await printDone(io, cli.json(), `The session goes on until ${time(answer.expires_at)}.`, shown);
  } finally {
    asker.close();
  }
}
