/**
 * T-128: the cookies of `bulla login --oidc`, the only ones there are. Its page is plain HTTP on the loopback interface, so
 * it can have no `Secure` and no `__Host-`; what holds instead is a name that nobody can know, a secret value, and a reader
 * that takes no other spelling.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text as textOf } from 'node:stream/consumers';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { putIssuer } from '../src/auth/issuer.ts';
import { putLoginRole } from '../src/auth/login-role.ts';
import { createApp } from '../src/http/app.ts';
import { type Listener, listen } from '../src/http/listener.ts';
import { type TestVault, testVault } from './harness.ts';
import { loginCommand, type MadeIssuer, madeIssuer } from './oidc-issuer.ts';

let t: TestVault;
let listener: Listener;
let made: MadeIssuer;
let directory: string;

beforeAll(async () => {
  t = await testVault({ env: { BULLA_OUTBOUND_NETWORKS: '127.0.0.1/32' } });
  listener = await listen(t.vault, createApp(t.vault), t.vault.config);
  made = await madeIssuer();
  directory = mkdtempSync(join(tmpdir(), 'bulla-browser-'));
  await putIssuer(t.vault, t.call(t.admin), 'made', { issuer: made.issuer, client: { id: 'vault' } });
  const rules = [{ claims: { sub: ['ann'] }, policies: ['reader'] }];
  await putLoginRole(t.vault, t.call(t.admin), 'people', { kind: 'oidc', issuer: 'made', rules });
});
afterAll(async () => {
  await t.check();
  await listener.close();
  await t.close();
  made.close();
  rmSync(directory, { recursive: true, force: true });
});

type Said = { readonly status: number; readonly cookies: string[]; readonly location: string; readonly text: string };

/** With the header byte for byte as it is given. */
async function ask(url: string, cookie?: string, form?: Record<string, string>): Promise<Said> {
  const headers = { ...(cookie === undefined ? {} : { cookie }), ...(form ? { origin: new URL(url).origin } : {}) };
  const answer = await new Promise<IncomingMessage>((resolve, reject) => {
    const asking = request(url, { method: form ? 'POST' : 'GET', headers }, resolve).on('error', reject);
    asking.end(form ? new URLSearchParams(form).toString() : undefined);
  });
  const { statusCode = 0, headers: said } = answer;
  const [cookies, location] = [said['set-cookie'] ?? [], said.location ?? ''];
  return { status: statusCode, cookies, location, text: await textOf(answer) };
}

async function begun() {
  const { opened, ended } = loginCommand('login default --oidc people', {
    ...{ BULLA_ADDR: listener.address, XDG_STATE_HOME: directory },
  });
  const { address } = await opened;
  const { origin } = new URL(address);
  const { cookies, location } = await ask(address);
  const state = new URL(location).searchParams.get('state')!;
  return { origin, cookies, ended, callback: `${origin}/oidc/callback?code=c&state=${state}` };
}

/** Everything that is nearly `name=value`. */
const nearly = (name: string, value: string) => [
  ...['', value, `${name}=`, `${name}=${value.slice(0, -1)}`, `${name}=${value}x`, `${name}="${value}"`],
  ...[`\u00a0${name}=${value}`, `${name}\u00a0=${value}`, `${name}=\u00a0${value}`, `x=y;\u00a0${name}=${value}`],
  ...[`${name} =${value}`, `${name}= ${value}`, `${name}\t=${value}`, `${name.toUpperCase()}=${value}`],
  ...[
    `x${name}=${value}`,
    `__Host-${name}=${value}`,
    `${name}x=${value}`,
    `x=y,${name}=${value}`,
    `x=${name}=${value}`,
  ],
  // Somebody else has set one too: whose of the two is whose nobody knows.
  ...[`${name}=other; ${name}=${value}`, `${name}=${value}; ${name}=other`, `${name}=${value}; ${name}=${value}`],
];
const pairOf = (cookie: string) => /^([^=]+)=([^;]*)/.exec(cookie)!.slice(1) as [string, string];

it('T-128 one browser has them, by a name of this login, and no other spelling is taken for them', async () => {
  const { origin, cookies, ended, callback } = await begun();
  expect(cookies).toEqual([
    expect.stringMatching(/^bulla-login-[0-9a-f]{12}=[\w-]{43}; Path=\/; HttpOnly; SameSite=Lax$/),
  ]);
  const [name, value] = pairOf(cookies[0]!);
  const own = `${name}=${value}`;
  for (const cookie of nearly(name, value)) {
    const { status, cookies: set } = await ask(callback, cookie);
    expect([cookie, status, set]).toEqual([cookie, 403, []]);
  }
  expect(await ask(callback, `theme=dark; ${own}`)).toMatchObject({
    status: 303,
    location: `${origin}/confirm`,
    cookies: [],
  });
  for (const cookie of nearly(name, value)) {
    expect([cookie, (await ask(`${origin}/confirm`, cookie)).status]).toEqual([cookie, 403]);
  }
  const page = await ask(`${origin}/confirm`, own);
  expect(page.cookies).toEqual([
    expect.stringMatching(/^bulla-login-[0-9a-f]{12}-s=[\w-]{43}; Path=\/confirm; HttpOnly; SameSite=Strict$/),
  ]);
  const [second, question] = pairOf(page.cookies[0]!);
  for (const cookie of nearly(second, question)) {
    const { status } = await ask(`${origin}/confirm`, `${own}; ${cookie}`, { question, go: 'yes' });
    expect([cookie, status]).toEqual([cookie, 403]);
  }
  const off = await ask(`${origin}/confirm`, `${own}; ${second}=${question}`, { question, go: 'no' });
  expect(off.text).toContain('Called off');
  expect((await ended).code).not.toBe(0);
});

it('T-128 nothing that an issuer or a stranger says becomes a header', async () => {
  const { origin, cookies, ended, callback } = await begun();
  const [name, value] = pairOf(cookies[0]!);
  const injected = encodeURIComponent('x\r\nSet-Cookie: a=b; Domain=localhost; Path=/\r\n\r\n<script>');
  for (const path of [`/${injected}`, `/begin/${injected}`, `/oidc/callback?state=${injected}`]) {
    expect((await ask(`${origin}${path}`, `${name}=${value}`)).cookies).toEqual([]);
  }
  const state = new URL(callback).searchParams.get('state');
  const said = await ask(`${origin}/oidc/callback?state=${state}&error=${injected}`, `${name}=${value}`);
  expect([said.status, said.cookies, said.text.includes('<script>')]).toEqual([403, [], false]);
  expect((await ended).stderr).not.toContain('\r');
});
