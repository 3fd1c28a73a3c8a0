/**
 * `bulla seal …` and `bulla unseal`.
 *
 * Shares and passphrases are asked for without echo, or come as lines of standard input. A seal that opens by itself is
 * opened on its host, over the database, because no login works while the vault is sealed.
 */
import type { Command } from 'commander';
import type { Bulla, Seal } from '../client/index.ts';
import { VaultError } from '../errors.ts';
import type { Cli } from './cli.ts';
import { confirm } from './confirm.ts';
import { type Asker, createAsker, print } from './io.ts';
import { clean, printDone, printFields, printJson } from './print.ts';

type MigrateOptions = { to: Seal['kind']; shares?: string; threshold?: string };

export function addSealCommands(root: Command, cli: Cli): void {
  const seal = root.command('seal').description('what protects the root key outside the database');
  seal
    .command('status')
    .description('say whether the vault is sealed, and by what')
    .action(async () => printState(cli, await cli.client().seal.state()));
  seal
    .command('now')
    .description('seal the vault on every node until it is unsealed (operators)')
    .option('--yes', 'do not ask')
    .action(async ({ yes }: { yes?: true }) => {
      if (!yes) await confirm(cli.io, 'Nobody will be able to read anything until the vault is unsealed.', 'seal');
      await cli.client().seal.seal();
      await printDone(cli.io, cli.json(), 'The vault is sealed on every node. Unseal it with: bulla unseal');
    });
  seal
    .command('migrate')
    .description('move the root key to another seal, while everything goes on (operators)')
    .requiredOption('--to <kind>', 'file, env, passphrase, shamir, aws-kms or transit')
    .option('--shares <n>', 'shamir: how many shares')
    .option('--threshold <k>', 'shamir: how many of them open the seal')
    .addHelpText(
      'after',
      `
What the new seal takes is configured on every node first: see docs/configuration.md. A passphrase is asked for, or is
the first line of standard input. Shares are shown once, and the threshold of them is asked for again before anything
changes; without a terminal they are confirmed as they came, and printed as JSON with --json.`,
    )
    .action((options: MigrateOptions) => migrate(cli, options));
  seal
    .command('check-shares')
    .description('say whether shares still fit, without unsealing (operators)')
    .addHelpText('after', '\nThe shares are asked for until an empty line, or are the lines of standard input.')
    .action(() => checkShares(cli));
  root
    .command('unseal')
    .description('bring the shares or the passphrase; or open the seal of this host that an operator closed')
    .action(() => unseal(cli));
}

function printState({ io, json }: Cli, state: Seal): Promise<void> {
  return printFields(io, json(), state, [
    ['sealed', ({ sealed }) => sealed],
    ['kind', ({ kind }) => kind],
    ['why', ({ reason }) => reason && WHY[reason]],
    ['takes', ({ takes }) => takes],
    ['shares given', ({ progress }) => progress && `${progress.given} of ${progress.threshold}`],
  ]);
}

const WHY: Readonly<Record<NonNullable<Seal['reason']>, string>> = {
  operator: 'an operator sealed it',
  waiting: 'it waits for what opens its seal',
  unreachable: 'its seal cannot act now; see the log of the server',
};

async function unseal(cli: Cli): Promise<void> {
  const client = cli.client();
  const state = await client.seal.state();
  if (!state.sealed) return printDone(cli.io, cli.json(), 'The vault is not sealed.', state);
  if (state.takes !== null) return bring(cli, client, state);
  if (!(await cli.unsealHere())) {
    throw new VaultError(
      'sealed',
      'The seal cannot act now, and opens by itself when it can: see the log of the server.',
    );
  }
  await printDone(cli.io, cli.json(), 'The vault is unsealed; every node opens within a second.');
}

/** A share that does not fit is said and asked for again at a terminal; a program hears of the first. */
async function bring({ io, json }: Cli, client: Bulla, first: Seal): Promise<void> {
  const asker = createAsker(io);
  let state = first;
  try {
    while (state.sealed) {
      const { takes, progress } = state;
      const question = progress ? `Share (${progress.given} of ${progress.threshold} given)` : 'Passphrase';
      const text = await asker.secret(question);
      try {
        state = await client.seal.unseal(takes === 'share' ? { share: text } : { passphrase: text });
      } catch (error) {
        if (!io.stdin.isTTY || (error as { code?: unknown }).code !== 'invalid_request') throw error;
        io.stderr.write(`${clean((error as Error).message)}\n`);
      }
    }
  } finally {
    asker.close();
  }
  await printDone(io, json(), 'This node is unsealed.', state);
}

