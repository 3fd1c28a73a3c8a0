/** Logins with tokens that somebody else has signed: a real issuer with discovery, every forgery we know of, and ends. */
import { createHmac, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type JWTPayload, SignJWT } from 'jose';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createToken } from '../src/auth/child.ts';
import { deleteIssuer, putIssuer } from '../src/auth/issuer.ts';
import { deleteLoginRole, putLoginRole } from '../src/auth/login-role.ts';
import { jwt } from '../src/auth/methods/jwt.ts';
import { loginBy } from '../src/auth/proven-login.ts';
import { readSelf } from '../src/auth/token.ts';
import { updateUser } from '../src/auth/user.ts';
import type { TenantId } from '../src/db/database.ts';
import { deletePolicy, putPolicy } from '../src/policy/store.ts';
import { type TestVault, testVault } from './harness.ts';
import { added, codeOf, tenantId } from './witness.ts';

let t: TestVault;
let tenant: TenantId;
let server: Server;
let issuer: string;
let fetches = 0;
/** What the issuer publishes now. */
let published: object[] = [];

const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const next = generateKeyPairSync('rsa', { modulusLength: 2048 });
const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const publicOf = (pair: { publicKey: KeyObject }, kid: string, more: object = {}) => ({
  ...pair.publicKey.export({ format: 'jwk' }),
  ...{ kid, use: 'sig', ...more },
});

const AUDIENCE = 'https://vault.example';
const now = () => Math.floor(Date.now() / 1000);
const claims = (more: JWTPayload = {}): JWTPayload => ({
  ...{ iss: issuer, sub: 'repo:acme/web:ref:refs/heads/main', aud: AUDIENCE, iat: now(), exp: now() + 300 },
  ...{ repository: 'acme/web', ref: 'refs/heads/main', ...more },
});
const sign = (payload: JWTPayload = claims(), header: object = {}, key: KeyObject = rsa.privateKey) =>
  new SignJWT(payload).setProtectedHeader({ alg: 'RS256', kid: 'one', ...header }).sign(key);

