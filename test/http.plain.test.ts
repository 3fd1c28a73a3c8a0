/** The plainest read goes past router and adapter: what it says must be what they say, and what is not plain must not. */
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type TestVault, testVault } from './harness.ts';

let t: TestVault;
const PATH = '/api/v1/secrets/plain/app/db';
/** Goes to the router, because it has a query. */
const ROUTED = `${PATH}?version=1`;

beforeAll(async () => {
  t = await testVault();
});
afterAll(async () => {
  await t.check();
  await t.close();
});

const entriesOf = async (requestId: string) => {
  const all = await t.request('GET', '/api/v1/audit/entries?format=ndjson', { token: t.admin });
  return all.text
    .split('\n')
    .filter((line) => line.includes(`"request":"${requestId}"`))
    .map((line) => {
      const { seq, salt, time, request, ...said } = JSON.parse(line);
      return said;
    });
};

async function bothWays(token: string | undefined, plain = PATH, routed = ROUTED) {
  const answers = [];
  for (const [i, path] of [plain, routed].entries()) {
    const requestId = `both-${randomBytes(4).toString('hex')}-${i}`;
    const answer = await t.request('GET', path, {
      ...(token === undefined ? {} : { token }),
      headers: { 'x-request-id': requestId },
    });
    const headers = Object.fromEntries(answer.headers);
    expect(headers['x-request-id']).toBe(requestId);
    const { date: _, 'x-request-id': __, ...rest } = headers;
    answers.push({
      status: answer.status,
      headers: rest,
      text: answer.text.replaceAll(requestId, 'ID'),
      entries: token === undefined ? [] : await entriesOf(requestId),
    });
  }
  return answers as [(typeof answers)[number], (typeof answers)[number]];
}

describe('a plain read', () => {
  it.each([
    ['data', '{"data":{"big":123456789012345678901234567890,"ключ":"значение","n":[1,null,true]}}'],
    ['text', JSON.stringify({ text: 'line\n"quoted" – ünïcode 🗝 \u2028 end' })],
    [
      'bytes',
      `{"bytes":"${Buffer.from([0, 255, 1, 254, 128]).toString('base64')}","content_type":"application/x-key"}`,
    ],
  ])('says of %s what the router says, byte for byte, with the same entry', async (_, raw) => {
    await t.request('DELETE', `/api/v1/metadata/plain/app/db`, { token: t.admin });
    const headers = { 'content-type': 'application/json' };
    expect((await t.request('PUT', PATH, { token: t.admin, raw, headers })).status).toBe(201);
    const [plain, routed] = await bothWays(t.admin);
    expect(plain).toEqual(routed);
    expect(plain.status).toBe(200);
    expect(plain.entries).toHaveLength(1);
  });

  it('comes with metadata and an end, as the router has them', async () => {
    await t.request('DELETE', `/api/v1/metadata/plain/app/db`, { token: t.admin });
    await t.request('PUT', PATH, { token: t.admin, body: { text: 'x', ttl: '1h' } });
    const patched = await t.request('PATCH', '/api/v1/metadata/plain/app/db', {
      token: t.admin,
      body: { metadata: { owner: 'Größe' } },
    });
    expect(patched.status).toBe(200);
    const [plain, routed] = await bothWays(t.admin);
    expect(plain).toEqual(routed);
    expect(JSON.parse(plain.text)).toMatchObject({ metadata: { owner: 'Größe' } });
    expect(JSON.parse(plain.text).expires_at).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
  });

  it('fails as the router fails: no token, a wrong one, no policy, nothing there', async () => {
    const nobody = await t.user('plain-nobody', []);
    for (const token of [undefined, 'nonsense', `${t.admin.slice(0, -1)}~`, nobody]) {
      const [plain, routed] = await bothWays(token);
      expect(plain).toEqual(routed);
      expect(plain.status).toBe(token === nobody ? 403 : 401);
    }
    const [plain, routed] = await bothWays(
      t.admin,
      '/api/v1/secrets/plain/none',
      '/api/v1/secrets/plain/none?version=1',
    );
    expect(plain).toEqual(routed);
    expect(plain.status).toBe(404);
  });

  it('is not what has a body, a condition or a strange path', async () => {
    const asked = async (path: string, headers: Record<string, string>) =>
      (await t.request('GET', path, { token: t.admin, headers })).status;
    const { headers } = await t.request('GET', PATH, { token: t.admin });
    expect(await asked(PATH, { 'if-none-match': headers.get('etag')! })).toBe(304);
    expect(await asked('/api/v1/secrets/plain/', {})).toBe(400);
    expect(await asked(`/api/v1/secrets/${'a/'.repeat(16)}a`, {})).toBe(400);
    expect((await t.request('HEAD', PATH, { token: t.admin })).status).toBe(200);
  });

  it('on one connection each request is judged by the token that it brings', async () => {
    const nobody = await t.user('plain-other', []);
    for (const [token, status] of [
      [t.admin, 200],
      [nobody, 403],
      [t.admin, 200],
      ['x', 401],
      [t.admin, 200],
    ] as const) {
      expect((await t.request('GET', PATH, { token })).status).toBe(status);
    }
    await t.request('POST', '/api/v1/auth/logout', { token: nobody });
    expect((await t.request('GET', PATH, { token: nobody })).status).toBe(401);
  });
});