async function migrate(cli: Cli, { to, shares, threshold }: MigrateOptions): Promise<void> {
  const client = cli.client();
  const asker = createAsker(cli.io);
  try {
    const passphrase = to === 'passphrase' ? { passphrase: await asker.newSecret('New passphrase of the seal') } : {};
    const numbers = { ...numberOf('shares', shares), ...numberOf('threshold', threshold) };
    const first = await client.seal.migrate({ to, ...passphrase, ...numbers });
    if (first.state === 'done') return await printMigrated(cli, first);
    const shown = first.shares ?? [];
    if (cli.json()) await printJson(cli.io, first);
    else await print(cli.io.stdout, `${shown.join('\n')}\n`);
    const confirmed = cli.io.stdin.isTTY ? await askAgain(cli, asker, first.threshold ?? 2) : shown;
    const done = await client.seal.migrate({ to, confirm: [...confirmed] });
    if (!cli.json()) await printMigrated(cli, done);
  } finally {
    asker.close();
  }
}

function numberOf(name: 'shares' | 'threshold', text: string | undefined): { shares?: number; threshold?: number } {
  if (text === undefined) return {};
  if (/^\d{1,3}$/.test(text)) return { [name]: Number(text) };
  throw new VaultError('invalid_request', `--${name}: expected a whole number.`);
}

async function askAgain({ io }: Cli, asker: Asker, threshold: number): Promise<string[]> {
  io.stderr.write('These shares are shown this once. Give each to somebody else. Nothing has changed yet.\n');
  const given: string[] = [];
  while (given.length < threshold) {
    given.push(await asker.secret(`To go on, give ${threshold} of them again (${given.length} given)`));
  }
  return given;
}

function printMigrated({ io, json }: Cli, done: Awaited<ReturnType<Bulla['seal']['migrate']>>): Promise<void> {
  const what = `The vault is sealed by ${done.to}, no more by ${done.from}: root key ${done.root_key_version} wraps ${done.rewrapped} keys, and root key ${done.destroyed_root_key_version} is destroyed.`;
  const next = 'To re-encrypt what old copies hold, in each tenant: bulla key rotate --reencrypt';
  return printDone(io, json(), `${what} ${done.notice} ${next}`, done);
}

async function checkShares(cli: Cli): Promise<void> {
  const shares = await readShares(cli);
  const result = await cli.client().seal.check(shares);
  if (cli.json()) return printJson(cli.io, result);
  const lines = result.shares.map(({ fits, number, generation, reason }, i) => {
    const name = number === null ? `line ${i + 1}` : `share ${number} of split ${generation}`;
    return `${name}: ${fits ? 'fits' : REASONS[reason ?? 'wrong']}`;
  });
  lines.push(result.opens ? 'Together they open the vault.' : 'Together they do not open the vault.');
  await print(cli.io.stdout, `${lines.map(clean).join('\n')}\n`);
}

const REASONS = {
  not_a_share: 'is not a share',
  damaged: 'is damaged: its checksum does not fit',
  another_split: 'belongs to another split than the seal',
  wrong: 'names the split of the seal, but is none of its shares',
} as const;

async function readShares({ io }: Cli): Promise<string[]> {
  if (!io.stdin.isTTY) {
    const pieces: Buffer[] = [];
    for await (const piece of io.stdin as AsyncIterable<Buffer>) pieces.push(piece);
    return Buffer.concat(pieces)
      .toString('utf8')
      .split('\n')
      .map((line) => line.trim())
      .filter((line) => line !== '');
  }
  const asker = createAsker(io);
  const shares: string[] = [];
  try {
    for (;;) {
      const share = await asker.secret(`Share ${shares.length + 1} (empty to end)`);
      if (share.trim() === '') return shares;
      shares.push(share);
    }
  } finally {
    asker.close();
  }
}
