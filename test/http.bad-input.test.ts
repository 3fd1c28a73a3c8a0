/** What the native interface refuses before it looks at anything: ambiguous JSON, unknown fields, bodies where none is taken. */
import { describe, expect, it } from 'vitest';
import { cpuMs } from './cost.ts';
import { api, as, get, ownVault, reader, t } from './http.native.ts';

ownVault();

describe('bad input', () => {
  it('T-104 T-105 JSON that has two meanings or no end is refused before anything is looked at, token or not', async () => {
    const bodies = [
      '['.repeat(1_000_000),
      `{"a":${'{"a":'.repeat(100_000)}`,
      `{${Array.from({ length: 100_000 }, (_, i) => `"${i}":1`).join(',')}}`,
      `{"data":{"n":${'9'.repeat(1_000_000)}}}`,
      '{"data":{},"data":{}}',
      '{"data":{"__proto__":{"polluted":true}}}',
      '{"data":{"a":1,"\\u0061":2}}',
      '{"data":{}',
      '{"data":{}} x',
      '\ufeff{"data":{}}',
      '{"data":{"a":"\\ud800"}}',
      '',
    ];
    for (const raw of bodies) {
      for (const token of [t.admin, undefined]) {
        const cost = await cpuMs(async () => {
          const answer = await t.request('PUT', api('/secrets/bad/json'), {
            raw,
            headers: { 'content-type': 'application/json' },
            ...(token === undefined ? {} : { token }),
          });
          expect([raw.slice(0, 20), answer.status]).toEqual([raw.slice(0, 20), 400]);
        });
        // Asking is part of it, as both sides are this process.
        expect(cost).toBeLessThan(500);
      }
    }
    expect(({} as { polluted?: unknown }).polluted).toBeUndefined();
    expect((await get('bad/json')).status).toBe(404);
  });

  it('T-105 names of the prototype are only names in a query too', async () => {
    for (const query of ['__proto__=1', '__proto__[x]=1', 'constructor=1', 'constructor.prototype.x=1', 'toString=1']) {
      expect((await t.request('GET', api(`/secrets?${query}`), as(t.admin))).status).toBe(400);
    }
    expect(({} as { x?: unknown }).x).toBeUndefined();
  });

  it('T-222 a message names the field and what is expected, never what came', async () => {
    const canary = 'hunter2-canary';
    const bodies: [string, string, unknown][] = [
      ['PUT', '/secrets/a', { data: canary }],
      ['PUT', '/secrets/a', { text: 'x', cas: canary }],
      ['PUT', '/secrets/a', { bytes: canary }],
      ['PUT', '/secrets/a', { text: 'x', ttl: canary }],
      ['PUT', '/secrets/a', { text: 'x', content_type: canary }],
      ['PUT', '/secrets/a', { text: 'x', metadata: { a: { b: canary } } }],
      ['POST', '/auth/login', { tenant: 'default', username: 'admin', password: [canary] }],
      ['POST', '/users', { username: { a: canary } }],
      ['POST', '/fetch', { paths: [`${canary}/`] }],
      ['PUT', '/policies/x', { rules: [{ effect: canary, actions: [canary], resources: [canary] }] }],
    ];
    for (const [method, path, body] of bodies) {
      const answer = await t.request(method, api(path), as(t.admin, body));
      expect([path, answer.status]).toEqual([path, 400]);
      expect(answer.text).not.toContain(canary);
    }
    const cut = await t.request('PUT', api('/secrets/a'), {
      token: t.admin,
      raw: `{"data":{"a":"${canary}`,
      headers: { 'content-type': 'application/json' },
    });
    expect(cut.text).not.toContain(canary);
  });

  it('a body where none is taken is refused, and a missing one is said to be', async () => {
    expect((await t.request('DELETE', api('/users/reader'), as(t.admin, {}))).status).toBe(400);
    expect((await t.request('POST', api('/auth/logout'), as(reader, { all: true }))).status).toBe(400);
    const missing = await t.request(
      'POST',
      api('/users'),
      as(t.admin, undefined, { 'content-type': 'application/json' }),
    );
    expect([missing.status, missing.json.code]).toEqual([400, 'invalid_json']);
    expect((await t.request('POST', api('/users'), as(t.admin))).status).toBe(415);
    for (const encoding of ['gzip', 'br', 'identity, gzip']) {
      const answer = await t.request(
        'POST',
        api('/users'),
        as(t.admin, { username: 'x' }, { 'content-encoding': encoding }),
      );
      expect(answer.status).toBe(415);
    }
  });
});
