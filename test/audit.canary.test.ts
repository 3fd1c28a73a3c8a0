/**
 * T-088, T-089, T-220, T-223: values of every JSON type, where they belong and where they do not, occur in no entry, log
 * line, metric or error, in any encoding.
 */
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { everySpelling, type Watched, watchedVault } from './canary.ts';

let watched: Watched;
const canaries: string[] = [];

/** Letters and digits that occur nowhere else; a number has digits only. */
function canary(kind: 'text' | 'number' = 'text'): string {
  const made =
    kind === 'text'
      ? `Cnry${randomBytes(9).toString('hex')}`
      : `7${BigInt(`0x${randomBytes(8).toString('hex')}`)
          .toString()
          .slice(0, 14)}`;
  canaries.push(made);
  return made;
}

beforeAll(async () => {
  watched = await watchedVault();
});
afterAll(() => watched.close());

type Sent = {
  path?: string;
  method?: string;
  body?: string | Buffer;
  headers?: Record<string, string>;
  token?: string;
};

async function send(sent: Sent): Promise<void> {
  const { path = '/secrets/canary', method = 'PUT', body, headers = {}, token = watched.t.admin } = sent;
  await watched.send(`/api/v1${path}`, {
    method,
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json', ...headers },
    ...(body === undefined ? {} : { body: typeof body === 'string' ? body : new Uint8Array(body) }),
  });
}

it('T-088 T-089 no canary is in an entry, a log line, a metric or an error', async () => {
  const sent: Sent[] = [
    // Where values belong.
    { body: `{"data":{"a":"${canary()}","n":${canary('number')},"deep":{"${canary()}":[true,"${canary()}"]}}}` },
    { body: `{"text":"${canary()}","metadata":{"owner":"${canary()}"}}` },
    { body: `{"bytes":"${Buffer.from(canary()).toString('base64')}"}` },
    {
      path: '/secrets/canary-raw',
      headers: { 'content-type': 'application/octet-stream' },
      body: Buffer.from(canary()),
    },
    { method: 'PATCH', body: `{"data":{"patched":"${canary()}"}}` },
    { path: '/secrets/canary', method: 'GET' },
    { path: '/fetch', method: 'POST', body: '{"paths":["canary"]}' },
    // Where they do not.
    { body: `{"text":${canary('number')}}` },
    { body: `{"data":["${canary()}"]}` },
    { body: `{"${canary()}":"x"}` },
    { body: `{"text":"${canary()}"` },
    { body: `${canary()}` },
    { body: Buffer.concat([Buffer.from(`{"text":"${canary()}`), Buffer.of(0xff, 0xfe), Buffer.from('"}')]) },
    { body: `{"text":"a","text":"${canary()}"}` },
    { body: `{"text":"x","cas":"${canary()}"}` },
    { body: `{"text":"x","ttl":"${canary()}"}` },
    { path: `/secrets/canary?${canary()}=1`, method: 'GET' },
    { path: `/secrets/canary?version=${canary()}`, method: 'GET' },
    { path: `/secrets/canary?token=${canary()}`, method: 'GET' },
    { path: `/secrets/a%2f${canary()}`, method: 'GET' },
    { path: `/${canary()}`, method: 'GET' },
    { path: '/secrets/canary', method: 'GET', headers: { 'x-request-id': `${canary()} with a space` } },
    { path: '/secrets/canary', method: 'GET', headers: { 'x-vault-token': canary(), cookie: `session=${canary()}` } },
    { path: '/secrets/canary', headers: { 'if-match': `"${canary()}"` }, body: '{"text":"x"}' },
    { path: '/secrets/canary', headers: { 'content-type': `text/${canary()}` }, body: 'x' },
    { path: '/auth/self', method: 'GET', token: canary() },
    { path: '/auth/self', method: 'GET', token: `bulla_system_${'a'.repeat(16)}.${canary()}` },
    { path: '/auth/login', method: 'POST', body: `{"tenant":"default","username":"admin","password":"${canary()}"}` },
    { path: '/auth/login', method: 'POST', body: `{"tenant":"default","username":"${canary()}","password":"x"}` },
    { path: '/auth/login', method: 'POST', body: `{"tenant":"${canary()}","username":"admin","password":"x"}` },
    { path: '/users', method: 'POST', body: `{"username":"bob","password":"${canary()}"}` },
    { path: '/users', method: 'POST', body: `{"username":{"a":"${canary()}"}}` },
    { path: '/policies/p', method: 'PUT', body: `{"rules":[{"effect":"${canary()}"}]}` },
    { path: '/seal/unseal', method: 'POST', body: `{"passphrase":"${canary()}"}` },
  ];
  for (const request of sent) await send(request);
  canaries.push(watched.t.admin.split('.')[1]!);
  const places = await watched.said();
  expect(places.entries.split('\n').length).toBeGreaterThan(sent.length / 2);
  expect(places.log.split('\n').length).toBeGreaterThan(sent.length / 2);
  for (const [place, text] of Object.entries(places)) {
    for (const secret of canaries) {
      const found = everySpelling(secret).findIndex((spelling) => text.includes(spelling));
      expect(found, `canary ${canaries.indexOf(secret)} stands in the ${place}`).toBe(-1);
    }
  }
});
