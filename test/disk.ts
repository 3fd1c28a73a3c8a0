/** What the tests of a full disk and of one that hangs share: a vault that somebody uses, and what must hold of it. */
import { execFileSync } from 'node:child_process';
import { expect } from 'vitest';
import { firstCredentials, type Server } from './process.ts';
import { PASSWORD } from './setup.ts';

export const VALUE = 'a-value-that-must-not-leave-4712';
export const DEADLINE_MS = 5000;

export const api = (server: Server) => {
  let token = '';
  const ask = async (method: string, path: string, body?: unknown, id?: string) => {
    const started = performance.now();
    const answer = await fetch(`${server.address}/api/v1${path}`, {
      method,
      headers: {
        'content-type': 'application/json',
        ...(token ? { authorization: `Bearer ${token}` } : {}),
        ...(id ? { 'x-request-id': id } : {}),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await answer.text();
    return { status: answer.status, text, ms: performance.now() - started };
  };
  const login = async (password: string) => {
    const account = { ...firstCredentials(server.dataDir).default, password };
    token = JSON.parse((await ask('POST', '/auth/login', account)).text).token;
  };
  return {
    ask,
    bearer: () => token,
    start: async () => {
      const { password } = firstCredentials(server.dataDir).default;
      await login(password);
      await ask('POST', '/auth/password', { current_password: password, new_password: PASSWORD });
      await login(PASSWORD);
      expect((await ask('PUT', '/secrets/prod/db', { text: VALUE })).status).toBe(201);
    },
  };
};
export type Ask = ReturnType<typeof api>['ask'];

/** Every read that was answered is in the log, and every write that was acknowledged is there. */
export async function prove(ask: Ask, reads: readonly string[], writes: readonly string[]): Promise<void> {
  const log = (await ask('GET', '/audit/entries')).text;
  for (const id of reads) expect(log, id).toContain(`"request":"${id}"`);
  for (const path of writes) expect((await ask('GET', `/secrets/${path}`)).status, path).toBe(200);
}

/** Reads and large writes until something is refused or there are `most`; what was answered, and how. */
export async function press(ask: Ask, name: string, most: number) {
  const [reads, writes, refused] = [[] as string[], [] as string[], [] as { status: number; ms: number }[]];
  for (let i = 0; i < most && refused.length < 6; i += 1) {
    const write = await ask('PUT', `/secrets/${name}/${i}`, { text: 'x'.repeat(900_000) });
    const read = await ask('GET', '/secrets/prod/db', undefined, `${name}-${i}`);
    for (const { status, ms, text } of [write, read]) {
      expect(ms, name).toBeLessThan(DEADLINE_MS);
      if (status >= 400) refused.push({ status, ms });
      if (status >= 400) expect(text).not.toContain(VALUE);
    }
    if (write.status === 201) writes.push(`${name}/${i}`);
    if (read.status === 200) reads.push(`${name}-${i}`);
  }
  return { reads, writes, refused };
}

export const attempt = (program: string, args: readonly string[]): boolean => {
  try {
    execFileSync(program, args, { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
};
