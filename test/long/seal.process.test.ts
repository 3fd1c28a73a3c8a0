/** Seals as an operator has them: the real server with descriptors, the real command line, over restarts. */
import { spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, it, vi } from 'vitest';
import { MAIN, run, temporaryDirectory } from '../process.ts';
import { CHEAP_ARGON2, PASSWORD } from '../setup.ts';

vi.setConfig({ testTimeout: 120_000 });

const PASSPHRASE = 'seven bright lanterns over the harbour';
const CHEAP = { ...CHEAP_ARGON2, BULLA_SEAL_PASSPHRASE_MEMORY_KIB: '19456', BULLA_SEAL_PASSPHRASE_PASSES: '2' };

const undo: (() => unknown)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

type Started = { address: string; end: () => Promise<unknown>; output: () => string };

/** `descriptor` is the server's descriptor 3. */
function start(dataDir: string, env: Record<string, string>, descriptor?: number): Promise<Started> {
  const child = spawn(process.execPath, [MAIN, 'server'], {
    env: { PATH: process.env.PATH, BULLA_DATA_DIR: dataDir, BULLA_LISTEN: '127.0.0.1:0', ...CHEAP, ...env },
    stdio: ['ignore', 'pipe', 'pipe', ...(descriptor === undefined ? [] : [descriptor])],
  });
  let output = '';
  const ended = new Promise((resolve) => child.once('exit', resolve));
  const end = () => {
    child.kill('SIGTERM');
    return ended;
  };
  return new Promise((resolve, reject) => {
    const read = (chunk: Buffer) => {
      output += chunk.toString();
      const address = /running at (http:\/\/\S+)/.exec(output)?.[1];
      if (address) resolve({ address, end, output: () => output });
    };
    child.stdout!.on('data', read);
    child.stderr!.on('data', read);
    undo.push(end);
    void ended.then((code) => reject(new Error(`ended with ${code}: ${output}`)));
  });
}

function directory(): string {
  const { path, remove } = temporaryDirectory('seal');
  undo.push(remove);
  return join(path, 'data');
}

function bulla(server: Started, dataDir: string, home: string) {
  return async (args: string, input = '', env: Record<string, string> = {}) => {
    const inherited = { BULLA_ADDR: server.address, BULLA_DATA_DIR: dataDir, XDG_STATE_HOME: home, ...CHEAP, ...env };
    const ran = await run(process.execPath, [MAIN, ...args.split(' ')], { env: inherited, input });
    return { code: ran.code, out: ran.stdout.toString(), err: ran.stderr };
  };
}

async function loginOperator(person: ReturnType<typeof bulla>, dataDir: string): Promise<void> {
  const first = JSON.parse(readFileSync(join(dataDir, 'first-credentials.json'), 'utf8')).system;
  expect((await person('login system operator', `${first.password}\n${PASSWORD}\n`)).code).toBe(0);
}

/** The kept token belongs to an address, and a restart has another port. */
async function loginAgain(person: ReturnType<typeof bulla>): Promise<void> {
  expect((await person('login system operator', `${PASSWORD}\n`)).code).toBe(0);
}

it('a vault is born under shares, asks for them after a restart, and says whether they fit', async () => {
  const dataDir = directory();
  const env = { BULLA_SEAL: 'shamir', BULLA_SEAL_SHAMIR_SHARES: '3', BULLA_SEAL_SHAMIR_THRESHOLD: '2' };
  await expect(start(dataDir, env)).rejects.toThrow(/shows its shares once/);
  const file = join(dataDir, '..', 'shares');
  const descriptor = openSync(file, 'w', 0o600);
  const first = await start(dataDir, { ...env, BULLA_SEAL_SHARES_FD: '3' }, descriptor);
  closeSync(descriptor);
  const shares = readFileSync(file, 'utf8').trim().split('\n');
  expect(shares).toHaveLength(3);
  await loginOperator(bulla(first, dataDir, dataDir), dataDir);
  const checked = await bulla(first, dataDir, dataDir)('seal check-shares', `${shares[0]}\n${shares[2]}\n`);
  expect([checked.code, checked.out]).toEqual([0, expect.stringContaining('Together they open the vault.')]);
  expect(first.output()).not.toContain('bulla-share');
  await first.end();

  const second = await start(dataDir, env);
  expect(second.output()).toContain('waits for what opens its seal');
  const person = bulla(second, dataDir, dataDir);
  expect((await person('secret list')).code).toBe(7);
  expect((await person('seal status')).out).toMatch(/waits for what opens its seal[\s\S]*0 of 2/);
  const wrong = await person('unseal', `${shares[0]}\nnot a share\n`);
  expect([wrong.code, wrong.err]).toEqual([2, expect.stringContaining('This is not a share')]);
  expect((await person('unseal', `${shares[1]}\n`)).out).toContain('This node is unsealed');
  await loginAgain(person);
  expect((await person('root-key list')).code).toBe(0);
});

it('an operator seals, and the host’s own seal opens it again: `bulla unseal` over the database', async () => {
  const dataDir = directory();
  const server = await start(dataDir, {});
  const person = bulla(server, dataDir, dataDir);
  await loginOperator(person, dataDir);
  expect((await person('unseal')).out).toContain('is not sealed');
  expect((await person('seal now --yes')).code).toBe(0);
  expect((await person('root-key list')).code).toBe(7);
  await server.end();
  const again = await start(dataDir, {});
  const later = bulla(again, dataDir, dataDir);
  expect(again.output()).toContain('an operator sealed it');
  const elsewhere = await later('unseal', '', { BULLA_SEAL_FILE: join(dataDir, 'nowhere') });
  expect([elsewhere.code, elsewhere.err]).toEqual([7, expect.stringContaining('cannot be read (ENOENT)')]);
  expect((await later('unseal')).code).toBe(0);
  for (let tries = 0; (await later('seal status --json')).out.includes('true'); tries += 1)
    expect(tries).toBeLessThan(5);
  await loginAgain(later);
  await loginAgain(later);
});

it('a vault moves to a passphrase over the command line, and a descriptor opens it at the next start', async () => {
  const dataDir = directory();
  const server = await start(dataDir, {});
  const person = bulla(server, dataDir, dataDir);
  await loginOperator(person, dataDir);
  const moved = await person('seal migrate --to passphrase', `${PASSPHRASE}\n`);
  expect([moved.code, moved.out]).toEqual([
    0,
    expect.stringMatching(/sealed by passphrase, no more by file[\s\S]*--reencrypt/),
  ]);
  await server.end();
  const file = join(dataDir, '..', 'passphrase');
  writeFileSync(file, `${PASSPHRASE}\n`, { mode: 0o600 });
  const descriptor = openSync(file, 'r');
  const again = await start(dataDir, { BULLA_SEAL_PASSPHRASE_FD: '3' }, descriptor);
  closeSync(descriptor);
  await loginAgain(bulla(again, dataDir, dataDir));
  expect((await bulla(again, dataDir, dataDir)('root-key list')).out).toMatch(/2 +active .* passphrase/);
  await again.end();
  const shut = await start(dataDir, {});
  const later = bulla(shut, dataDir, dataDir);
  expect((await later('unseal', 'another passphrase altogether\n')).code).toBe(2);
  expect((await later('unseal', `${PASSPHRASE}\n`)).code).toBe(0);
  await loginAgain(later);
});
