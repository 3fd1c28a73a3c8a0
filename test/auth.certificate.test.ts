/** Logging in with a client certificate: who is let in and as whom, what the token is bound to, and what ends it. */
import { createHash, webcrypto } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as x509 from '@peculiar/x509';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { matchesName, parsePattern } from '../src/auth/certificate-name.ts';
import { Bulla } from '../src/client/index.ts';
import {
  CLIENT_AUTH,
  type Made,
  make,
  makeRevocationList,
  makeServer,
  RSA,
  SERVER_AUTH,
  type Wanted,
} from './fixtures/certificate.ts';
import { type Json, type TestVault, testVault } from './harness.ts';
import type { WireAnswer } from './http.wire.ts';
import { MAIN, run } from './process.ts';
import { askTls, type Served, serveTls, shake } from './tls-server.ts';

let t: TestVault;
let server: Served;
let serverAuthority: Made;
let authority: Made;
let other: Made;
let web: Made;

beforeAll(async () => {
  t = await testVault();
  [serverAuthority, authority, other] = await Promise.all([
    make({ name: 'Servers', ca: true }),
    make({ name: 'Clients', ca: true }),
    make({ name: 'Others', ca: true }),
  ]);
  server = await serveTls(t, [await makeServer(serverAuthority)], { env: { BULLA_TLS_CLIENT_CERTIFICATES: 'true' } });
  web = await client();
  await put('/policies/web', { rules: [{ effect: 'allow', actions: ['secret.read'], resources: ['secret:web/**'] }] });
  await put('/authorities/corp', { certificates: authority.pem });
  await put('/authorities/others', { certificates: other.pem });
  await put('/certificate-roles/web', ROLE);
  await put('/secrets/web/a', { text: 'for the web' });
});
afterAll(async () => {
  await t.check();
  await server.close();
  await t.close();
});

const ROLE = { authority: 'corp', names: ['dns:*.web.example', 'uri:spiffe://corp/ns/*'], policies: ['web'] };

const client = (wanted: Wanted = {}) =>
  make({ name: 'web', by: authority, sans: ['a.web.example'], uses: [CLIENT_AUTH], ...wanted });

async function put(path: string, body: unknown, token = t.admin) {
  const answer = await t.request('PUT', `/api/v1${path}`, { token, body });
  expect([path, answer.status, answer.status < 300 ? '' : answer.text]).toEqual([path, answer.status, '']);
  return answer.json;
}

type Shown = { readonly pem: string; readonly key: string } | undefined;

function over(
  shown: Shown,
  method: string,
  path: string,
  { token = '', body = undefined as unknown, headers = '' } = {},
): Promise<WireAnswer> {
  const text = body === undefined ? '' : JSON.stringify(body);
  const typed = text === '' ? '' : `Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(text)}\r\n`;
  const bearer = token === '' ? '' : `Authorization: Bearer ${token}\r\n`;
  const bytes = `${method} /api/v1${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n${bearer}${headers}${typed}\r\n${text}`;
  const own = shown ? { cert: shown.pem, key: shown.key } : {};
  return askTls(server.port, bytes, { ca: serverAuthority.pem, ...own, ...fromElsewhere() }).then(
    ([answer]) => answer!,
  );
}

/** Of one source only some failures of a minute are in the log; each request is from another one. */
let sources = 0;
function fromElsewhere(): object {
  sources += 1;
  return { localAddress: `127.0.${1 + (sources >> 7)}.${1 + (sources & 127)}` };
}

const logIn = (shown: Shown, role = 'web', tenant = 'default') =>
  over(shown, 'POST', '/auth/cert', { body: { tenant, role } });
const self = (shown: Shown, token: string) => over(shown, 'GET', '/auth/self', { token });

async function tokenOf(shown: Shown, role = 'web'): Promise<string> {
  const answer = await logIn(shown, role);
  expect([answer.status, answer.body]).toEqual([200, answer.body]);
  return String(answer.json.token);
}

