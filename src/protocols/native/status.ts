/** What the vault is, for whoever holds a valid token; strangers learn nothing here. */
import { z } from '@hono/zod-openapi';
import { readSelf } from '../../auth/token.ts';
import { endpoint, json } from './endpoint.ts';
import { name } from './schema.ts';

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
            uptime_seconds: z.int(),
          })
          .openapi('Status'),
        example: {
          version: '0.1.0',
          deployment_id: 'abcdefghij234567',
          tenant: 'acme',
          seal: { kind: 'file', fingerprint: '9f2c4d1e0b3a5c67' },
          uptime_seconds: 3600,
        },
      },
    },
    errors: [],
  },
  async ({ vault, call }) => {
    const { tenant } = await readSelf(vault, call);
    const { kind, fingerprint } = vault.seal;
    return json(200, {
      version: VERSION,
      deployment_id: vault.deploymentId,
      tenant,
      seal: { kind, fingerprint },
      uptime_seconds: Math.floor(process.uptime()),
    });
  },
);

/** Of the product, as package.json says; a test compares. */
export const VERSION = '0.1.0';
