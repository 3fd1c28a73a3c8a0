/**
 * SSH: each lease is a certificate over a public key that the request brings, signed by an authority's key that never
 * leaves its envelope. Servers that trust the authority take it until it expires and need not be asked: there is no
 * revocation outside, so times should be short, and a lease that is revoked earlier ends when its certificate does.
 */
import { createPrivateKey, generateKeyPairSync, type KeyObject, randomBytes } from 'node:crypto';
import { z } from 'zod';
import { VaultError } from '../../errors.ts';
import { type Backend, type BackendMember, backendFailed } from '../backend.ts';
import { isWeak, KEY_TYPES, parsePublicKey, publicLine, signCertificate } from './ssh-certificate.ts';

const newAuthority = () =>
  generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();

/** Without a key a new one is made. The public half is for the servers, and follows from the private one. */
const config = z
  .strictObject({
    ca_private_key: z
      .string()
      .max(16 * 1024)
      .optional(),
    ca_public_key: z
      .string()
      .max(16 * 1024)
      .optional(),
  })
  .transform(({ ca_private_key: given }, context) => {
    const pem = given ?? newAuthority();
    try {
      return { ca_private_key: pem, ca_public_key: publicLine(authorityOf(pem)) };
    } catch (error) {
      const what =
        error instanceof VaultError ? error.message : 'expected a private key in PEM (PKCS #8) without a passphrase';
      context.addIssue({ code: 'custom', path: ['ca_private_key'], message: what });
      return z.NEVER;
    }
  });
type Config = z.output<typeof config>;

const authorityOf = (pem: string): KeyObject => createPrivateKey(pem);

/** A name to log in as, or a host's; a comma would be two of them. */
const PRINCIPAL = /^[A-Za-z0-9._@:+-]{1,128}$/;
const principal = z.string().regex(PRINCIPAL, 'expected a user or host name, without blanks and commas');

const EXTENSIONS = [
  'permit-X11-forwarding',
  'permit-agent-forwarding',
  'permit-port-forwarding',
  'permit-pty',
  'permit-user-rc',
] as const;

const role = z.strictObject({
  kind: z.enum(['user', 'host']).default('user'),
  /**
   * Who the holder may log in as (or which host it is). A request may ask for some of them; `*.` in front of a host
   * name is any one below it.
   */
  principals: z
    .array(
      z
        .string()
        .regex(/^(?:\*\.)?[A-Za-z0-9._@:+-]{1,126}$/, 'expected a name such as deploy, or *.example.org for hosts'),
    )
    .min(1)
    .max(64),
  key_types: z
    .array(z.enum(KEY_TYPES))
    .min(1)
    .default([...KEY_TYPES]),
  /** Of user certificates. Nothing but what is given here is permitted. */
  extensions: z.array(z.enum(EXTENSIONS)).max(EXTENSIONS.length).default(['permit-pty']),
  force_command: z.string().min(1).max(1024).optional(),
  /** Networks from which the certificate is taken. */
  source_addresses: z
    .array(z.union([z.cidrv4(), z.cidrv6()]))
    .min(1)
    .max(32)
    .optional(),
});
type Role = z.output<typeof role>;

const parameters = z.strictObject({
  /** As in authorized_keys. */
  public_key: z.string().max(16 * 1024),
  /** Some of the role's; all of them when absent. */
  principals: z.array(principal).min(1).max(64).optional(),
});

/** Servers' clocks may be behind. */
const SKEW_SECONDS = 30;

export const sshBackend: BackendMember<Config, Role> = {
  config,
  secretFields: ['ca_private_key'],
  role,
  parameters,
  endsOnlyByExpiry: true,
  prepare: ({ role: settings, holder, roleName, leaseId, parameters: asked, issuedAt }) => {
    const { public_key: line, principals } = asked as z.output<typeof parameters>;
    checkKey(line, settings);
    const serial = randomBytes(8).readBigUInt64BE();
    return {
      handle: `ssh:${serial}`,
      credential: {
        public_key: line.trim(),
        serial: String(serial),
        key_id: `bulla ${holder} ${roleName} ${leaseId}`,
        principals: chosen(settings, principals).join(','),
        valid_after: Math.floor(Date.parse(issuedAt) / 1000) - SKEW_SECONDS,
      },
    };
  },
  connect: (configured) => connect(configured),
};

function checkKey(line: string, { key_types: types }: Role) {
  const key = parsePublicKey(line);
  if (!key || !types.some((type) => type === key.type)) {
    throw new VaultError(
      'invalid_request',
      `public_key: expected one line with a key of the type ${types.join(', ')}.`,
    );
  }
  if (isWeak(key)) throw new VaultError('invalid_request', 'public_key: expected an RSA key of 2048 bits or more.');
  return key;
}

function chosen({ principals: allowed }: Role, wanted: readonly string[] | undefined): readonly string[] {
  const whole = allowed.filter((name) => !name.startsWith('*.'));
  if (wanted === undefined && whole.length > 0) return whole;
  const fits = (name: string) =>
    allowed.some((one) => one === name || (one.startsWith('*.') && isBelow(name, one.slice(2))));
  const refused = (wanted ?? []).filter((name) => !fits(name));
  if (wanted !== undefined && refused.length === 0) return wanted;
  throw new VaultError('invalid_request', `principals: expected some of ${allowed.join(', ')}.`);
}

/** One label below: `*.example.org` is not `a.b.example.org`. */
const isBelow = (name: string, domain: string) =>
  name.endsWith(`.${domain}`) && !name.slice(0, -domain.length - 1).includes('.') && name.length > domain.length + 1;

function connect({ ca_private_key: pem }: Config): Backend<Role> {
  return {
    check: async () => undefined,
    issue: async ({ role: settings, prepared: { credential }, expiresAt }) => {
      const key = checkKey(String(credential.public_key), settings);
      const validBefore = Math.floor(Date.parse(expiresAt) / 1000);
      const signed = signCertificate(authorityOf(pem), {
        ...{ key, kind: settings.kind, serial: BigInt(credential.serial!), keyId: String(credential.key_id) },
        principals: String(credential.principals).split(','),
        ...{ validAfter: Number(credential.valid_after), validBefore },
        criticalOptions: criticalOptions(settings),
        extensions: settings.kind === 'user' ? settings.extensions : [],
      });
      return { ...credential, signed_key: signed, valid_before: validBefore };
    },
    renew: async () => {
      throw backendFailed('A certificate is not prolonged: take a new lease.', 'refused');
    },
    revoke: async () => undefined,
    close: async () => undefined,
  };
}

function criticalOptions({ kind, force_command: command, source_addresses: sources }: Role): Record<string, string> {
  if (kind === 'host') return {};
  return {
    ...(command === undefined ? {} : { 'force-command': command }),
    ...(sources === undefined ? {} : { 'source-address': sources.join(',') }),
  };
}