async function entries(question: string): Promise<Json[]> {
  const { text } = await t.request('GET', `/api/v1/audit/entries?format=ndjson&${question}`, { token: t.admin });
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line));
}

const lastReason = async () => (await entries('action=auth.login&outcome=denied')).at(-1)?.details.reason;

describe('who is let in', () => {
  it('T-137 the holder of a certificate by the role’s authority, as an account of its own, with a token bound to it', async () => {
    const answer = await logIn(web);
    expect(answer.json).toMatchObject({
      tenant: 'default',
      username: expect.stringMatching(/^cert-[a-z2-7]{16}$/),
      policies: ['web'],
    });
    const token = String(answer.json.token);
    const read = await over(web, 'GET', '/secrets/web/a', { token });
    expect([read.status, read.json.text]).toEqual([200, 'for the web']);
    const [entry] = (await entries('action=auth.login&outcome=ok')).slice(-1);
    const thumbprint = createHash('sha256').update(new Uint8Array(web.cert.rawData)).digest('hex');
    expect(entry!.actor).toMatchObject({ kind: 'external', name: answer.json.username, method: 'cert' });
    expect(entry!.details).toMatchObject({ role: 'web', authority: 'corp', subject: 'dns:a.web.example', thumbprint });
  });

  it('T-137 identity is issuer, names and key: another CN is the same one, another key or name is somebody else', async () => {
    const name = async (shown: Shown) => (await logIn(shown)).json.username;
    const own = await name(web);
    const renewed = await client({ keys: web.keys, name: 'somebody else by the CN' });
    const rekeyed = await client();
    const renamed = await client({ keys: web.keys, sans: ['b.web.example'] });
    expect(await name(renewed)).toBe(own);
    const names = new Set([own, await name(rekeyed), await name(renamed)]);
    expect(names.size).toBe(3);
  });

  it('T-137 the same certificate twice at once, for the first time, is one account', async () => {
    const shown = await client();
    const answers = await Promise.all(Array.from({ length: 4 }, () => logIn(shown)));
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200]);
    expect(new Set(answers.map(({ json }) => json.username)).size).toBe(1);
  });

  it('T-136 whatever is wrong with a certificate, the answer is the same, and the log says what it was', async () => {
    const intermediate = await make({ name: 'Below', ca: true, by: authority });
    const narrow = await make({ name: 'Narrow', ca: 0 });
    const below = await make({ name: 'Too deep', ca: true, by: narrow });
    const constraints = new x509.Extension('2.5.29.30', true, Buffer.from('300ea00c300a82082e6578616d706c65', 'hex'));
    const constrained = await make({ name: 'Constrained', ca: true, by: authority, extensions: [constraints] });
    await put('/authorities/narrow', { certificates: narrow.pem });
    await put('/certificate-roles/narrow', { ...ROLE, authority: 'narrow' });
    const cases: [string, Shown, string, string?][] = [
      ['none', undefined, 'no_certificate'],
      ['another authority', await client({ by: other }), 'unknown_authority'],
      [
        'a copy by itself',
        await make({ name: 'web', sans: ['a.web.example'], uses: [CLIENT_AUTH], serial: web.cert.serialNumber }),
        'unknown_authority',
      ],
      ['a copy of the authority', await client({ by: await make({ name: 'Clients', ca: true }) }), 'unknown_authority'],
      ['expired', await client({ from: -9, to: -1 }), 'expired'],
      ['from tomorrow', await client({ from: 1 }), 'not_yet_valid'],
      ['for servers only', await client({ uses: [SERVER_AUTH] }), 'not_for_clients'],
      ['an authority', await client({ ca: true }), 'is_authority'],
      ['for no signatures', await client({ usages: x509.KeyUsageFlags.keyEncipherment }), 'key_usage'],
      ['version 1', await client({ bare: true }), 'version_1'],
      ['weak key', await client({ algorithm: { ...RSA, modulusLength: 1024 } }), 'weak_key'],
      [
        'below an authority that may have none below',
        chain(await client({ by: below }), below),
        'authority_path_too_long',
        'narrow',
      ],
      ['below name constraints', chain(await client({ by: constrained }), constrained), 'authority_name_constraints'],
      ['below what is no authority', chain(await client({ by: web }), web), 'unknown_authority'],
      ['without names but a CN', await client({ sans: [] }), 'no_names'],
      ['a zero byte', await client({ sans: ['a.web.example\0.evil.example'] }), 'unreadable'],
      ['a wildcard', await client({ sans: ['*.web.example'] }), 'unreadable'],
      ['another dot', await client({ sans: ['a\u3002web.example'] }), 'unreadable'],
      ['a label too deep', await client({ sans: ['a.b.web.example'] }), 'other_names'],
      [
        'another critical extension',
        await client({ extensions: [new x509.Extension('1.2.3.4', true, Buffer.from('0500', 'hex'))] }),
        'unknown_extension',
      ],
      [
        'too large',
        await client({ extensions: [new x509.Extension('1.2.3.4', false, Buffer.alloc(40_000))] }),
        'too_large',
      ],
      ['another role', web, 'unknown_role', 'none'],
    ];
    const bodies = new Set<string>();
    for (const [name, shown, reason, role = 'web'] of cases) {
      const answer = await logIn(shown, role);
      expect([name, answer.status]).toEqual([name, 401]);
      bodies.add(answer.body.replace(/"request_id":"[^"]*"/, ''));
      expect([name, await lastReason()]).toEqual([name, reason]);
    }
    expect(bodies.size).toBe(1);
    // The same path without the flaw is taken: names and chain are what was refused, not the shape.
    expect((await logIn(chain(await client({ by: intermediate }), intermediate))).status).toBe(200);
    expect((await logIn(await client({ sans: ['spiffe://corp/ns/web'] }))).status).toBe(200);
  });

  it('T-136 one that nobody can carry through a handshake, or that is signed with SHA-1, gets nowhere', async () => {
    const outcome = (shown: Shown, role: string) =>
      logIn(shown, role).then(
        (answer) => answer?.status,
        () => 'no handshake',
      );
    const huge = await client({ extensions: [new x509.Extension('1.2.3.4', false, Buffer.alloc(120_000))] });
    expect(['no handshake', undefined, 401]).toContain(await outcome(huge, 'web'));
    const old = await make({ name: 'Old', ca: true, algorithm: RSA });
    await put('/authorities/old', { certificates: old.pem });
    await put('/certificate-roles/old', { ...ROLE, authority: 'old' });
    const sha1 = await client({ by: await signingWithSha1(old), algorithm: { ...RSA, hash: 'SHA-1' } });
    expect(['no handshake', undefined, 401]).toContain(await outcome(sha1, 'old'));
    // By the same authority with a hash of today, it is let in.
    expect(await outcome(await client({ by: old, algorithm: RSA }), 'old')).toBe(200);
  });

  it('T-141 what headers say of a certificate is not believed', async () => {
    const pem = encodeURIComponent(web.pem);
    const claims = [
      'X-SSL-Client-Cert',
      'X-Client-Cert',
      'X-Forwarded-Client-Cert',
      'X-ARR-ClientCert',
      'Client-Cert',
      'SSL-Client-Cert',
    ];
    const headers = `${claims.map((name) => `${name}: ${pem}\r\n`).join('')}X-SSL-Client-Verify: SUCCESS\r\n`;
    const answer = await over(undefined, 'POST', '/auth/cert', { body: { tenant: 'default', role: 'web' }, headers });
    expect([answer.status, await lastReason()]).toEqual([401, 'no_certificate']);
    const token = await tokenOf(web);
    expect((await over(undefined, 'GET', '/auth/self', { token, headers })).status).toBe(401);
  });

  it('another tenant’s authority, by the same name and role, lets nobody in here', async () => {
    const admin = await t.tenant('beta');
    await put('/authorities/corp', { certificates: other.pem }, admin);
    await put('/certificate-roles/web', { ...ROLE, policies: ['reader'] }, admin);
    expect((await logIn(web, 'web', 'beta')).status).toBe(401);
    const theirs = await client({ by: other });
    expect((await logIn(theirs, 'web', 'beta')).status).toBe(200);
    expect((await logIn(theirs)).status).toBe(401);
  });

  it('what a bundle may not hold is refused, and so are patterns that would take in too many', async () => {
    for (const [pem, says] of [
      [web.pem, 'is_none'],
      ['none', 'PEM'],
      [(await make({ name: 'Weak', ca: true, algorithm: { ...RSA, modulusLength: 1024 } })).pem, 'weak_key'],
    ] as const) {
      const answer = await t.request('PUT', '/api/v1/authorities/bad', { token: t.admin, body: { certificates: pem } });
      expect([answer.status, answer.json.detail]).toEqual([400, expect.stringContaining(says)]);
    }
    for (const pattern of [
      '*',
      'dns:*',
      'dns:*.example',
      'dns:a*.web.example',
      'uri:*',
      'uri:spiffe://*/x',
      'email:a@*',
      'cn:web',
      'dns:',
    ]) {
      expect(() => parsePattern(pattern), pattern).toThrow(/names: expected/);
    }
    expect(matchesName('dns:*.web.example', 'dns:web.example')).toBe(false);
    expect(matchesName('dns:*.web.example', 'uri:a.web.example')).toBe(false);
    expect(matchesName('uri:spiffe://corp/ns/*', 'uri:spiffe://corp/ns/')).toBe(false);
    expect(matchesName('email:*@corp.example', 'email:a@corp.example')).toBe(true);
  });
});

