/**
 * People who log in at an OpenID provider with a browser: the whole way with a real provider and the real command line,
 * and every way in which an answer can be somebody else's.
 */
import { createHash, generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text as textOf } from 'node:stream/consumers';
import { decodeJwt, type JWTPayload } from 'jose';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createToken } from '../src/auth/child.ts';
import type { ClaimRule } from '../src/auth/claim.ts';
import { deleteIssuer, putIssuer, readIssuer } from '../src/auth/issuer.ts';
import type { ClientWish } from '../src/auth/issuer-client.ts';
import { deleteLoginRole, putLoginRole } from '../src/auth/login-role.ts';
import { jwt } from '../src/auth/methods/jwt.ts';
import { oidc } from '../src/auth/methods/oidc.ts';
import { type BegunLogin, beginLogin } from '../src/auth/oidc.ts';
import { loginBy } from '../src/auth/proven-login.ts';
import { listSessions } from '../src/auth/session.ts';
import { readSelf } from '../src/auth/token.ts';
import { readToken } from '../src/cli/token-file.ts';
import { LIMITS } from '../src/config.ts';
import { loadClientConfig } from '../src/config-client.ts';
import type { TenantId } from '../src/db/database.ts';
import { startJobs } from '../src/job/kinds.ts';
import { rotateKey } from '../src/job/reencrypt.ts';
import type { Vault } from '../src/vault.ts';
import { type TestVault, testVault } from './harness.ts';
import {
  Browser,
  CLIENT_SECRET,
  type Issuer,
  loginCommand,
  type MadeIssuer,
  madeIssuer,
  realIssuer,
} from './oidc-issuer.ts';
import { until } from './until.ts';
import { added, codeOf, errorOf, tenantId } from './witness.ts';

const OUTBOUND = { BULLA_OUTBOUND_NETWORKS: '127.0.0.1/32' };
const REDIRECT = 'http://127.0.0.1:49152/oidc/callback';

let t: TestVault;
let tenant: TenantId;
let other: Vault;
let vaultAddress: string;
let real: Issuer;
let made: MadeIssuer;
let directory: string;

beforeAll(async () => {
  t = await testVault({ env: OUTBOUND });
  tenant = await tenantId(t.owner, 'default');
  other = await t.node({ env: OUTBOUND });
  vaultAddress = await t.address();
  real = await realIssuer();
  made = await madeIssuer();
  directory = mkdtempSync(join(tmpdir(), 'bulla-oidc-'));
  t.secrets.add(CLIENT_SECRET);
  await issuer('corp', real.issuer, { id: 'bulla' });
  await issuer('made', made.issuer, { id: 'vault' });
  const rules: ClaimRule[] = [
    { claims: { groups: ['vault-users'] }, policies: ['reader'] },
    { claims: { sub: ['boss'] }, policies: ['admin'] },
  ];
  await putLoginRole(t.vault, t.call(t.admin), 'people', { kind: 'oidc', issuer: 'corp', rules });
  await putLoginRole(t.vault, t.call(t.admin), 'made', {
    ...{ kind: 'oidc', issuer: 'made', rules: [{ claims: { sub: ['ann'] }, policies: ['reader'] }] },
  });
});
afterAll(async () => {
  await t.check();
  await t.close();
  real.close();
  made.close();
  rmSync(directory, { recursive: true, force: true });
});

const issuer = (name: string, address: string, client?: ClientWish) =>
  putIssuer(t.vault, t.call(t.admin), name, { issuer: address, client });
let sources = 0;
const call = () => {
  sources += 1;
  return { ...t.call(), source: `127.7.${sources >> 8}.${sources & 255}` };
};
const begin = (role = 'made', redirectUri = REDIRECT, where = 'default') =>
  beginLogin(t.vault, call(), { tenant: where, role, redirectUri });
const asked = ({ authorizationUrl }: BegunLogin) => Object.fromEntries(new URL(authorizationUrl).searchParams);
type Answer = { login?: string; state?: string; code?: string; iss?: string; tenant?: string };
const conclude = (begun: BegunLogin, answer: Answer = {}, vault = t.vault) =>
  loginBy(vault, call(), oidc, {
    ...{ tenant: 'default', login: begun.login, state: asked(begun).state!, code: 'code', ...answer },
  });
