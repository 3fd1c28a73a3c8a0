/** `bulla job …`: background jobs, and the bar that shows how far one is. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import type { Job } from '../client/index.ts';
import type { Cli } from './cli.ts';
import { EXIT } from './exit.ts';
import { duration, printFields, printJson, printList, time } from './print.ts';
import { bar } from './progress.ts';

export function addJobCommands(root: Command, cli: Cli): void {
  const job = root.command('job').description('background jobs, such as re-encryption');
  job
    .command('list')
    .description('list the jobs of the tenant')
    .action(() =>
      printList(cli.io, cli.json(), cli.client().jobs.list(), [
        ['id', ({ id }) => id],
        ['kind', ({ kind }) => kind],
        ['subject', ({ subject }) => subject],
        ['state', ({ state }) => state],
        ['done', (item) => `${item.done}/${item.total}`],
        ['created', ({ created_at }) => time(created_at)],
      ]),
    );
  job
    .command('show')
    .description('show how far a job is, or what it did')
    .argument('<id>')
    .action(async (id: string) => printJob(cli, await cli.client().jobs.get(id)));
  job
    .command('cancel')
    .description('end a job early; what it did stays done')
    .argument('<id>')
    .action(async (id: string) => printJob(cli, await cli.client().jobs.cancel(id)));
  job
    .command('resume')
    .description('go on with a job that was cancelled or failed')
    .argument('<id>')
    .action(async (id: string) => printJob(cli, await cli.client().jobs.resume(id)));
}

function printJob(cli: Cli, job: Job): Promise<void> {
  return printFields(cli.io, cli.json(), job, [
    ['id', ({ id }) => id],
    ['kind', ({ kind }) => kind],
    ['subject', ({ subject }) => subject],
    ['state', ({ state }) => state],
    ['done', (item) => `${item.done}/${item.total}`],
    ['rate', ({ rate }) => rate && `${rate}/s`],
    ['left', ({ seconds_left }) => duration(seconds_left)],
    ['created', ({ created_at }) => time(created_at)],
    ['finished', ({ finished_at }) => time(finished_at)],
    ['error', ({ error }) => error],
    ['report', ({ report }) => report && JSON.stringify(report)],
  ]);
}

const LOOK_MS = 500;

/** Waits for the end of a job, with a bar where a person looks; programs get the job at its end. */
export async function followJob(cli: Cli, started: Job): Promise<void> {
  const { stderr } = cli.io;
  const shown = stderr.isTTY === true && !cli.json();
  const client = cli.client();
  let job = started;
  while (job.state === 'queued' || job.state === 'running') {
    if (shown) stderr.write(`\r\u001b[K${barOf(job)}`);
    await sleep(LOOK_MS);
    job = await client.jobs.get(job.id);
  }
  if (shown) stderr.write('\r\u001b[K');
  if (job.state !== 'done') cli.setExitCode(EXIT.failed);
  if (cli.json()) await printJson(cli.io, job);
  else await printJob(cli, job);
}

/** `[#####-----]  42000/100000  15320/s  4 s left` */
function barOf({ done, total, rate, seconds_left }: Job): string {
  const pace = rate === null ? '' : `  ${Math.round(rate)}/s`;
  const left = seconds_left === null ? '' : `  ${seconds_left} s left`;
  return `${bar(done, total)}${pace}${left}`;
}