/** The same key, in the hands of somebody who still uses the old hash. */
async function signingWithSha1(signer: Made): Promise<Made> {
  const pkcs8 = await webcrypto.subtle.exportKey('pkcs8', signer.keys.privateKey);
  const privateKey = await webcrypto.subtle.importKey('pkcs8', pkcs8, { ...RSA, hash: 'SHA-1' }, true, ['sign']);
  return { ...signer, keys: { ...signer.keys, privateKey } };
}

/** Sent with what is above it. */
const chain = (leaf: Made, ...above: Made[]): Shown => ({
  pem: [leaf, ...above].map(({ pem }) => pem).join(''),
  key: leaf.key,
});

describe('what the token is bound to', () => {
  it('T-051 it is taken and renewed over connections with its certificate only', async () => {
    const token = await tokenOf(web);
    const sibling = await client();
    const sameKey = await client({ keys: web.keys });
    expect((await self(web, token)).status).toBe(200);
    expect((await over(web, 'POST', '/auth/renew', { token, body: {} })).status).toBe(200);
    for (const shown of [undefined, sibling, sameKey]) {
      expect((await self(shown, token)).status).toBe(401);
      expect((await over(shown, 'POST', '/auth/renew', { token, body: {} })).status).toBe(401);
      expect((await over(shown, 'GET', '/secrets/web/a', { token })).status).toBe(401);
    }
    // Nor over plain HTTP, where nobody shows one.
    expect((await t.request('GET', '/api/v1/auth/self', { token })).status).toBe(401);
  });

  it('T-139 no name and no resumed session carries it to another certificate', async () => {
    const token = await tokenOf(web);
    const base = { ca: serverAuthority.pem, checkServerIdentity: () => undefined };
    const bytes = `GET /api/v1/auth/self HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer ${token}\r\n\r\n`;
    const [named] = await askTls(server.port, bytes, {
      ...base,
      servername: 'other.example',
      cert: web.pem,
      key: web.key,
    });
    expect(named!.status).toBe(200);
    for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
      let session: Buffer | undefined;
      const first = await shake(server.port, { ...base, maxVersion, cert: web.pem, key: web.key });
      if (typeof first === 'string') throw new Error(first);
      first.on('session', (given) => {
        session = given;
      });
      first.end('GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
      await new Promise((resolve) => first.resume().once('close', resolve));
      const again = await shake(server.port, { ...base, maxVersion, ...(session ? { session } : {}) });
      if (typeof again === 'string') throw new Error(again);
      expect([maxVersion, again.isSessionReused()]).toEqual([maxVersion, false]);
      again.destroy();
    }
  });

  it('no token outlives its certificate, and a role may make it shorter', async () => {
    const brief = await client({ to: 0.01 });
    const answer = await logIn(brief);
    expect(Date.parse(String(answer.json.max_expires_at))).toBeLessThanOrEqual(brief.cert.notAfter.getTime());
    await put('/certificate-roles/short', { ...ROLE, token_ttl: '60s' });
    const short = await logIn(web, 'short');
    expect(Date.parse(String(short.json.expires_at)) - Date.now()).toBeLessThan(70_000);
  });
});