const now = () => Math.floor(Date.now() / 1000);
const tokenFor = (begun: BegunLogin, more: JWTPayload = {}): JWTPayload => ({
  ...{ iss: made.issuer, sub: 'ann', aud: 'vault', iat: now(), exp: now() + 300, nonce: asked(begun).nonce, ...more },
});
/** The token endpoint gives this for any code. */
const gives = (idToken: string | undefined, more: object = {}) => {
  made.answer = async () => ({
    status: 200,
    body: { id_token: idToken, access_token: 'at', token_type: 'Bearer', ...more },
  });
};
/** Why it was refused, as the log says it; `ok` when it was not. */
const reason = async (act: () => Promise<unknown>) => {
  const { entries } = await added(t.owner, tenant, () => codeOf(act()));
  expect(entries).toHaveLength(1);
  return entries[0]!.outcome === 'ok' ? 'ok' : entries[0]!.details!.reason;
};

const commandLine = (args: string) => loginCommand(args, { BULLA_ADDR: vaultAddress, XDG_STATE_HOME: directory });
const questionIn = (page: string) => /name="question" value="([\w-]+)"/.exec(page)![1]!;

describe('bulla login --oidc', () => {
  it('T-059 a person logs in with one browser, says that it was they, and is the account of issuer and subject', async () => {
    const { opened, ended } = commandLine('login default --oidc people');
    const { address, code } = await opened;
    const browser = new Browser('ann');
    const page = await browser.open(address);
    const { origin } = new URL(address);
    expect([page.status, page.url]).toEqual([200, `${origin}/confirm`]);
    expect(page.text).toContain(code);
    expect(page.text).not.toMatch(/<script|onclick/);
    expect(page.headers.get('content-security-policy')).toMatch(/default-src 'none'.*frame-ancestors 'none'/);
    expect(page.headers.get('referrer-policy')).toBe('same-origin');
    expect(page.headers.get('set-cookie')).toMatch(/HttpOnly; SameSite=Strict$/);
    expect(await t.owner`SELECT 1 FROM external_identities WHERE subject = 'ann'`).toHaveLength(0);
    const { value: done, entries } = await added(t.owner, tenant, () =>
      browser.open(page.url, { question: questionIn(page.text), go: 'yes' }),
    );
    expect([done.status, done.text]).toEqual([200, expect.stringContaining('Logged in')]);
    const { code: exit, stdout } = await ended;
    expect([exit, stdout]).toEqual([0, expect.stringMatching(/^Logged in to default as corp-[a-z2-7]{16} until /)]);
    expect(entries).toMatchObject([
      {
        action: 'auth.login',
        actor: { kind: 'external', method: 'oidc' },
        details: { role: 'people', subject: 'ann' },
      },
    ]);
    const token = readToken(loadClientConfig({ XDG_STATE_HOME: directory }).stateDir, vaultAddress)!.token;
    const sessions = await listSessions(t.vault, t.call(token), {});
    expect(sessions.items).toMatchObject([{ current: true, method: 'oidc', accountKind: 'external', mfa: false }]);
    expect(await readSelf(other, t.call(token))).toMatchObject({ policies: ['reader'] });
    // The listener has gone with the login.
    await expect(fetch(address)).rejects.toThrow();
  });

  it('T-059 a link that was sent ends nowhere: neither ours in another browser, nor the issuer’s, nor a click without the question', async () => {
    const { opened, ended } = commandLine('login default --oidc people --print-token');
    const { address } = await opened;
    const { origin } = new URL(address);
    const [owner, victim] = [new Browser('ann'), new Browser('boss')];
    const away = await owner.open(address, undefined, real.issuer);
    // The victim is sent the issuer's link, with the state and all: the answer comes without the cookie.
    const stolen = await victim.open(away.url);
    expect([stolen.status, stolen.text]).toEqual([403, expect.stringContaining('not the browser that began')]);
    // And ours, which is the first browser's alone.
    expect((await new Browser('boss').open(address)).status).toBe(403);
    // The victim's answer, brought into the owner's browser by a page of somebody else, with another state.
    const forged = await owner.open(`${origin}/oidc/callback?code=victims&state=${'x'.repeat(43)}`);
    expect([forged.status, forged.text]).toEqual([400, expect.stringContaining('another login')]);
    const page = await owner.open(away.url);
    expect(page.url).toBe(`${origin}/confirm`);
    // A form of another page: without the question, from another origin, without the second cookie.
    const question = questionIn(page.text);
    expect((await owner.open(page.url, { go: 'yes' })).status).toBe(403);
    const cookies = [...owner.cookies.get('127.0.0.1')!].map(([name, value]) => `${name}=${value}`);
    const post = (headers: Record<string, string>) =>
      fetch(page.url, { method: 'POST', headers, body: new URLSearchParams({ question, go: 'yes' }) });
    expect((await post({ cookie: cookies.join('; '), origin: 'http://127.0.0.1:1' })).status).toBe(403);
    expect((await post({ cookie: cookies.join('; ') })).status).toBe(403);
    expect((await post({ cookie: cookies.filter((one) => !/-s=/.test(one)).join('; '), origin })).status).toBe(403);
    // A name of somebody else's that leads here (DNS rebinding).
    const rebound = request(page.url, { headers: { cookie: cookies.join('; '), host: 'evil.example' } }).end();
    const [answer] = (await once(rebound, 'response')) as [IncomingMessage];
    expect([answer.statusCode, await textOf(answer)]).toEqual([400, expect.not.stringContaining(question)]);
    expect((await t.owner`SELECT 1 FROM external_identities WHERE subject = 'boss'`).length).toBe(0);
    const off = await owner.open(page.url, { question, go: 'no' });
    expect(off.text).toContain('Called off');
    expect(await ended).toMatchObject({ code: expect.any(Number), stderr: expect.stringContaining('called off') });
    expect((await ended).code).not.toBe(0);
  });

  it('says so when nobody is let in: by the issuer, by no rule, by no such role; and takes a fixed address', async () => {
    const refused = commandLine('login default --oidc people');
    const page = await new Browser().open((await refused.opened).address);
    expect([page.status, page.text]).toEqual([403, expect.stringContaining('access_denied')]);
    expect((await refused.ended).stderr).toContain('access_denied');
    const guest = commandLine('login default --oidc people');
    const browser = new Browser('guest');
    const asks = await browser.open((await guest.opened).address);
    const { value, entries } = await added(t.owner, tenant, () =>
      browser.open(asks.url, { question: questionIn(asks.text), go: 'yes' }),
    );
    expect(value.status).toBe(403);
    expect(entries).toMatchObject([{ outcome: 'denied', details: { reason: 'no_rule' } }]);
    expect((await guest.ended).code).not.toBe(0);
    expect((await commandLine('login default --oidc no-such').ended).stderr).toContain('not right');
    const strange = await commandLine('login default --oidc people --redirect-uri http://localhost/cb').ended;
    expect(strange.stderr).toContain('--redirect-uri');
  });
});

