/** Tokens under tokens: what bounds them on every path through the gate, how few uses are counted, and how they end. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { forgetEnded } from '../src/auth/ended.ts';
import { type IssuedToken, issueToken, type TokenLimits } from '../src/auth/issue.ts';
import { endOtherSessions } from '../src/auth/session.ts';
import {
  createToken,
  listTokens,
  logout,
  readSelf,
  readToken,
  renewToken,
  revokeOrphaning,
  revokeToken,
} from '../src/auth/token.ts';
import { createUser, deleteUser, updateUser } from '../src/auth/user.ts';
import { parseToken } from '../src/crypto/token.ts';
import type { TenantId } from '../src/db/database.ts';
import { permit } from '../src/policy/permit.ts';
import { readSecret } from '../src/policy/read.ts';
import { deletePolicy, putPolicy } from '../src/policy/store.ts';
import { fetchSecrets } from '../src/secret/fetch.ts';
import { parsePath } from '../src/secret/path.ts';
import { putSecret } from '../src/secret/secret.ts';
import type { Vault } from '../src/vault.ts';
import { PASSWORD, type TestVault, testVault } from './harness.ts';
import { added, codeOf, tenantId, text } from './witness.ts';

let t: TestVault;
let tenant: TenantId;
let other: Vault;

const A = parsePath('app/a');
const B = parsePath('app/b');

beforeAll(async () => {
  t = await testVault();
  tenant = await tenantId(t.owner, 'default');
  other = await t.node();
  for (const path of [A, B]) await putSecret(t.vault, t.call(t.admin), path, text('x'));
  const rule = (effect: string, ...resources: string[]) => ({ effect, actions: ['secret.*'], resources });
  await putPolicy(t.vault, t.call(t.admin), 'only-a', { rules: [rule('allow', 'secret:app/a')] });
  await putPolicy(t.vault, t.call(t.admin), 'not-b', {
    rules: [rule('allow', 'secret:**'), rule('deny', 'secret:app/b')],
  });
});
afterAll(async () => {
  await t.check();
  await t.close();
});

const inAnHour = (thumbprint: Uint8Array) => ({
  thumbprint,
  expiresAt: new Date(Date.now() + 3_600_000).toISOString(),
});
const child = (of: string, limits: TokenLimits = {}): Promise<IssuedToken> =>
  permit(t.vault, t.call(of), { action: 'token.create', resource: 'token:child' }, async (tx, { tokenId }) => ({
    value: await issueToken(t.vault, tx, tenant, { ...limits, parent: tokenId, source: '127.0.0.1' }),
  }));
const read = (token: string, path = A, vault = t.vault, source = '127.0.0.1') =>
  codeOf(readSecret(vault, { ...t.call(token), source }, path, 0));
const fetched = (token: string, path = A) => codeOf(fetchSecrets(t.vault, t.call(token), { paths: [path] }));

describe('what bounds a token', () => {
  it('a bound and a grant must allow it too, and so on down the chain', async () => {
    const bound = await child(t.admin, { bound: ['not-b'] });
    expect([await read(bound.token), await read(bound.token, B)]).toEqual(['ok', 'forbidden']);
    expect([await fetched(bound.token), await fetched(bound.token, B)]).toEqual(['ok', 'forbidden']);
    const admin = { rules: [{ effect: 'allow' as const, actions: ['*'], resources: ['**'] }] };
    expect(await codeOf(child(bound.token))).toBe('forbidden');
    await putPolicy(t.vault, t.call(t.admin), 'maker', {
      rules: [
        { effect: 'allow', actions: ['token.create', 'secret.read'], resources: ['**'] },
        { effect: 'deny', actions: ['secret.read'], resources: ['secret:app/b'] },
      ],
    });
    const maker = await child(t.admin, { bound: ['maker'] });
    for (const limits of [{}, { bound: ['admin'] }, { grant: admin }, { bound: ['admin', 'reader'], grant: admin }]) {
      const under = await child(maker.token, limits);
      expect([await read(under.token), await read(under.token, B)], JSON.stringify(limits)).toEqual([
        'ok',
        'forbidden',
      ]);
      const lower = await child(under.token, { bound: ['admin'] }).catch(() => undefined);
      if (lower) expect(await read(lower.token, B)).toBe('forbidden');
    }
    const granted = await child(t.admin, {
      grant: { rules: [{ effect: 'allow', actions: ['secret.read'], resources: ['secret:app/b'] }] },
    });
    expect([await read(granted.token), await read(granted.token, B)]).toEqual(['forbidden', 'ok']);
    expect(await read((await child(t.admin, { bound: [] })).token)).toBe('forbidden');
  });

  it('T-073 a bound follows its policy as it is now, and allows nothing once that is gone', async () => {
    await putPolicy(t.vault, t.call(t.admin), 'passing', { rules: [] });
    const { token } = await child(t.admin, { bound: ['passing', 'admin'] });
    expect(await read(token)).toBe('ok');
    const rules = [{ effect: 'deny', actions: ['secret.read'], resources: ['secret:app/a'] }];
    await putPolicy(t.vault, t.call(t.admin), 'passing', { rules });
    expect(await read(token, A, other)).toBe('forbidden');
    await deletePolicy(t.vault, t.call(t.admin), 'passing');
    expect([await read(token, A, other), await read(token, B)]).toEqual(['forbidden', 'forbidden']);
  });

  it('the account’s policies count as they are now, whatever the bound', async () => {
    const login = await t.user('shrinking', ['admin']);
    const { token } = await child(login, { bound: ['admin'] });
    expect(await read(token)).toBe('ok');
    await updateUser(t.vault, t.call(t.admin), 'shrinking', { policies: [] });
    expect(await read(token, A, other)).toBe('forbidden');
  });

  it('networks are those of the parent or within them, and compared as addresses', async () => {
    const here = await child(t.admin, { cidrs: ['10.0.0.0/8', '2001:db8::/32'] });
    const call = (source: string) => read(here.token, A, t.vault, source);
    expect(await call('10.1.2.3')).toBe('ok');
    expect(await call('::ffff:10.1.2.3')).toBe('ok');
    expect(await call('2001:DB8:0::1')).toBe('ok');
    for (const source of ['127.0.0.1', '11.0.0.1', '::1', '', 'localhost', '010.1.2.3']) {
      expect(await call(source), source).toBe('unauthenticated');
    }
    const { entries } = await added(t.owner, tenant, () => call('11.0.0.1'));
    expect(entries).toMatchObject([
      { outcome: 'denied', code: 'unauthenticated', details: { reason: 'other_network' }, source: '11.0.0.1' },
    ]);
    const under = (limits: TokenLimits) =>
      permit(
        t.vault,
        { ...t.call(here.token), source: '10.9.9.9' },
        { action: 'token.create', resource: 'token:child' },
        async (tx, { tokenId }) => ({
          value: await issueToken(t.vault, tx, tenant, { ...limits, parent: tokenId, source: '' }),
        }),
      );
    expect(await codeOf(under({ cidrs: ['10.0.0.0/7'] }))).toBe('invalid_request');
    expect(await codeOf(under({ cidrs: ['0.0.0.0/0'] }))).toBe('invalid_request');
    expect(await codeOf(under({ cidrs: ['::ffff:11.0.0.0/104'] }))).toBe('invalid_request');
    const inherited = await under({});
    expect(await read(inherited.token, A, t.vault, '11.0.0.1')).toBe('unauthenticated');
    const narrower = await under({ cidrs: ['10.9.0.0/16'] });
    expect(await read(narrower.token, A, t.vault, '10.1.2.3')).toBe('unauthenticated');
    expect(await read(narrower.token, A, t.vault, '10.9.2.3')).toBe('ok');
  });

  it('T-051 a token bound to a certificate is nothing without it, and so is what hangs under it', async () => {
    const [own, another] = [Buffer.alloc(32, 1), Buffer.alloc(32, 2)];
    const { userId } = await permit(
      t.vault,
      t.call(t.admin),
      { action: 'auth.self', resource: 'token:self' },
      async (_, p) => ({ value: p }),
    );
    const bound = await permit(
      t.vault,
      t.call(t.admin),
      { action: 'auth.self', resource: 'token:self' },
      async (tx) => ({
        value: await issueToken(t.vault, tx, tenant, {
          userId,
          method: 'cert',
          source: '',
          certificate: inAnHour(own),
        }),
      }),
    );
    const renewed = (certificate?: Uint8Array) => codeOf(renewToken(t.vault, { ...t.call(bound.token), certificate }));
    expect([await renewed(), await renewed(another), await renewed(own)]).toEqual([
      'unauthenticated',
      'unauthenticated',
      'ok',
    ]);
    const under = await permit(
      t.vault,
      { ...t.call(bound.token), certificate: own },
      { action: 'token.create', resource: 'token:child' },
      async (tx, { tokenId }) => ({ value: await issueToken(t.vault, tx, tenant, { parent: tokenId, source: '' }) }),
    );
    expect(await read(under.token)).toBe('unauthenticated');
    expect(await codeOf(readSecret(t.vault, { ...t.call(under.token), certificate: own }, A, 0))).toBe('ok');
  });
});

describe('few uses', () => {
  const left = async ({ accessor }: IssuedToken) => (await readToken(t.vault, t.call(t.admin), accessor)).usesLeft;

  it.each([1, 5])('%i uses are as many reads, asked for at once on two nodes among others', async (uses) => {
    const made = await child(t.admin, { uses });
    const others: Promise<string>[] = [];
    const reads = Array.from({ length: 30 }, (_, i) => {
      others.push(read(t.admin, A, i % 2 ? t.vault : other));
      return read(made.token, A, i % 2 ? t.vault : other);
    });
    const codes = await Promise.all(reads);
    expect(codes.filter((code) => code === 'ok')).toHaveLength(uses);
    expect(codes.filter((code) => code === 'unauthenticated')).toHaveLength(30 - uses);
    expect(new Set(await Promise.all(others))).toEqual(new Set(['ok']));
    expect(await left(made)).toBe(0);
    const { entries } = await added(t.owner, tenant, () => read(made.token));
    expect(entries).toMatchObject([
      { outcome: 'denied', details: { reason: 'used_up' }, actor: { accessor: made.accessor } },
    ]);
  });

  it('every act counts once, and one that is refused or fails not at all', async () => {
    const made = await child(t.admin, { uses: 4, bound: ['not-b'] });
    expect(await read(made.token, B)).toBe('forbidden');
    expect(await read(made.token, parsePath('app/absent'))).toBe('not_found');
    expect(await left(made)).toBe(4);
    expect(await fetched(made.token)).toBe('ok');
    expect(await codeOf(putSecret(t.vault, t.call(made.token), A, text('y')))).toBe('ok');
    expect(await codeOf(renewToken(t.vault, t.call(made.token)))).toBe('ok');
    expect(await left(made)).toBe(1);
    expect(await codeOf(child(made.token))).toBe('forbidden');
    expect(await codeOf(child((await child(t.admin, { uses: 2 })).token))).toBe('conflict');
  });
});

describe('whoever makes a token', () => {
  it('T-048 sees it once; the table holds its hash, the log its accessor', async () => {
    const { value: made, entries } = await added(t.owner, tenant, () =>
      createToken(t.vault, t.call(t.admin), {
        name: 'deploy-17',
        metadata: { run: '17' },
        policies: ['not-b'],
        uses: 3,
      }),
    );
    t.secrets.add(made.token);
    expect(made).toMatchObject({
      kind: 'child',
      name: 'deploy-17',
      metadata: { run: '17' },
      bound: ['not-b'],
      usesLeft: 3,
    });
    expect(made.parent).toBe(parseToken(t.admin)!.tokenId);
    expect(entries).toMatchObject([
      { action: 'token.create', outcome: 'ok', details: { accessor: made.accessor, policies: 'not-b', uses: 3 } },
    ]);
    expect(JSON.stringify(await readToken(t.vault, t.call(t.admin), made.accessor))).not.toContain(
      made.token.slice(-20),
    );
    const answer = await t.request('POST', '/api/v1/tokens', { token: t.admin, body: { ttl: '5m' } });
    expect([answer.status, answer.headers.get('cache-control')]).toEqual([201, 'no-store']);
    expect(answer.json).toMatchObject({ kind: 'child', username: 'admin', token_policies: null });
    const shown = await t.request('GET', `/api/v1/tokens/${answer.json.accessor}`, { token: t.admin });
    expect(Object.keys(shown.json)).not.toContain('token');
    expect((await t.request('GET', '/api/v1/auth/self', { token: answer.json.token })).json.kind).toBe('child');
  });

  it('needs leave to, and then looks at what it made and ends it without any', async () => {
    const plain = await t.user('plain', ['reader']);
    expect(await codeOf(createToken(t.vault, t.call(plain), {}))).toBe('forbidden');
    const maker = await t.user(
      'token-maker',
      ['reader'],
      [{ effect: 'allow', actions: ['token.create'], resources: ['token:child'] }],
    );
    const made = await createToken(t.vault, t.call(maker), { policies: ['maker', 'admin'] });
    const under = await createToken(t.vault, t.call(made.token), {});
    for (const token of [maker, made.token, under.token]) {
      expect(await codeOf(readToken(t.vault, t.call(token), under.accessor))).toBe('ok');
    }
    expect(await codeOf(readToken(t.vault, t.call(under.token), made.accessor))).toBe('forbidden');
    expect(await codeOf(revokeToken(t.vault, t.call(under.token), made.accessor))).toBe('forbidden');
    expect(await codeOf(revokeToken(t.vault, t.call(plain), under.accessor))).toBe('forbidden');
    expect(await codeOf(revokeToken(t.vault, t.call(maker), made.accessor))).toBe('ok');
    expect(await read(under.token, A, other)).toBe('unauthenticated');
    expect(await codeOf(readSelf(t.vault, t.call(maker)))).toBe('ok');
  });

  it('T-056 T-066 cannot widen it by any spelling: not one of these makes a token or changes a row', async () => {
    const count = async () => (await t.owner`SELECT count(*) FROM tokens`)[0]!.count;
    const before = await count();
    const wishes: unknown[] = [
      ...[
        'ROOT',
        ' root',
        'root/',
        'Admin',
        'admin ',
        'аdmin',
        'ad\u200bmin',
        '',
        'no-such-policy',
        '*',
        '../admin',
      ].map((policy) => ({ policies: [policy] })),
      ...[{ uses: 0 }, { uses: -1 }, { uses: 1.5 }, { uses: '1' }, { uses: 1e9 }, { uses: null }],
      ...[
        { cidrs: [] },
        { cidrs: ['10.0.0.1/8'] },
        { cidrs: ['10.0.0.0/08'] },
        { cidrs: ['localhost'] },
        { cidrs: ['*'] },
      ],
      ...[{ ttl: 0 }, { ttl: '25h' }, { ttl: '-1' }, { period: '25h' }, { ttl: '1h', period: '1h' }, { ttl: 1e300 }],
      ...[
        { parent: null },
        { kind: 'login' },
        { user_id: 'x' },
        { tenant: 'system' },
        { mfa: true },
        { grant_document: {} },
      ],
      ...[{ name: 'Upper' }, { name: '' }, { metadata: { a: 1 } }, { metadata: { a: 'x'.repeat(257) } }],
    ];
    for (const body of wishes) {
      const answer = await t.request('POST', '/api/v1/tokens', { token: t.admin, body });
      expect(answer.status, JSON.stringify(body)).toBe(400);
    }
    expect(await count()).toBe(before);
  });

  it.each(['root', 'default', 'sys', 'system', 'self', 'child', '', '..', 'K3V2M5QY7DZR4ABC', '0'.repeat(16)])(
    'T-066 the accessor %j names nothing',
    async (accessor) => {
      expect(await codeOf(readToken(t.vault, t.call(t.admin), accessor))).toBe('invalid_request');
      expect(await codeOf(revokeToken(t.vault, t.call(t.admin), accessor))).toBe('invalid_request');
    },
  );

  it('lists what has not ended, of one account or all, for whoever may', async () => {
    const login = await t.user('listed', ['reader']);
    const all = await listTokens(t.vault, t.call(t.admin), { username: 'listed' });
    expect(all.items.map(({ accessor }) => accessor)).toEqual([parseToken(login)!.tokenId]);
    expect(await codeOf(listTokens(t.vault, t.call(login), {}))).toBe('forbidden');
    const first = await listTokens(t.vault, t.call(t.admin), { limit: 2 });
    const second = await listTokens(t.vault, t.call(t.admin), { limit: 2, cursor: first.nextCursor! });
    const accessors = [...first.items, ...second.items].map(({ accessor }) => accessor);
    expect(accessors).toEqual([...new Set(accessors)].sort());
    const foreign = await listTokens(t.vault, t.call(await t.tenant('others')), { username: 'listed' });
    expect(foreign.items).toEqual([]);
  });
});

describe('an end', () => {
  it.each([
    ['logout', (login: string) => logout(t.vault, t.call(login))],
    ['disabling', () => updateUser(t.vault, t.call(t.admin), 'ending', { disabled: true })],
    ['deletion', () => deleteUser(t.vault, t.call(t.admin), 'ending')],
    ['a new password', () => updateUser(t.vault, t.call(t.admin), 'ending', { password: 'another long enough one' })],
  ] as const)('T-049 T-050 %s ends what hangs under a login, for renewals too', async (_, end) => {
    await deleteUser(t.vault, t.call(t.admin), 'ending').catch(() => undefined);
    await createUser(t.vault, t.call(t.admin), { username: 'ending', password: PASSWORD, policies: ['admin'] });
    const login = await t.login('default', 'ending');
    const made = await createToken(t.vault, t.call(login), {});
    const under = await createToken(t.vault, t.call(made.token), { periodSeconds: 60 });
    expect(await read(under.token, A, other)).toBe('ok');
    await end(login);
    expect(await read(under.token, A, other)).toBe('unauthenticated');
    expect(await codeOf(renewToken(other, t.call(under.token)))).toBe('unauthenticated');
    expect(await codeOf(renewToken(other, t.call(made.token)))).toBe('unauthenticated');
  });

  it('T-049 a child that is being made while its parent ends is dead too', async () => {
    const login = await t.login('default', 'admin');
    const makes = Array.from({ length: 8 }, () => createToken(t.vault, t.call(login), {}).catch((error) => error.code));
    await logout(other, t.call(login));
    for (const made of await Promise.all(makes)) {
      if (typeof made === 'string') expect(made).toBe('unauthenticated');
      else expect(await read(made.token, A, other)).toBe('unauthenticated');
    }
  });

  it('T-076 nothing outlives what it hangs under: at issue, at renewals, and when that is shortened', async () => {
    const login = await t.login('default', 'admin');
    const short = await child(login, { ttlSeconds: 600 });
    const under = await child(short.token, { ttlSeconds: 3600 });
    expect(under.expiresAt).toBe(short.expiresAt);
    expect(under.maxExpiresAt! <= short.maxExpiresAt!).toBe(true);
    expect((await renewToken(t.vault, t.call(under.token), 3600)).expiresAt).toBe(short.expiresAt);
    const shortened = await renewToken(t.vault, t.call(login), 60);
    for (const { accessor } of [short, under]) {
      expect((await readToken(t.vault, t.call(t.admin), accessor)).expiresAt).toBe(shortened.expiresAt);
    }
    const later = await t.node({ clockOffsetSeconds: 61 });
    expect(await read(under.token, A, later)).toBe('unauthenticated');
  });

  it('a ttl beyond the maximum, of nothing, or that is no number is refused', async () => {
    for (const ttl of [0, -1, 24 * 3600 + 1, 2 ** 40, Number.NaN, Number.POSITIVE_INFINITY, 1.5]) {
      expect(await codeOf(renewToken(t.vault, t.call(t.admin), ttl)), String(ttl)).toBe('invalid_request');
    }
  });

  it('T-049 what hangs under a token ends with it on every node, however deep', async () => {
    const login = await t.login('default', 'admin');
    const chain = [login];
    for (let depth = 0; depth < 8; depth += 1) chain.push((await child(chain.at(-1)!)).token);
    expect(await codeOf(child(chain.at(-1)!))).toBe('conflict');
    expect(await read(chain.at(-1)!, A, other)).toBe('ok');
    await revokeToken(t.vault, t.call(t.admin), parseToken(chain[1]!)!.tokenId);
    expect(await read(login)).toBe('ok');
    for (const token of chain.slice(1)) expect(await read(token, A, other)).toBe('unauthenticated');
  });

  it('what ended a week ago is forgotten on every tenant, though its account never logs in again; a lease’s token is not', async () => {
    const acme = await t.tenant('acme');
    const [old, live] = [await child(t.admin), await child(t.admin)];
    const theirs = await createToken(t.vault, t.call(acme), {});
    const kept = await child(t.admin);
    await t.owner`
      UPDATE tokens SET expires_at = now() - interval '8 days', max_expires_at = now() - interval '8 days',
                        kind = CASE token_id WHEN ${kept.accessor} THEN 'lease' ELSE kind END
      WHERE token_id IN (${old.accessor}, ${theirs.accessor}, ${kept.accessor})`;
    await t.owner`UPDATE tokens SET expires_at = now() - interval '6 days' WHERE token_id = ${live.accessor}`;
    // Two nodes at once take nothing twice, and leave nothing.
    await Promise.all([forgetEnded(t.vault), forgetEnded(other)]);
    const left = await t.owner`
      SELECT token_id FROM tokens WHERE token_id IN (${old.accessor}, ${theirs.accessor}, ${kept.accessor}, ${live.accessor})`;
    expect(left.map((row) => row.token_id).sort()).toEqual([kept.accessor, live.accessor].sort());
    await t.owner`DELETE FROM tokens WHERE token_id = ${kept.accessor}`;
  });

  it('a periodic token goes on by its period, and no longer than what it hangs under', async () => {
    const made = await child(t.admin, { periodSeconds: 120 });
    const parent = await readToken(t.vault, t.call(t.admin), parseToken(t.admin)!.tokenId);
    expect(made.maxExpiresAt).toBe(parent.maxExpiresAt);
    expect(Date.parse((await renewToken(t.vault, t.call(made.token), 3600)).expiresAt) - Date.now()).toBeLessThan(
      125_000,
    );
    const kept = await child(t.admin, { renewable: false });
    expect(await codeOf(renewToken(t.vault, t.call(kept.token)))).toBe('conflict');
  });
});

describe('tokens that outlive their maker', () => {
  it('are still no login, and no longer than the client certificate that all of them were given for', async () => {
    const { token } = await child(t.admin, { bound: ['not-b'] });
    await putPolicy(t.vault, t.call(t.admin), 'by-login', {
      rules: [
        { effect: 'allow', actions: ['token.*'], resources: ['token:**'] },
        { effect: 'allow', actions: ['secret.read'], resources: ['secret:**'], conditions: { token_kinds: ['login'] } },
      ],
    });
    expect(await codeOf(createToken(t.vault, t.call(token), { orphan: true }))).toBe('forbidden');
    const user = await t.user('programmed', ['by-login']);
    const program = await createToken(t.vault, t.call(user), {});
    expect([await read(user), await read(program.token)]).toEqual(['ok', 'forbidden']);
    const orphan = await createToken(t.vault, t.call(program.token), { orphan: true });
    expect(orphan).toMatchObject({ kind: 'child', parent: null });
    expect(await read(orphan.token)).toBe('forbidden');
    expect(await codeOf(endOtherSessions(t.vault, t.call(orphan.token)))).toBe('forbidden');
    const below = await createToken(t.vault, t.call(program.token), {});
    await revokeOrphaning(t.vault, t.call(user), program.accessor);
    expect(await readSelf(t.vault, t.call(below.token))).toMatchObject({ kind: 'child', parent: null });
    expect(await read(below.token)).toBe('forbidden');

    const { userId } = await readSelf(t.vault, t.call(user));
    const certificate = new Uint8Array(32).fill(7);
    const byCertificate = await permit(
      t.vault,
      t.call(user),
      { action: 'auth.self', resource: 'token:self' },
      async (tx) => ({
        value: await issueToken(t.vault, tx, tenant, {
          userId,
          method: 'cert',
          certificate: inAnHour(certificate),
          source: '127.0.0.1',
        }),
      }),
    );
    const shown = { ...t.call(byCertificate.token), certificate };
    const late = await createToken(t.vault, shown, { orphan: true, periodSeconds: 600 });
    expect(late.maxExpiresAt).toBe(byCertificate.maxExpiresAt);
    expect(late.expiresAt <= byCertificate.maxExpiresAt!).toBe(true);
  });
});
