/** T-109: header values of 16 KB cost the server no more than their length, whatever they are made of and whoever sends them. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type TestVault, testVault } from './harness.ts';
import { MODULES } from './process.ts';

let t: TestVault;

beforeAll(async () => {
  // So that the addresses that a proxy names are looked at too.
  t = await testVault({ env: { BULLA_TRUSTED_PROXIES: '127.0.0.1/32' } });
  await t.request('PUT', '/api/v1/secrets/a', { token: t.admin, body: { text: 'a value' } });
});
afterAll(() => t.close());

/** What the server reads by name. */
function headersRead(): string[] {
  const served = ['http', 'protocols', 'auth'].map((folder) => join(MODULES, folder));
  const texts = served.flatMap((folder) =>
    readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.js'))
      .map((name) => readFileSync(join(folder, name), 'utf8')),
  );
  const named = texts.flatMap((text) => [...text.matchAll(/headers\['([a-z-]+)'\]/g)].map(([, name]) => name!));
  // The client of this test frames its requests itself.
  const framing = /^(content-length|transfer-encoding)$/;
  return [...new Set([...named, 'authorization'])].filter((name) => !framing.test(name)).sort();
}

const CHARS = 15_000;
const SIGNS = ['/', ' ', ',', ';', '=', '"', '.', ':', '-', '0', 'a', '(', '%', '*', '\\', '+', '@', 'a,', '::', '0.'];
const hostile = SIGNS.flatMap((sign) => {
  const run = sign.repeat(CHARS / sign.length);
  return [`x${run}x`, `Bearer ${run}!`];
});

it('T-109 each takes less than 10 ms of the processor, or than ten times what plain letters take, with a token or without', async () => {
  const names = headersRead();
  expect(names).toEqual(expect.arrayContaining(['authorization', 'x-forwarded-for', 'x-vault-namespace', 'if-match']));
  const routes = [
    ['GET', '/api/v1/secrets/a', t.admin],
    ['GET', '/v1/secret/data/a', undefined],
    ['POST', '/oauth/token', undefined],
  ] as const;
  const slow: unknown[] = [];
  for (const [method, path, token] of routes) {
    for (const name of names) {
      /** Of this process, in which client and server are: what others do on the machine is not in it. */
      const took = async (value: string) => {
        const before = process.cpuUsage();
        await t.request(method, path, { ...(token ? { token } : {}), headers: { [name]: value } });
        const { user, system } = process.cpuUsage(before);
        return (user + system) / 1000;
      };
      const best = async (value: string) => {
        const times = [];
        for (let i = 0; i < 5; i += 1) times.push(await took(value));
        return Math.min(...times);
      };
      const plain = 'x'.repeat(CHARS);
      const most = Math.max(10, 10 * (await best(plain)));
      for (const value of hostile) {
        // Once may be somebody else's garbage that was collected; then it is compared with letters of the same moment.
        if ((await took(value)) < most || (await best(value)) < Math.max(10, 10 * (await best(plain)))) continue;
        slow.push([method, path, name, `${value.slice(0, 12)}…`]);
      }
    }
  }
  expect(slow).toEqual([]);
}, 120_000);
