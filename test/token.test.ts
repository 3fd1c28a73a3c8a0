/** Tokens under tokens: what bounds them on every path through the gate, how few uses are counted, and who makes them. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createToken } from '../src/auth/child.ts';
import type { IssuedToken, TokenLimits } from '../src/auth/issue.ts';
import { listTokens, readSelf, readToken, renewToken, revokeToken } from '../src/auth/token.ts';
import { updateUser } from '../src/auth/user.ts';
import { parseToken } from '../src/crypto/token.ts';
import type { TenantId } from '../src/db/database.ts';
import { readSecret } from '../src/policy/read.ts';
import { deletePolicy, putPolicy } from '../src/policy/store.ts';
import { fetchSecrets } from '../src/secret/fetch.ts';
import { parsePath, type SecretPath } from '../src/secret/path.ts';
import { putSecret } from '../src/secret/secret.ts';
import type { Vault } from '../src/vault.ts';
import { type TestVault, testVault } from './harness.ts';
import { A, B, certifiedLogin, childOf, readAs } from './tokens.ts';
import { added, codeOf, tenantId, text } from './witness.ts';

let t: TestVault;
let tenant: TenantId;
let other: Vault;

beforeAll(async () => {
  t = await testVault();
  tenant = await tenantId(t.owner, 'default');
  other = await t.node();
  for (const path of [A, B]) await putSecret(t.vault, t.call(t.admin), path, text('x'));
  const rule = (effect: string, ...resources: string[]) => ({ effect, actions: ['secret.*'], resources });
  await putPolicy(t.vault, t.call(t.admin), 'not-b', {
    rules: [rule('allow', 'secret:**'), rule('deny', 'secret:app/b')],
  });
});
afterAll(async () => {
  await t.check();
  await t.close();
});

const child = (of: string, limits?: TokenLimits) => childOf(t.vault, t.call(of), limits);
const read = (...asked: [token: string, path?: SecretPath, vault?: Vault, source?: string]) => readAs(t, ...asked);
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
      const lower = await child(under.token, { bound: ['admin'] });
      expect([await read(lower.token), await read(lower.token, B)]).toEqual(['ok', 'forbidden']);
    }
    const granted = await child(t.admin, {
      grant: { rules: [{ effect: 'allow', actions: ['secret.read'], resources: ['secret:app/b'] }] },
    });
    expect([await read(granted.token), await read(granted.token, B)]).toEqual(['forbidden', 'ok']);
    expect(await read((await child(t.admin, { bound: [] })).token)).toBe('forbidden');
  });

  it('orphans of orphans are bound only so often, and by the same policies once', async () => {
    const wish = (policies: string[]) => ({ policies: ['admin', ...policies], orphan: true });
    const orphan = async (of: string, policies: string[] = []) => createToken(t.vault, t.call(of), wish(policies));
    const names = Array.from({ length: 9 }, (_, i) => `bound-${i}`);
    for (const name of names) await putPolicy(t.vault, t.call(t.admin), name, { rules: [] });
    let { token, bound } = await orphan(t.admin);
    for (const policies of [[], ...names.slice(0, 8).map((name) => [name]), []]) {
      ({ token, bound } = await orphan(token, policies));
      expect(bound).toEqual(['admin', ...policies]);
    }
    expect(await codeOf(orphan(token, [names[8]!]))).toBe('conflict');
    const [row] = await t.owner`SELECT max(cardinality(bounds)) AS most FROM tokens`;
    expect(row!.most).toBe(9);
    expect(await read(token)).toBe('ok');
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
    const under = (limits: TokenLimits) => childOf(t.vault, { ...t.call(here.token), source: '10.9.9.9' }, limits);
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
    const bound = await certifiedLogin(t.vault, t.call(t.admin), own);
    const renewed = (certificate?: Uint8Array) => codeOf(renewToken(t.vault, { ...t.call(bound.token), certificate }));
    expect([await renewed(), await renewed(another), await renewed(own)]).toEqual([
      'unauthenticated',
      'unauthenticated',
      'ok',
    ]);
    const under = await childOf(t.vault, { ...t.call(bound.token), certificate: own });
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
