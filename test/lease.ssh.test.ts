/** SSH certificates: what OpenSSH itself reads in them, and who a real sshd lets in. */
import { execFileSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { randomId } from '../src/crypto/token.ts';
import { asTenantId, type Timestamp } from '../src/db/database.ts';
import { BACKENDS } from '../src/lease/backends/index.ts';
import { parsePublicKey } from '../src/lease/backends/ssh-certificate.ts';
import { hasSshd, startSshd } from './fixtures/sshd.ts';
import { temporaryDirectory } from './process.ts';

const member = BACKENDS.ssh!;
const about = { tenant: asTenantId('aaaaaaaaaaaaaaaa'), backendId: 'bbbbbbbbbbbbbbbb', outbound: [] };
const limits = () => ({ signal: AbortSignal.timeout(10_000), deadlineMs: 10_000 });
const inSeconds = (seconds: number) => new Date(Date.now() + seconds * 1000).toISOString() as Timestamp;

type Config = { ca_private_key: string; ca_public_key: string };
const authority = (config: object = {}) => member.config.parse(config) as Config;

async function issue(config: Config, settings: object, parameters: Record<string, unknown>, seconds = 300) {
  const role = member.role.parse(settings);
  const asked = { role, roleName: 'deploy', holder: 'app', leaseId: randomId() };
  const times = { issuedAt: inSeconds(0), expiresAt: inSeconds(seconds) };
  const prepared = member.prepare({ ...asked, parameters: member.parameters!.parse(parameters), ...times });
  const backend = member.connect(config, about);
  return backend.issue({ handle: prepared.handle, role, prepared, expiresAt: times.expiresAt, ...limits() });
}

/** What `ssh-keygen -L` says of a certificate. */
function described(certificate: string): string {
  const directory = temporaryDirectory('ssh');
  const file = join(directory.path, 'cert.pub');
  writeFileSync(file, `${certificate}\n`);
  try {
    return execFileSync('ssh-keygen', ['-L', '-f', file], { encoding: 'utf8' });
  } finally {
    directory.remove();
  }
}

function keyLine(type: 'ed25519' | 'ecdsa' | 'rsa', bits?: number): string {
  const directory = temporaryDirectory('ssh');
  const file = join(directory.path, 'key');
  execFileSync('ssh-keygen', [
    '-q',
    '-N',
    '',
    '-t',
    type,
    ...(bits ? ['-b', String(bits)] : []),
    '-f',
    file,
    '-C',
    'me',
  ]);
  try {
    return execFileSync('cat', [`${file}.pub`], { encoding: 'utf8' }).trim();
  } finally {
    directory.remove();
  }
}

const AUTHORITIES = {
  Ed25519: undefined,
  'ECDSA P-256': () => generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  'ECDSA P-384': () => generateKeyPairSync('ec', { namedCurve: 'P-384' }),
  'ECDSA P-521': () => generateKeyPairSync('ec', { namedCurve: 'P-521' }),
  RSA: () => generateKeyPairSync('rsa', { modulusLength: 2048 }),
};

describe.skipIf(!hasSshd)('certificates', () => {
  it.each(Object.entries(AUTHORITIES))(
    'by an authority of %s are read by OpenSSH as they were meant',
    async (_, make) => {
      const pem = make?.().privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
      const config = authority(pem === undefined ? {} : { ca_private_key: pem });
      for (const line of [keyLine('ed25519'), keyLine('ecdsa', 521), keyLine('rsa', 2048)]) {
        const settings = {
          principals: ['deploy', 'root'],
          force_command: 'uptime',
          source_addresses: ['10.0.0.0/8', '::1/128'],
        };
        const made = await issue(config, settings, { public_key: line, principals: ['deploy'] });
        const text = described(made.signed_key as string);
        expect(text).toMatch(/user certificate/);
        expect(text).toContain(`Key ID: "${made.key_id}"`);
        expect(text).toContain(`Serial: ${made.serial}`);
        expect(text).toMatch(/Principals: *\n *deploy *\n *Critical/);
        expect(text).toMatch(/force-command uptime/);
        expect(text).toMatch(/source-address 10\.0\.0\.0\/8,::1\/128/);
        expect(text).toMatch(/Extensions: *\n *permit-pty *\n?$/);
      }
    },
  );

  it('of hosts name one label below a domain and have no extensions', async () => {
    const config = authority();
    const settings = { kind: 'host', principals: ['*.example.org', 'bastion'] };
    const line = keyLine('ed25519');
    const made = await issue(config, settings, { public_key: line, principals: ['web.example.org'] });
    expect(described(made.signed_key as string)).toMatch(
      /host certificate[\s\S]*web\.example\.org[\s\S]*Extensions: \(none\)/,
    );
    for (const principals of [
      ['a.b.example.org'],
      ['example.org'],
      ['.example.org'],
      ['webexample.org'],
      ['web.example.org.evil'],
    ]) {
      await expect(issue(config, settings, { public_key: line, principals })).rejects.toMatchObject({
        code: 'invalid_request',
      });
    }
  });

  it('weak, odd and broken keys are refused', async () => {
    const good = keyLine('ed25519');
    const weak = keyLine('rsa', 1024);
    await expect(issue(authority(), { principals: ['a'] }, { public_key: weak })).rejects.toMatchObject({
      code: 'invalid_request',
    });
    await expect(
      issue(authority(), { principals: ['a'], key_types: ['ssh-rsa'] }, { public_key: good }),
    ).rejects.toMatchObject({
      code: 'invalid_request',
    });
    const [type, blob] = good.split(' ') as [string, string];
    for (const line of [
      ...[
        '',
        blob,
        `${type} ${blob}\n${type} ${blob}`,
        `command="x" ${good}`,
        `${type} ${blob.slice(0, -4)}`,
        `ssh-rsa ${blob}`,
      ],
      ...[
        `${type} ${Buffer.concat([Buffer.from(blob, 'base64'), Buffer.alloc(4)]).toString('base64')}`,
        `ssh-dss ${blob}`,
      ],
    ]) {
      expect(parsePublicKey(line), line.slice(0, 40)).toBeUndefined();
    }
    expect(() => authority({ ca_private_key: 'nothing' })).toThrow(/PEM/);
    const short = generateKeyPairSync('rsa', { modulusLength: 1024 }).privateKey.export({
      type: 'pkcs8',
      format: 'pem',
    });
    expect(() => authority({ ca_private_key: short.toString() })).toThrow(/2048/);
  });

  it('a principal with a comma or more than the role has is refused', async () => {
    const public_key = keyLine('ed25519');
    for (const principals of [['root'], ['deploy,root'], ['deploy', 'root'], ['']]) {
      await expect(async () =>
        issue(authority(), { principals: ['deploy'] }, { public_key, principals }),
      ).rejects.toThrow();
    }
  });
});

it.skipIf(!hasSshd)('a real sshd lets the holder in until the certificate expires, and nobody else', async () => {
  const config = authority();
  const sshd = await startSshd(config.ca_public_key);
  try {
    const { publicKey: public_key, user } = sshd;
    const brief = await issue(config, { principals: [user] }, { public_key }, 1);
    const made = await issue(config, { principals: [user] }, { public_key });
    const inside = await sshd.run(made.signed_key as string);
    expect(inside).toMatchObject({ code: 0, stdout: 'inside\n' });
    const other = await issue(config, { principals: [`${user}x`] }, { public_key });
    expect((await sshd.run(other.signed_key as string)).code).toBe(255);
    const foreign = await issue(authority(), { principals: [user] }, { public_key });
    expect((await sshd.run(foreign.signed_key as string)).code).toBe(255);
    const forced = await issue(config, { principals: [user], force_command: 'echo forced' }, { public_key });
    expect(await sshd.run(forced.signed_key as string)).toMatchObject({ stdout: 'forced\n' });
    await sleep(Math.max(0, (brief.valid_before as number) * 1000 - Date.now()));
    expect((await sshd.run(brief.signed_key as string)).code, 'after it has expired').toBe(255);
  } finally {
    await sshd.stop();
  }
});
