/**
 * The Go client of the API under /v1, as HashiCorp and as OpenBao publish it, through a whole round: go/main.go, built once
 * with each, against our listener over TLS and a real PostgreSQL. It runs where Go is and its modules can be had.
 */
import { execFileSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { SignJWT } from 'jose';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Sweeper, startSweeper } from '../../src/lease/sweeper.ts';
import { CLIENT_AUTH, make, makeServer } from '../fixtures/certificate.ts';
import { PASSWORD, type TestVault, testVault } from '../harness.ts';
import { leaseTarget, type Target } from '../lease-target.ts';
import { type Served, serveTls } from '../tls-server.ts';
import { runClient } from './program.ts';

const SOURCE = fileURLToPath(new URL('go/', import.meta.url));
const PUBLISHERS = ['vault', 'bao'] as const;
const built = mkdtempSync(join(tmpdir(), 'bulla-go-'));

/** Why the programs could not be built; undefined: they were. */
function build(): string | undefined {
  const env = { ...process.env, GOFLAGS: '-mod=readonly', GOTOOLCHAIN: 'local', GOWORK: 'off' };
  try {
    execFileSync('go', ['version'], { stdio: 'ignore', env });
  } catch {
    return 'go is not installed';
  }
  try {
    execFileSync('go', ['mod', 'download'], { cwd: SOURCE, env, stdio: 'ignore', timeout: 60_000 });
  } catch {
    return 'the modules of test/clients/go cannot be had here';
  }
  for (const tag of PUBLISHERS) {
    execFileSync('go', ['build', '-tags', tag, '-o', join(built, tag), '.'], { cwd: SOURCE, env, stdio: 'inherit' });
  }
  return undefined;
}

const absent = build();
const ISSUER = 'https://issuer.example';
const SUBJECT = 'repo:acme/web';

let t: TestVault;
let server: Served;
let target: Target;
let sweeper: Sweeper;
let env: Record<string, string>;
beforeAll(async () => {
  if (absent !== undefined) return;
  [t, target] = await Promise.all([testVault(), leaseTarget()]);
  t.secrets.add(target.config.password);
  sweeper = startSweeper(t.vault);
  const [servers, clients] = await Promise.all([
    make({ name: 'Servers', ca: true }),
    make({ name: 'Clients', ca: true }),
  ]);
  const machine = await make({ name: 'web', by: clients, sans: ['a.web.example'], uses: [CLIENT_AUTH] });
  server = await serveTls(t, [await makeServer(servers)], { env: { BULLA_TLS_CLIENT_CERTIFICATES: 'true' } });
  const file = (name: string, text: string) => {
    writeFileSync(join(built, name), text, { mode: 0o600 });
    return join(built, name);
  };
  const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const now = Math.floor(Date.now() / 1000);
  const jwt = new SignJWT({ iss: ISSUER, sub: SUBJECT, aud: 'vault', iat: now, exp: now + 300 });
  const { host, port, database, username, password } = target.config;
  env = {
    ...{ ADDRESS: `https://localhost:${server.port}`, BULLA_PASSWORD: PASSWORD },
    ...{ SERVERS: file('servers.pem', servers.pem), CLIENTS: file('clients.pem', clients.pem) },
    ...{ CERT: file('client.pem', machine.pem), KEY: file('client.key', machine.key) },
    ...{ ISSUER, SUBJECT, JWT: await jwt.setProtectedHeader({ alg: 'ES256' }).sign(ec.privateKey) },
    PUBLIC_KEY: ec.publicKey.export({ type: 'spki', format: 'pem' }).toString(),
    TARGET_URL: `postgresql://{{username}}:{{password}}@${host}:${port}/${encodeURIComponent(database)}?sslmode=disable`,
    ...{ TARGET_USER: username, TARGET_PASSWORD: password },
  };
});
afterAll(async () => {
  rmSync(built, { recursive: true, force: true });
  if (absent !== undefined) return;
  await sweeper.stop();
  await t.check();
  await server.close();
  await t.close();
  await target.close();
});

it.skipIf(absent !== undefined).each(PUBLISHERS)(
  `the client of %s${absent === undefined ? '' : ` (skipped: ${absent})`}`,
  async (publisher) => {
    const asked = { env: { ...env, NAME: publisher }, deadlineMs: 100_000 };
    const [code, said] = await runClient(join(built, publisher), [], asked);
    expect([code, said]).toEqual([0, 'done\n']);
  },
  120_000,
);
