/** What the vault is, for whoever holds a valid token; strangers learn nothing here. */
import { z } from '@hono/zod-openapi';
import { readSelf } from '../../auth/token.ts';
import type { TenantId } from '../../db/database.ts';
import { type KeyAge, keyAges } from '../../tenant/age.ts';
import { endpoint, json } from './endpoint.ts';
import { name, time } from './schema.ts';

const keyAge = z
  .object({
    version: z.int(),
    age_seconds: z.int(),
    due_at: time.nullable().openapi({ description: 'When it rotates by itself; null when it does not.' }),
  })
  .openapi('KeyAge');

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
        },
      },
    },
    errors: [],
  },
  async ({ vault, call }) => {
    const { tenant } = await readSelf(vault, call);
    const ages = await keyAges(vault, call.token!.tenantId as TenantId);
    const { kind, fingerprint } = vault.seal;
    return json(200, {
      version: VERSION,
      deployment_id: vault.deploymentId,
      tenant,
      seal: { kind, fingerprint },
      root_key: shapeAge(ages.root),
      data_key: shapeAge(ages.data),
      uptime_seconds: Math.floor(process.uptime()),
    });
  },
);

/** Of the product, as package.json says; a test compares. */
export const VERSION = '0.1.0';
