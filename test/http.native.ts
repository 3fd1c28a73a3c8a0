/** For the tests of the native interface: a vault that listens, and its requests in short. */
import { afterAll, beforeAll } from 'vitest';
import { type TestVault, testVault } from './harness.ts';

export let t: TestVault;
export let reader: string;
export const api = (path: string) => `/api/v1${path}`;
export const as = (token: string, body?: unknown, headers?: Record<string, string>) => ({
  token,
  ...(body === undefined ? {} : { body }),
  ...(headers === undefined ? {} : { headers }),
});

/** Once a file. */
export function ownVault(): void {
  beforeAll(async () => {
    t = await testVault();
    reader = await t.user('reader', ['reader']);
  });
  afterAll(async () => {
    await t.check();
    await t.close();
  });
}

export const put = (path: string, body: unknown, headers?: Record<string, string>) =>
  t.request('PUT', api(`/secrets/${path}`), as(t.admin, body, headers));
export const get = (path: string, headers?: Record<string, string>) =>
  t.request('GET', api(`/secrets/${path}`), as(t.admin, undefined, headers));
