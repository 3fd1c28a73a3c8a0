/** What the vault is, for whoever holds a valid token; strangers learn nothing here. */
import { z } from '@hono/zod-openapi';
import { readSelf } from '../../auth/token.ts';
import type { TenantId } from '../../db/database.ts';
import { type KeyAge, keyAges } from '../../tenant/age.ts';
import type { TlsStatus } from '../protocol.ts';
import { endpoint, json } from './endpoint.ts';
import { name, time } from './schema.ts';

const keyAge = z
  .object({
    version: z.int(),
    age_seconds: z.int(),
    due_at: time.nullable().openapi({ description: 'When it rotates by itself; null when it does not.' }),
  })
  .openapi('KeyAge');

const certificate = z
  .object({
    key: z.string().openapi({ description: '`ecdsa`, `rsa` or `ed25519`.' }),
    names: z.array(z.string()),
    issuer: z.string(),
    not_after: time,
    fingerprint: z.string().openapi({ description: 'SHA-256 of the certificate, in hex.' }),
    pin: z.string().openapi({ description: 'Of its key: what clients pin.' }),
  })
  .openapi('ServedCertificate');

const tls = z
  .object({
    min_version: z.string(),
    client_certificates: z.boolean().openapi({ description: 'Whether clients are asked for a certificate.' }),
    certificates: z.array(certificate),
    backup_pin: z.string().nullable().openapi({ description: 'Of the key that will take over.' }),
    alarms: z.array(z.string()).openapi({ description: 'A certificate that has ended, or ends within 14 days.' }),
    faults: z.array(z.string()).optional().openapi({ description: 'What keeps a new certificate from being served.' }),
    handshakes: z.array(z.object({ version: z.string(), cipher: z.string(), count: z.int() })).optional(),
    refusals: z.array(z.object({ reason: z.string(), count: z.int() })).optional(),
  })
  .openapi('TlsStatus', {
    description: 'Of the process that answers; faults, handshakes and refusals are for operators.',
  });

const PIN = 'sha256/q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=';
const TLS = {
  min_version: 'TLSv1.2',
  client_certificates: false,
  certificates: [
    {
      key: 'ecdsa',
      names: ['vault.example'],
      issuer: 'CN=Example CA',
      not_after: '2026-04-02T03:04:05.678000Z',
      fingerprint: 'c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00',
      pin: PIN,
    },
  ],
  backup_pin: null,
  alarms: [],
};

/** How much is going on is for those who run the vault. */
function shapeTls(found: TlsStatus, forOperator: boolean) {
  const { faults, handshakes, refusals } = found;
  return {
    min_version: found.minVersion,
    client_certificates: found.clientCertificates,
    certificates: found.certificates.map(({ notAfter, ...rest }) => ({
      ...rest,
      not_after: notAfter.toISOString().replace('Z', '000Z'),
    })),
    backup_pin: found.backupPin ?? null,
    alarms: found.alarms,
    ...(forOperator ? { faults, handshakes, refusals } : {}),
  };
}

const KEY_AGE = { version: 2, age_seconds: 3600, due_at: '2026-04-02T03:04:05.678901Z' };
const shapeAge = ({ version, ageSeconds, dueAt }: KeyAge) => ({ version, age_seconds: ageSeconds, due_at: dueAt });

export const status = endpoint(
  {
    method: 'get',
    path: '/status',
    id: 'status',
    tag: 'operation',
    summary: 'What the vault is',
    answers: {
      200: {
        about: 'The deployment, the seal and the process that answers.',
        schema: z
          .object({
            version: z.string(),
            deployment_id: z.string(),
            tenant: name,
            seal: z.object({ kind: z.string(), fingerprint: z.string() }),
            root_key: keyAge,
            data_key: keyAge,
            uptime_seconds: z.int(),
            tls: tls.nullable().openapi({ description: 'Null where plain HTTP is served.' }),
          })
          .openapi('Status'),
        example: {
          version: '0.1.0',
          deployment_id: 'abcdefghij234567',
          tenant: 'acme',
          seal: { kind: 'file', fingerprint: '9f2c4d1e0b3a5c67' },
          root_key: KEY_AGE,
          data_key: KEY_AGE,
          uptime_seconds: 3600,
          tls: TLS,
        },
      },
    },
    errors: [],
  },
  async ({ vault, host, call }) => {
    const { tenant } = await readSelf(vault, call);
    const ages = await keyAges(vault, call.token!.tenantId as TenantId);
    const { kind, fingerprint } = vault.seal;
    const served = host.tls();
    return json(200, {
      version: VERSION,
      deployment_id: vault.deploymentId,
      tenant,
      seal: { kind, fingerprint },
      root_key: shapeAge(ages.root),
      data_key: shapeAge(ages.data),
      uptime_seconds: Math.floor(process.uptime()),
      tls: served ? shapeTls(served, call.token!.tenantId === 'system') : null,
    });
  },
);

/** Of the product, as package.json says; a test compares. */
export const VERSION = '0.1.0';
