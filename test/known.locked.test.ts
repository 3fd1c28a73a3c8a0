/** Rounds that lock the heads of logs, of several tenants: what they know beside what they read counts as it stands, or not at all. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { readSecret } from '../src/policy/read.ts';
import { fetchSecrets } from '../src/secret/fetch.ts';
import { parsePath } from '../src/secret/path.ts';
import type { Vault } from '../src/vault.ts';
import { type TestVault, testVault } from './harness.ts';
import { codeOf, hold, textOf } from './witness.ts';

let t: TestVault;
/** The node that reads; whatever is changed over HTTP is changed by another one. */
let reader: Vault;

beforeAll(async () => {
  t = await testVault();
  reader = await t.node();
});
afterAll(() => t.close());

const open = (token: string, path: string) => readSecret(reader, t.call(token), parsePath(path), 0);

async function ask(method: string, path: string, body?: unknown, token = t.admin) {
  const answer = await t.request(method, `/api/v1/${path}`, { token, ...(body === undefined ? {} : { body }) });
  expect([200, 201, 204], `${method} ${path}: ${answer.text}`).toContain(answer.status);
}
const put = (path: string, text: string, token = t.admin) => ask('PUT', `secrets/${path}`, { text }, token);

/** Somebody of a tenant that this node knows nothing of. */
async function stranger(name: string): Promise<string> {
  const token = await t.tenant(name);
  await put('theirs', 'z', token);
  return token;
}

/** As often as a head goes unguessed when others have moved it for long, and then some. */
const READS_UNTIL_KNOWN = 70;

/** Reads until all of it is known, and shows that it is: the rows cannot be read any more. */
async function know(token: string, path: string): Promise<void> {
  for (let i = 0; i < READS_UNTIL_KNOWN; i += 1) await open(token, path);
  const release = await hold(t.owner, 'LOCK TABLE tokens, users, policies, secrets, secret_versions, secret_metadata');
  try {
    expect(await codeOf(open(token, path))).toBe('ok');
  } finally {
    await release();
  }
}

it('a row that is read says that something has changed since the one beside it, and both are read', async () => {
  const theirs = await stranger('beside');
  await put('beside/known', 'first');
  await put('beside/unknown', 'y');
  await know(t.admin, 'beside/known');
  await put('beside/known', 'second');
  const fetch = (token: string, paths: string[]) =>
    fetchSecrets(reader, t.call(token), { paths: paths.map(parsePath) }).then((all) => all.map(textOf));
  const both = [fetch(t.admin, ['beside/known', 'beside/unknown']), fetch(theirs, ['theirs'])];
  expect(await Promise.all(both)).toEqual([['second', 'y'], ['z']]);
});

it('a version that is known has expired when the clock has jumped, for a token that is read too', async () => {
  const theirs = await stranger('clock');
  await ask('PUT', 'secrets/time/expires', { text: 'x', ttl: 600 });
  const fresh = await t.user('fresh', [], [{ effect: 'allow', actions: ['secret.read'], resources: ['secret:**'] }]);
  await know(t.admin, 'time/expires');
  const jump = (seconds: number) =>
    Promise.all(reader.db.idle.map((lane) => lane.sql.unsafe(`SET bulla.clock_offset_seconds = '${seconds}'`)));
  await jump(1_200);
  try {
    const both = [codeOf(open(theirs, 'theirs')), codeOf(open(fresh, 'time/expires'))];
    expect(await Promise.all(both)).toEqual(['ok', 'not_found']);
  } finally {
    await jump(0);
  }
});

it('what is known is known on after an act that takes something else away', async () => {
  await put('on', 'x');
  await ask('POST', 'transit/keys', { name: 'on', type: 'aes256-gcm96' });
  await ask('PATCH', 'transit/keys/on', { deletion_allowed: true });
  await know(t.admin, 'on');
  await ask('DELETE', 'transit/keys/on');
  await know(t.admin, 'on');
});