describe('the rule of giving', () => {
  it('nobody gives by a certificate role, or by the authority under one, what they do not hold themselves', async () => {
    const rules = [
      { effect: 'allow', actions: ['authority.*', 'cert-role.*'], resources: ['authority:**', 'cert-role:**'] },
    ];
    const token = await t.user('certifier', [], rules);
    const tried = async (path: string, body: object) =>
      (await t.request('PUT', `/api/v1${path}`, { token, body })).status;
    expect(await tried('/certificate-roles/mine', ROLE)).toBe(403);
    expect(await tried('/certificate-roles/web', { ...ROLE, names: ['dns:*.evil.example'] })).toBe(403);
    expect(await tried('/authorities/corp', { certificates: other.pem })).toBe(403);
    expect(await tried('/certificate-roles/mine', { ...ROLE, policies: ['certifier'] })).toBe(200);
    expect(await tried('/authorities/mine', { certificates: other.pem })).toBe(200);
  });
});

describe('what ends it', () => {
  it('T-138 a revocation list, on every node before its answer; a copy of before is refused', async () => {
    const [kept, gone] = [await client(), await client()];
    const [keptToken, goneToken] = [await tokenOf(kept), await tokenOf(gone)];
    const list = await makeRevocationList(authority, [gone.cert.serialNumber]);
    const stored = await put('/authorities/corp/crl', { crl: list });
    expect(stored.lists).toEqual([expect.objectContaining({ revoked: 1 })]);
    expect([(await self(kept, keptToken)).status, (await self(gone, goneToken)).status]).toEqual([200, 401]);
    expect([(await logIn(gone)).status, await lastReason()]).toEqual([401, 'revoked']);
    const older = await makeRevocationList(authority, [], { from: -3 });
    const back = await t.request('PUT', '/api/v1/authorities/corp/crl', { token: t.admin, body: { crl: older } });
    expect([back.status, back.json.code]).toEqual([409, 'conflict']);
    const forged = await makeRevocationList(await make({ name: 'Clients', ca: true }), []);
    const notTheirs = await t.request('PUT', '/api/v1/authorities/corp/crl', { token: t.admin, body: { crl: forged } });
    expect([notTheirs.status, notTheirs.json.detail]).toEqual([400, expect.stringContaining('has signed the list')]);
    expect((await logIn(gone)).status).toBe(401);
  });

  it('T-138 a list that is past its next update refuses, unless the authority says otherwise; a missing one, where it says so', async () => {
    const strict = await make({ name: 'Strict', ca: true });
    const shown = await client({ by: strict });
    await put('/authorities/strict', { certificates: strict.pem, list_required: true });
    await put('/certificate-roles/strict', { ...ROLE, authority: 'strict' });
    expect([(await logIn(shown, 'strict')).status, await lastReason()]).toEqual([401, 'no_revocation_list']);
    await put('/authorities/strict/crl', { crl: await makeRevocationList(strict, [], { from: -9, to: -1 }) });
    expect([(await logIn(shown, 'strict')).status, await lastReason()]).toEqual([401, 'stale_revocation_list']);
    await put('/authorities/strict', { certificates: strict.pem, list_required: true, stale_list: 'accept' });
    expect((await logIn(shown, 'strict')).status).toBe(200);
  });

  it('T-050 another bundle, another role, no role, a disabled account', async () => {
    const moving = await make({ name: 'Moving', ca: true });
    const shown = await client({ by: moving });
    await put('/authorities/moving', { certificates: moving.pem });
    const role = () => put('/certificate-roles/moving', { ...ROLE, authority: 'moving' });
    await role();
    const ends = async (name: string, act: () => Promise<unknown>) => {
      const token = await tokenOf(shown, 'moving');
      await act();
      expect([name, (await over(shown, 'POST', '/auth/renew', { token, body: {} })).status]).toEqual([name, 401]);
    };
    await ends('role', role);
    await ends('bundle', () => put('/authorities/moving', { certificates: moving.pem }));
    const name = String((await logIn(shown, 'moving')).json.username);
    await ends('disabled', () =>
      t.request('PATCH', `/api/v1/users/${name}`, { token: t.admin, body: { disabled: true } }),
    );
    expect([(await logIn(shown, 'moving')).status, await lastReason()]).toEqual([401, 'disabled']);
    await t.request('PATCH', `/api/v1/users/${name}`, { token: t.admin, body: { disabled: false } });
    const inUse = await t.request('DELETE', '/api/v1/authorities/moving', { token: t.admin });
    expect([inUse.status, inUse.json.detail]).toEqual([409, expect.stringContaining('role moving stands on it')]);
    await ends('gone', () => t.request('DELETE', '/api/v1/certificate-roles/moving', { token: t.admin }));
    expect((await t.request('DELETE', '/api/v1/authorities/moving', { token: t.admin })).status).toBe(204);
    expect((await t.request('GET', `/api/v1/users/${name}`, { token: t.admin })).status).toBe(404);
  });
});