describe('a beginning', () => {
  it('sends the browser with state, nonce and S256, and stores nothing of them', async () => {
    const begun = await begin();
    expect(asked(begun)).toMatchObject({
      ...{ response_type: 'code', client_id: 'vault', redirect_uri: REDIRECT, scope: 'openid' },
      ...{ code_challenge_method: 'S256', code_challenge: expect.stringMatching(/^[\w-]{43}$/) },
    });
    const { state, nonce, code_challenge: challenge } = asked(begun);
    expect(new Set([state, nonce, challenge, begun.login]).size).toBe(4);
    for (const text of [state!, nonce!, begun.login]) t.secrets.add(text);
    await t.check();
    gives(await made.sign(tokenFor(begun)));
    expect(await reason(() => conclude(begun))).toBe('ok');
    const verifier = made.asked!.form.get('code_verifier')!;
    expect(createHash('sha256').update(verifier).digest('base64url')).toBe(challenge);
    expect(made.asked!.form.get('redirect_uri')).toBe(REDIRECT);
  });

  it('leads back to what is registered and to nowhere else', async () => {
    for (const uri of [
      ...['http://127.0.0.1:49152/oidc/callback/', 'http://127.0.0.1:49152/other', 'https://127.0.0.1/oidc/callback'],
      ...[
        'http://localhost:49152/oidc/callback',
        'http://127.0.0.1.evil.example/oidc/callback',
        'http://evil.example/',
      ],
      ...[
        'http://127.0.0.1:49152@evil.example/oidc/callback',
        'http://127.0.0.1/oidc/callback?x',
        'http://[::1]/oidc/callback',
      ],
    ]) {
      expect([uri, await codeOf(begin('made', uri))]).toEqual([uri, 'invalid_request']);
    }
    expect(await codeOf(begin('made', 'http://127.0.0.1/oidc/callback'))).toBe('ok');
    const fixed = { id: 'fixed', redirectUris: ['http://[::1]:8250/cb'] };
    await issuer('fixed', 'https://fixed.example', fixed);
    for (const redirectUris of [['http://example.com/cb'], ['http://127.0.0.1'], ['http://127.0.0.1:99999/cb'], []]) {
      expect(await codeOf(issuer('fixed', 'https://fixed.example', { ...fixed, redirectUris }))).toBe(
        'invalid_request',
      );
    }
  });

  it('T-042 T-057 of no such tenant and of no such role are told alike, and a role is its tenant’s', async () => {
    await t.tenant('acme');
    await putIssuer(t.vault, t.call(t.admin), 'plain', { issuer: 'https://plain.example' });
    const rules = [{ claims: { sub: ['x'] }, policies: ['reader'] }];
    const wish = { issuer: 'plain', audiences: ['a'], rules };
    await putLoginRole(t.vault, t.call(t.admin), 'machines', wish);
    const errors = await Promise.all([
      errorOf(begin('no-such')),
      errorOf(begin('made', REDIRECT, 'no-such')),
      errorOf(begin('made', REDIRECT, 'acme')),
      errorOf(begin('machines')),
    ]);
    expect(new Set(errors.map(({ code, message }) => `${code} ${message}`)).size).toBe(1);
    expect(errors[0]!.code).toBe('login_failed');
    // No people where the vault is not registered, and no registration taken away under them.
    const people = { kind: 'oidc', issuer: 'plain', rules } as const;
    expect(await codeOf(putLoginRole(t.vault, t.call(t.admin), 'nobody', people))).toBe('invalid_request');
    expect(await codeOf(issuer('made', made.issuer))).toBe('conflict');
  });

  it('T-107 is one of few of its network, and those that nobody ends are forgotten', async () => {
    const from = (source: string, vault = t.vault) =>
      codeOf(beginLogin(vault, { ...t.call(), source }, { tenant: 'default', role: 'made', redirectUri: REDIRECT }));
    for (let i = 0; i < LIMITS.oidcLoginsPerSourceMax; i += 1) expect(await from('2001:db8:9::1')).toBe('ok');
    expect(await from('2001:db8:9::2')).toBe('too_many_requests');
    expect(await from('2001:db8:a::1')).toBe('ok');
    const later = await t.node({ env: OUTBOUND, clockOffsetSeconds: LIMITS.oidcLoginSeconds + 5 });
    expect(await from('2001:db8:9::2', later)).toBe('ok');
    expect((await t.owner`SELECT count(*)::int AS n FROM oidc_logins WHERE source LIKE '2001%'`)[0]!.n).toBe(1);
  });

  it('without its issuer is told so, and without its answer too', async () => {
    const gone = await madeIssuer();
    await issuer('gone', gone.issuer, { id: 'vault' });
    const rules = [{ claims: { sub: ['ann'] }, policies: ['reader'] }];
    await putLoginRole(t.vault, t.call(t.admin), 'gone', { kind: 'oidc', issuer: 'gone', rules });
    const begun = await begin('gone');
    gone.stop();
    const { value, entries } = await added(t.owner, tenant, () => codeOf(conclude(begun)));
    expect([value, entries[0]!.details]).toEqual(['unavailable', { reason: 'issuer_unreachable' }]);
    const fresh = await t.node({ env: OUTBOUND });
    const wish = { tenant: 'default', role: 'gone', redirectUri: REDIRECT };
    expect(await codeOf(beginLogin(fresh, call(), wish))).toBe('unavailable');
    await deleteLoginRole(t.vault, t.call(t.admin), 'gone');
    await deleteIssuer(t.vault, t.call(t.admin), 'gone');
  });
});

