/**
 * The OpenAPI 3.1 document of everything that is served, made from the same schemas that check requests.
 *
 * It is a description and nothing is routed by it; a test compares it with the live router both ways, and with
 * openapi.yaml at the root. It names no version of the product, because strangers may read it.
 */
import { OpenAPIHono } from '@hono/zod-openapi';
import { PROTOCOLS } from '../protocols/index.ts';
import { statusOf } from './error.ts';
import { describeHealth } from './health.ts';

const DESCRIPTION = `A secrets vault whose every access is provable.

Times are RFC 3339 in UTC, durations are \`"15m"\` or integer seconds, field names are snake_case. Bodies are strict JSON:
UTF-8 without a byte order mark, no key twice, known fields only. Errors are RFC 9457 problem details with a stable
\`code\`. Every answer carries \`X-Request-Id\`, which is also in the audit log, and \`Cache-Control: no-store\`.`;

export type OpenapiDocument = ReturnType<OpenAPIHono['getOpenAPI31Document']>;

export function openapiDocument(): OpenapiDocument {
  const described = new OpenAPIHono();
  for (const protocol of PROTOCOLS) protocol.describe(described, statusOf);
  describeHealth(described);
  described.openAPIRegistry.registerComponent('securitySchemes', 'token', {
    type: 'http',
    scheme: 'bearer',
    description: 'The token that POST /api/v1/auth/login answers.',
  });
  return described.getOpenAPI31Document({
    openapi: '3.1.0',
    info: {
      title: 'Bulla',
      version: '1',
      description: DESCRIPTION,
      license: { name: 'Apache-2.0', url: 'https://www.apache.org/licenses/LICENSE-2.0' },
    },
    servers: [{ url: '/' }],
    security: [{ token: [] }],
  });
}