describe('from the library and the command line', () => {
  it('logs in, reads, and is refused with another certificate', async () => {
    const address = `https://localhost:${server.port}`;
    const certificate = { cert: web.pem, key: web.key };
    const bulla = new Bulla({ address, ca: serverAuthority.pem, certificate });
    const login = await bulla.auth.certificate({ tenant: 'default', role: 'web' });
    expect(login.policies).toEqual(['web']);
    expect((await bulla.secrets.get('web/a')).text).toBe('for the web');
    bulla.close();
    const stranger = new Bulla({ address, ca: serverAuthority.pem, token: login.token, retries: 0 });
    await expect(stranger.auth.self()).rejects.toMatchObject({ code: 'unauthenticated' });
    stranger.close();
    const mixed = { cert: web.pem, key: authority.key };
    expect(() => new Bulla({ address, certificate: mixed })).toThrow(/cannot be used: it and its key/);
    const home = join(t.dataDir, 'home');
    mkdirSync(home);
    const file = (name: string, text: string) => {
      writeFileSync(join(home, name), text, { mode: 0o600 });
      return join(home, name);
    };
    const env = {
      ...{ HOME: home, BULLA_ADDR: address, BULLA_CACERT: file('ca.crt', serverAuthority.pem) },
      ...{ BULLA_CLIENT_CERT: file('web.crt', web.pem), BULLA_CLIENT_KEY: file('web.key', web.key) },
    };
    const bin = (...args: string[]) => run(process.execPath, [MAIN, ...args], { env });
    const loggedIn = await bin('login', 'default', '--certificate-role', 'web');
    expect([loggedIn.code, loggedIn.stderr]).toEqual([0, '']);
    const read = await bin('secret', 'get', 'web/a');
    expect([read.code, read.stdout.toString().trim()]).toEqual([0, 'for the web']);
  });
});