describe('an answer', () => {
  it('counts once, on whichever node, however many bring it at once', async () => {
    const begun = await begin();
    gives(await made.sign(tokenFor(begun)));
    const codes = await Promise.all([1, 2, 3, 4].map((n) => codeOf(conclude(begun, {}, n % 2 ? t.vault : other))));
    expect(codes.sort()).toEqual(['login_failed', 'login_failed', 'login_failed', 'ok']);
    expect(await reason(() => conclude(begun))).toBe('unknown_login');
  });

  it.each<[string, string, (begun: BegunLogin) => Answer]>([
    ['the state of another login', 'other_state', () => ({ state: 'x'.repeat(43) })],
    ['no secret', 'unknown_login', () => ({ login: '' })],
    ['the secret of nobody', 'unknown_login', () => ({ login: `${'A'.repeat(42)}A` })],
    ['the state in place of the secret', 'unknown_login', (begun) => ({ login: asked(begun).state! })],
    ['T-059 mix-up: the answer of another issuer', 'other_issuer', () => ({ iss: real.issuer })],
    ['RFC 9207 an issuer spelled otherwise', 'other_issuer', () => ({ iss: `${made.issuer}/` })],
  ])('with %s is refused (%s), and the code is not shown to the issuer', async (_, why, answer) => {
    const begun = await begin();
    made.asked = undefined;
    gives(await made.sign(tokenFor(begun)));
    expect(await reason(() => conclude(begun, answer(begun)))).toBe(why);
    expect(made.asked).toBeUndefined();
  });

  it('RFC 9207 of an issuer that always says who it is has to say so', async () => {
    made.metadata = { authorization_response_iss_parameter_supported: true };
    // What is known of an issuer is kept by its revision.
    await issuer('made', made.issuer, { id: 'vault' });
    const [silent, named] = [await begin(), await begin()];
    gives(await made.sign(tokenFor(silent)));
    expect(await reason(() => conclude(silent))).toBe('other_issuer');
    gives(await made.sign(tokenFor(named)));
    expect(await reason(() => conclude(named, { iss: made.issuer }))).toBe('ok');
    made.metadata = {};
    await issuer('made', made.issuer, { id: 'vault' });
  });

  const forger = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
  it.each<[string, string, (begun: BegunLogin) => Promise<string> | string | undefined]>([
    ['injected: the ID token of another login', 'other_nonce', (begun) => made.sign(tokenFor(begun, { nonce: 'x' }))],
    ['without a nonce', 'other_nonce', (begun) => made.sign(tokenFor(begun, { nonce: undefined }))],
    ['for another client', 'wrong_aud', (begun) => made.sign(tokenFor(begun, { aud: 'other' }))],
    ['for others too', 'other_audience', (begun) => made.sign(tokenFor(begun, { aud: ['vault', 'other'] }))],
    ['given to another party', 'other_party', (begun) => made.sign(tokenFor(begun, { azp: 'other' }))],
    ['of another access token', 'other_access_token', (begun) => made.sign(tokenFor(begun, { at_hash: 'x' }))],
    ['of another issuer', 'other_issuer', (begun) => made.sign(tokenFor(begun, { iss: real.issuer }))],
    ['without its time', 'wrong_iat', (begun) => made.sign(tokenFor(begun, { iat: undefined }))],
    ['that has ended', 'expired_token', (begun) => made.sign(tokenFor(begun, { iat: now() - 600, exp: now() - 60 }))],
    ['signed by another', 'wrong_signature', (begun) => made.sign(tokenFor(begun), forger)],
    ['that is none', 'no_jwt', () => 'x.y.z'],
    ['that is not there', 'no_id_token', () => undefined],
  ])('with an ID token %s is refused (%s), and nothing is left of it', async (_, why, token) => {
    const begun = await begin();
    const count = async () =>
      (await t.owner`SELECT (SELECT count(*) FROM users) + (SELECT count(*) FROM tokens) AS n`)[0]!.n;
    const before = await count();
    gives(await token(begun));
    const refused = why === 'other_issuer' ? ['other_issuer', 'unknown_key', 'wrong_signature'] : [why];
    expect(refused).toContain(await reason(() => conclude(begun)));
    expect(await count()).toBe(before);
  });

  it('with azp and at_hash that are right, and a second factor that the issuer saw, is one', async () => {
    const begun = await begin();
    const digest = createHash('sha256').update('at').digest();
    const proof = { azp: 'vault', at_hash: digest.subarray(0, 16).toString('base64url'), amr: ['pwd', 'mfa'] };
    gives(await made.sign(tokenFor(begun, proof)));
    const { token } = await conclude(begun);
    expect(await readSelf(t.vault, t.call(token))).toMatchObject({ mfa: true, method: 'oidc' });
  });

  it('comes in time, to the tenant and to the role and issuer that it was begun for', async () => {
    await t.tenant('elsewhere');
    const [late, foreign, changed, ended] = [await begin(), await begin(), await begin(), await begin()];
    const later = await t.node({ env: OUTBOUND, clockOffsetSeconds: LIMITS.oidcLoginSeconds + 5 });
    expect(await reason(() => conclude(late, {}, later))).toBe('expired_login');
    const elsewhere = await tenantId(t.owner, 'elsewhere');
    const { entries } = await added(t.owner, elsewhere, () => codeOf(conclude(foreign, { tenant: 'elsewhere' })));
    expect(entries).toMatchObject([{ outcome: 'denied', details: { reason: 'unknown_login' } }]);
    await issuer('made', made.issuer, { id: 'vault' });
    expect(await reason(() => conclude(changed))).toBe('changed_meanwhile');
    await putLoginRole(t.vault, t.call(t.admin), 'made', {
      ...{ issuer: 'made', audiences: ['x'], rules: [{ claims: { sub: ['ann'] }, policies: ['reader'] }] },
    });
    expect(await codeOf(conclude(ended))).toBe('login_failed');
    await putLoginRole(t.vault, t.call(t.admin), 'made', {
      ...{ kind: 'oidc', issuer: 'made', rules: [{ claims: { sub: ['ann'] }, policies: ['reader'] }] },
    });
  });

  it('is no token for machines: an ID token for people opens no role of theirs', async () => {
    const begun = await begin();
    const idToken = await made.sign(tokenFor(begun));
    expect(decodeJwt(idToken).aud).toBe('vault');
    const show = (role: string) => loginBy(t.vault, call(), jwt, { tenant: 'default', role, jwt: idToken });
    expect(await reason(() => show('made'))).toBe('unknown_role');
  });

  it('T-050 ends what it gave with its role, and everything under it', async () => {
    const begun = await begin();
    gives(await made.sign(tokenFor(begun, { sub: 'ann' })));
    const rules = [{ claims: { sub: ['ann'] }, policies: ['admin'] }];
    await putLoginRole(t.vault, t.call(t.admin), 'made', { kind: 'oidc', issuer: 'made', rules });
    const { token } = await conclude(begun);
    const under = await createToken(t.vault, t.call(token), {});
    await putLoginRole(t.vault, t.call(t.admin), 'made', { kind: 'oidc', issuer: 'made', rules });
    for (const one of [token, under.token]) expect(await codeOf(readSelf(other, t.call(one)))).toBe('unauthenticated');
  });
});