beforeAll(async () => {
  t = await testVault({ env: { BULLA_OUTBOUND_NETWORKS: '127.0.0.1/32' } });
  tenant = await tenantId(t.owner, 'default');
  published = [publicOf(rsa, 'one', { alg: 'RS256' })];
  server = createServer((request, response) => {
    fetches += 1;
    const found = request.url === '/keys' ? { keys: published } : { issuer, jwks_uri: `${issuer}/keys` };
    if (request.url === '/elsewhere/.well-known/openid-configuration')
      response.writeHead(302, { location: `${issuer}/keys` });
    response.end(JSON.stringify(found));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  await putIssuer(t.vault, t.call(t.admin), 'github', { issuer });
  await putPolicy(t.vault, t.call(t.admin), 'staging', { rules: [] });
  await role('deploy');
});
afterAll(async () => {
  await t.check();
  await t.close();
  server.close();
});

const role = (
  name: string,
  wish: object = {},
  rules: object[] = [{ claims: { repository: ['acme/web'] }, policies: ['reader'] }],
) =>
  putLoginRole(t.vault, t.call(t.admin), name, {
    ...{ issuer: 'github', audiences: [AUDIENCE], ...wish },
    rules: rules as never,
  });
let source = 0;
const enter = (token: string, named = 'deploy', vault = t.vault, where = 'default') => {
  source += 1;
  const call = { ...t.call(), source: `127.8.${source >> 8}.${source & 255}` };
  return loginBy(vault, call, jwt, { tenant: where, role: named, jwt: token });
};
/** Why it was refused, as the log says it; `ok` when it was not. */
const reason = async (token: string, named = 'deploy') => {
  const { entries } = await added(t.owner, tenant, () => codeOf(enter(token, named)));
  expect(entries).toHaveLength(1);
  return entries[0]!.outcome === 'ok' ? 'ok' : entries[0]!.details!.reason;
};

describe('an issuer without a discovery document', () => {
  const iss = 'https://gitlab.example';
  const put = (wish: object) => putIssuer(t.vault, t.call(t.admin), 'gitlab', { issuer: iss, ...wish });

  it('has its keys fetched from where it is said', async () => {
    const stored = await put({ jwksUrl: `${issuer}/keys` });
    expect([stored.jwks, stored.jwksUrl]).toEqual([null, `${issuer}/keys`]);
    await role('gitlab', { issuer: 'gitlab' });
    expect(await reason(await sign(claims({ iss })), 'gitlab')).toBe('ok');
    expect(await reason(await sign(claims({ iss }), {}, next.privateKey), 'gitlab')).toBe('wrong_signature');
    expect(await reason(await sign(claims({ iss }), { kid: 'none' }), 'gitlab')).toBe('unknown_key');
    // What is fetched there is no key set.
    await put({ jwksUrl: `${issuer}/nothing` });
    expect(await reason(await sign(claims({ iss })), 'gitlab')).not.toBe('ok');
    // By discovery again, which there is none of.
    await put({});
    expect(await reason(await sign(claims({ iss })), 'gitlab')).toBe('issuer_unreachable');
  });

  it('is given its keys or where they are, and a URL that is one', async () => {
    const keys = { keys: [publicOf(rsa, 'one')] };
    expect(await codeOf(put({ jwks: keys, jwksUrl: `${issuer}/keys` }))).toBe('invalid_request');
    for (const jwksUrl of ['keys', 'file:///etc/passwd', 'https://a:b@c.example/keys', '']) {
      expect([jwksUrl, await codeOf(put({ jwksUrl }))]).toEqual([jwksUrl, 'invalid_request']);
    }
  });
});

describe('a workload', () => {
  it('logs in with its token: one account for issuer and subject, policies by the rules of this login', async () => {
    const first = await enter(await sign());
    const { value: second, entries } = await added(t.owner, tenant, async () => enter(await sign()));
    expect(second.username).toBe(first.username);
    expect(second.username).toMatch(/^github-[a-z2-7]{16}$/);
    expect(second.policies).toEqual(['reader']);
    expect(entries).toMatchObject([
      {
        ...{ action: 'auth.login', outcome: 'ok', actor: { kind: 'external', name: second.username, method: 'jwt' } },
        details: { role: 'deploy', issuer, subject: 'repo:acme/web:ref:refs/heads/main' },
      },
    ]);
    expect(await readSelf(t.vault, t.call(second.token))).toMatchObject({
      accountKind: 'external',
      policies: ['reader'],
    });
    const branch = await enter(await sign(claims({ sub: 'repo:acme/web:ref:refs/heads/next' })));
    expect(branch.username).not.toBe(first.username);
  });

  it('many first logins of one subject at once make one account', async () => {
    const token = await sign(claims({ sub: 'many' }));
    const other = await t.node({ env: { BULLA_OUTBOUND_NETWORKS: '127.0.0.1/32' } });
    const logins = await Promise.all(
      Array.from({ length: 12 }, (_, i) => enter(token, 'deploy', i % 2 ? t.vault : other)),
    );
    expect(new Set(logins.map(({ username }) => username)).size).toBe(1);
  });

  it('gets what the rules that hold give, and nothing of an earlier login', async () => {
    await role('by-ref', {}, [
      { claims: { repository: ['acme/*'], ref: ['refs/heads/main'] }, policies: ['admin'] },
      { claims: { repository: ['acme/*'], ref: ['refs/heads/**'] }, policies: ['staging'] },
    ]);
    const strong = await enter(await sign(), 'by-ref');
    const weak = await enter(await sign(claims({ ref: 'refs/heads/feature/x' })), 'by-ref');
    expect(weak.username).toBe(strong.username);
    expect([strong.policies, weak.policies]).toEqual([['admin', 'staging'], ['staging']]);
    expect(await codeOf(createToken(t.vault, t.call(weak.token), {}))).toBe('forbidden');
    expect(await codeOf(createToken(t.vault, t.call(strong.token), {}))).toBe('ok');
    expect(await reason(await sign(claims({ repository: 'acme2/web' })), 'by-ref')).toBe('no_rule');
  });

  it('over HTTP: a token for the right one, the same answer whatever is wrong', async () => {
    const ask = (body: object) => t.request('POST', '/api/v1/auth/jwt', { body });
    const good = await ask({ tenant: 'default', role: 'deploy', jwt: await sign() });
    expect([good.status, good.json.policies]).toEqual([200, ['reader']]);
    const wrong = [
      { tenant: 'default', role: 'deploy', jwt: 'x.y.z' },
      { tenant: 'default', role: 'deploy', jwt: await sign(claims({ aud: 'else' })) },
      { tenant: 'default', role: 'no-such', jwt: await sign() },
      { tenant: 'no-such', role: 'deploy', jwt: await sign() },
      { tenant: 'default', role: 'DEPLOY', jwt: await sign() },
    ];
    const answers = await Promise.all(wrong.map(ask));
    const shown = answers.map(({ status, json: { request_id: _, ...problem } }) => JSON.stringify([status, problem]));
    expect(new Set(shown).size).toBe(1);
    expect(answers[0]!.json.code).toBe('login_failed');
  });
});

describe('T-055 a forgery', () => {
  const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const raw = (header: object, payload: object, signature = 'c2ln') =>
    `${encode(header)}.${encode(payload)}.${signature}`;
  const pem = rsa.publicKey.export({ type: 'spki', format: 'pem' });
  const hmac = (secret: string | Buffer) => {
    const body = `${encode({ alg: 'HS256', kid: 'one' })}.${encode(claims())}`;
    return `${body}.${createHmac('sha256', secret).update(body).digest('base64url')}`;
  };
  const signedAs = async (payload: object, key = rsa.privateKey) => {
    // What SignJWT would refuse to make.
    const { createSign } = await import('node:crypto');
    const body = `${encode({ alg: 'RS256', kid: 'one' })}.${encode(payload)}`;
    return `${body}.${createSign('RSA-SHA256').update(body).sign(key).toString('base64url')}`;
  };
  const cases: [string, string, () => Promise<string> | string][] = [
    ['alg none', 'other_algorithm', () => raw({ alg: 'none' }, claims())],
    ['alg None', 'other_algorithm', () => raw({ alg: 'None', kid: 'one' }, claims())],
    ['an empty signature', 'no_jwt', () => raw({ alg: 'RS256', kid: 'one' }, claims(), '')],
    ['HMAC with the public key', 'other_algorithm', () => hmac(pem as string)],
    ['HMAC with the key’s DER', 'other_algorithm', () => hmac(rsa.publicKey.export({ type: 'spki', format: 'der' }))],
    ['another algorithm of the same key', 'other_algorithm', () => sign(claims(), { alg: 'PS256' })],
    ['another key under the same kid', 'wrong_signature', () => sign(claims(), {}, next.privateKey)],
    ['an embedded key', 'strange_header', () => sign(claims(), { jwk: publicOf(next, 'one') }, next.privateKey)],
    ['jku', 'strange_header', () => sign(claims(), { jku: 'https://attacker.example/keys' })],
    ['x5u', 'strange_header', () => sign(claims(), { x5u: 'https://attacker.example/cert' })],
    ['a kid that is a path', 'unknown_key', () => sign(claims(), { kid: '../../../../dev/null' })],
    ['crit', 'strange_header', () => raw({ alg: 'RS256', kid: 'one', crit: ['x'], x: 1 }, claims())],
    ['zip', 'strange_header', () => raw({ alg: 'RS256', zip: 'DEF' }, claims())],
    [
      'PBES2 with 2^31 rounds',
      'no_jwt',
      () => `${encode({ alg: 'PBES2-HS256+A128KW', enc: 'A128GCM', p2c: 2 ** 31, p2s: 'c2FsdA' })}.a.b.c.d`,
    ],
    ['half a megabyte', 'no_jwt', () => `${'a'.repeat(500_000)}.b.c`],
    ['another issuer', 'other_issuer', () => sign(claims({ iss: `${issuer}/` }))],
    ['no issuer', 'other_issuer', () => sign(claims({ iss: undefined }))],
    ['another audience', 'wrong_aud', () => sign(claims({ aud: 'https://other.example' }))],
    ['no audience', 'wrong_aud', () => sign(claims({ aud: undefined }))],
    [
      'an audience that is not ours alone',
      'other_audience',
      () => sign(claims({ aud: [AUDIENCE, 'https://other.example'] })),
    ],
    ['an audience of another type', 'wrong_aud', () => signedAs({ ...claims(), aud: { [AUDIENCE]: 1 } })],
    ['no end', 'wrong_exp', () => sign(claims({ exp: undefined }))],
    ['an end that is a text', 'wrong_exp', () => signedAs({ ...claims(), exp: String(now() + 300) })],
    ['an end that is a fraction', 'strange_time', () => signedAs({ ...claims(), exp: now() + 300.5 })],
    ['an end that is no number', 'wrong_exp', () => signedAs({ ...claims(), exp: null })],
    ['one that has ended', 'expired_token', () => sign(claims({ iat: now() - 400, exp: now() - 31 }))],
    ['one that is not yet', 'not_yet', () => sign(claims({ iat: now() + 40, exp: now() + 300 }))],
    ['nbf to come', 'wrong_nbf', () => sign(claims({ nbf: now() + 40 }))],
    ['one that lives for days', 'lives_too_long', () => sign(claims({ exp: now() + 3 * 86_400 }))],
    ['no subject', 'wrong_sub', () => sign(claims({ sub: undefined }))],
    ['a subject of blanks', 'strange_subject', () => sign(claims({ sub: ' admin' }))],
    ['a subject that is a number', 'strange_subject', () => signedAs({ ...claims(), sub: 7 })],
  ];

  it.each(cases)('%s is refused (%s), and nothing is left of it', async (_, why, make) => {
    const count = async () =>
      (await t.owner`SELECT (SELECT count(*) FROM users) + (SELECT count(*) FROM tokens) AS n`)[0]!.n;
    const before = await count();
    expect(await reason(await make())).toBe(why);
    expect(await count()).toBe(before);
  });

  it('whose clock is off by what is allowed is none, and an array of our audience alone neither', async () => {
    expect(await reason(await sign(claims({ iat: now() - 310, exp: now() - 10 })))).toBe('ok');
    expect(await reason(await sign(claims({ iat: now() + 10 })))).toBe('ok');
    expect(await reason(await sign(claims({ aud: [AUDIENCE] })))).toBe('ok');
  });

  it('with a key that names no algorithm, only the pinned ones of its type count', async () => {
    await putIssuer(t.vault, t.call(t.admin), 'static', {
      ...{ issuer: 'https://static.example', jwks: { keys: [publicOf(rsa, 'one'), publicOf(ec, 'two')] } },
      algorithms: ['RS256'],
    });
    await role('static', { issuer: 'static' });
    const from = (header: object, key = rsa.privateKey) => sign(claims({ iss: 'https://static.example' }), header, key);
    expect(await reason(await from({}), 'static')).toBe('ok');
    expect(await reason(await from({ alg: 'PS256' }), 'static')).toBe('other_algorithm');
    expect(await reason(await from({ alg: 'ES256', kid: 'two' }, ec.privateKey), 'static')).toBe('other_algorithm');
    expect(await reason(hmac(pem as string), 'static')).toBe('other_algorithm');
    // The issuer whose keys are discovered signs with the same key: it is still another issuer.
    expect(await reason(await sign(), 'static')).toBe('other_issuer');
  });
});

describe('keys', () => {
  it('are fetched once for many logins, again for one that is new, and not for every nonsense', async () => {
    const vault = await t.node({ env: { BULLA_OUTBOUND_NETWORKS: '127.0.0.1/32' } });
    const before = fetches;
    await Promise.all(Array.from({ length: 10 }, async () => enter(await sign(), 'deploy', vault)));
    expect(fetches - before).toBe(2);
    for (let i = 0; i < 5; i += 1) await codeOf(enter(await sign(claims(), { kid: `no-${i}` }), 'deploy', vault));
    expect(fetches - before).toBe(2);
    published = [...published, publicOf(next, 'new', { alg: 'RS256' })];
    // A node that starts now has the new key at once.
    const fresh = await t.node({ env: { BULLA_OUTBOUND_NETWORKS: '127.0.0.1/32' } });
    expect(await codeOf(enter(await sign(claims(), { kid: 'new' }, next.privateKey), 'deploy', fresh))).toBe('ok');
  });

  it('T-042 are fetched for a role that is not there as for one that is', async () => {
    const before = fetches;
    const spent: number[] = [];
    for (const named of ['deploy', 'no-such']) {
      const vault = await t.node({ env: { BULLA_OUTBOUND_NETWORKS: '127.0.0.1/32' } });
      const forged = await sign(claims(), {}, next.privateKey);
      expect(await codeOf(enter(forged, named, vault))).toBe('login_failed');
      spent.push(fetches - before);
    }
    expect(spent).toEqual([2, 4]);
    expect(await reason(await sign(), 'no-such')).toBe('unknown_role');
  });

  it('T-122 are not fetched from addresses that are not public, nor after a redirect, and the caller hears nothing of it', async () => {
    const strict = await t.node();
    expect(await codeOf(enter(await sign(), 'deploy', strict))).toBe('login_failed');
    const before = fetches;
    for (const [i, address] of [
      ...[
        'https://169.254.169.254',
        'https://10.0.0.1',
        'https://[::ffff:10.0.0.1]',
        'https://[fd00::1]',
        'https://0.0.0.0',
      ],
      ...['https://localhost', 'http://192.0.2.1', `${issuer}/elsewhere`],
    ].entries()) {
      const name = `inner-${i}`;
      await putIssuer(t.vault, t.call(t.admin), name, { issuer: address });
      await role(name, { issuer: name });
      expect([address, await reason(await sign(claims({ iss: address })), name)]).toEqual([
        address,
        'issuer_unreachable',
      ]);
    }
    expect(fetches - before).toBe(1);
  });

  it('T-057 the same names in another tenant, with other keys, are another issuer, role and account', async () => {
    const acme = t.call(await t.tenant('acme'));
    await putIssuer(t.vault, acme, 'github', { issuer, jwks: { keys: [publicOf(next, 'one', { alg: 'RS256' })] } });
    const rules = [{ claims: { repository: ['acme/web'] }, policies: ['reader'] }];
    await putLoginRole(t.vault, acme, 'deploy', { issuer: 'github', audiences: [AUDIENCE], rules });
    const theirs = await sign(claims(), {}, next.privateKey);
    for (let i = 0; i < 2; i += 1) {
      expect(await codeOf(enter(theirs, 'deploy', t.vault, 'acme'))).toBe('ok');
      expect(await codeOf(enter(theirs))).toBe('login_failed');
      expect(await codeOf(enter(await sign(), 'deploy', t.vault, 'acme'))).toBe('login_failed');
      expect(await codeOf(enter(await sign()))).toBe('ok');
    }
    await deleteLoginRole(t.vault, acme, 'deploy');
    await deleteIssuer(t.vault, acme, 'github');
    expect(await codeOf(enter(await sign()))).toBe('ok');
  });

  it('that are private, short or shared are never stored', async () => {
    const put = (jwks: object) =>
      codeOf(putIssuer(t.vault, t.call(t.admin), 'bad', { issuer: 'https://bad.example', jwks: jwks as never }));
    const weak = generateKeyPairSync('rsa', { modulusLength: 1024 });
    expect(await put({ keys: [] })).toBe('invalid_request');
    expect(await put({ keys: [rsa.privateKey.export({ format: 'jwk' })] })).toBe('invalid_request');
    expect(await put({ keys: [publicOf(weak, 'x')] })).toBe('invalid_request');
    expect(await put({ keys: [{ kty: 'oct', k: 'c2VjcmV0' }] })).toBe('invalid_request');
    expect(await put({ keys: [publicOf(ec, 'x')] })).toBe('ok');
  });
});

describe('an end', () => {
  it.each([
    ['a changed role', () => role('ending')],
    ['a deleted role', () => deleteLoginRole(t.vault, t.call(t.admin), 'ending')],
    ['a changed issuer', () => putIssuer(t.vault, t.call(t.admin), 'github', { issuer, clockSkewSeconds: 20 })],
    ['a disabled account', (name: string) => updateUser(t.vault, t.call(t.admin), name, { disabled: true })],
  ] as const)('T-050 %s ends the tokens that were given, and what hangs under them', async (_, end) => {
    await role('ending', {}, [{ claims: { sub: ['ending'] }, policies: ['admin'] }]);
    const login = await enter(await sign(claims({ sub: 'ending' })), 'ending');
    const under = await createToken(t.vault, t.call(login.token), {});
    const other = await t.node();
    expect(await codeOf(readSelf(other, t.call(under.token)))).toBe('ok');
    await end(login.username);
    for (const token of [login.token, under.token])
      expect(await codeOf(readSelf(other, t.call(token)))).toBe('unauthenticated');
    if (_ === 'a disabled account')
      expect(await reason(await sign(claims({ sub: 'ending' })), 'ending')).toBe('disabled');
  });

  it('an issuer goes with the accounts that it vouched for, when no role needs it', async () => {
    await putIssuer(t.vault, t.call(t.admin), 'passing', {
      ...{ issuer: 'https://passing.example', jwks: { keys: [publicOf(rsa, 'one', { alg: 'RS256' })] } },
    });
    await role('passing', { issuer: 'passing' });
    const login = await enter(await sign(claims({ iss: 'https://passing.example' })), 'passing');
    expect(await codeOf(deleteIssuer(t.vault, t.call(t.admin), 'passing'))).toBe('conflict');
    await deleteLoginRole(t.vault, t.call(t.admin), 'passing');
    await deleteIssuer(t.vault, t.call(t.admin), 'passing');
    expect((await t.owner`SELECT 1 FROM users WHERE name = ${login.username}`).length).toBe(0);
    expect(await codeOf(readSelf(t.vault, t.call(login.token)))).toBe('unauthenticated');
  });
});

describe('the rule of giving', () => {
  it('nobody gives by a role, or by the keys of its issuer, what they do not hold themselves', async () => {
    const rules = [
      { effect: 'allow', actions: ['issuer.*', 'login-role.*'], resources: ['issuer:**', 'login-role:**'] },
    ];
    const maker = t.call(await t.user('role-maker', [], rules));
    const wish = { issuer: 'github', audiences: [AUDIENCE] };
    const claimed = (policies: string[]) => [{ claims: { sub: ['me'] }, policies }];
    expect(await codeOf(putLoginRole(t.vault, maker, 'mine', { ...wish, rules: claimed(['reader']) }))).toBe(
      'forbidden',
    );
    expect(await codeOf(putLoginRole(t.vault, maker, 'deploy', { ...wish, rules: claimed(['reader']) }))).toBe(
      'forbidden',
    );
    expect(await codeOf(putLoginRole(t.vault, maker, 'mine', { ...wish, rules: claimed(['staging']) }))).toBe('ok');
    const keys = { keys: [publicOf(next, 'one', { alg: 'RS256' })] };
    expect(await codeOf(putIssuer(t.vault, maker, 'github', { issuer, jwks: keys }))).toBe('forbidden');
    const own = { issuer: 'https://own.example', jwks: keys };
    expect(await codeOf(putIssuer(t.vault, maker, 'own', own))).toBe('ok');
  });

  it('a policy that a role gives is not deleted: a later one of its name would be given unasked', async () => {
    await putPolicy(t.vault, t.call(t.admin), 'given', { rules: [] });
    await role('giving', {}, [{ claims: { sub: ['x'] }, policies: ['given'] }]);
    expect(await codeOf(deletePolicy(t.vault, t.call(t.admin), 'given'))).toBe('conflict');
    await deleteLoginRole(t.vault, t.call(t.admin), 'giving');
    expect(await codeOf(deletePolicy(t.vault, t.call(t.admin), 'given'))).toBe('ok');
  });

  it.each([
    ['no claim', [{ claims: {}, policies: ['reader'] }]],
    ['stars alone', [{ claims: { sub: ['**'] }, policies: ['reader'] }]],
    ['no pattern', [{ claims: { sub: [] }, policies: ['reader'] }]],
    ['no policy', [{ claims: { sub: ['x'] }, policies: [] }]],
    ['T-056 a policy by another spelling', [{ claims: { sub: ['x'] }, policies: ['ADMIN'] }]],
    ['a policy that is not there', [{ claims: { sub: ['x'] }, policies: ['no-such'] }]],
    ['none', []],
  ])('rules with %s are refused', async (_, rules) => {
    expect(await codeOf(role('refused', {}, rules))).toBe('invalid_request');
  });
});