describe('a client secret', () => {
  it('is shown to the issuer and to nobody else, is kept until it is replaced, and moves with the data key', async () => {
    await issuer('corp', real.issuer, { id: 'bulla:odd', secret: CLIENT_SECRET });
    const shown = await readIssuer(t.vault, t.call(t.admin), 'corp');
    expect(shown.client).toMatchObject({ id: 'bulla:odd', confidential: true });
    expect(JSON.stringify(shown)).not.toContain(CLIENT_SECRET);
    await issuer('corp', real.issuer, { id: 'bulla:odd' });
    const jobs = startJobs(t.vault);
    const { key } = await rotateKey(t.vault, t.call(t.admin), { reencrypt: true });
    const moved = () => t.owner`SELECT 1 FROM issuer_secrets WHERE key_version = ${key.version}`;
    await until('the secret is under the new key', async () => (await moved()).length === 1);
    await jobs.stop();
    const { opened, ended } = commandLine('login default --oidc people --print-token');
    const browser = new Browser('boss');
    const page = await browser.open((await opened).address);
    await browser.open(page.url, { question: questionIn(page.text), go: 'yes' });
    const { code, stdout } = await ended;
    expect([code, stdout]).toEqual([0, expect.stringMatching(/^bulla_\S+\n$/)]);
    expect(await readSelf(t.vault, t.call(stdout.trim()))).toMatchObject({ policies: ['admin', 'reader'] });
    // The code and the state went through the browser; what the vault keeps did not.
    expect(browser.visited.some((url) => url.includes(stdout.trim()))).toBe(false);
    // Another registration has none of it, and a wrong one is refused by the issuer.
    await issuer('corp', real.issuer, { id: 'bulla' });
    expect((await readIssuer(t.vault, t.call(t.admin), 'corp')).client).toMatchObject({ confidential: false });
    expect(await t.owner`SELECT 1 FROM issuer_secrets`).toHaveLength(0);
    await issuer('made', made.issuer, { id: 'vault', secret: 'wrong, and long enough' });
    made.answer = async () => ({ status: 401, body: { error: 'invalid_client' } });
    const begun = await begin();
    expect(await reason(() => conclude(begun))).toBe('client_refused');
    expect(made.asked!.authorization).toMatch(/^Basic /);
  });
});
