/**
 * OAuth 2.0 client credentials (RFC 6749 §4.4), so that stock clients log services in: `POST /oauth/token`.
 *
 *     Authorization: Basic base64(form(client_id) ":" form(client_secret))      or both in the body, never both ways
 *     grant_type=client_credentials&scope=<names of policies that the token is bound to>
 *
 * The answers and errors are the RFC's (§5.1, §5.2). What RFC 6749 has no code for (the vault cannot serve now) is
 * `temporarily_unavailable` with 503. The login itself is that of `POST /api/v1/auth/service`.
 */
import { createRoute, z } from '@hono/zod-openapi';
import { service } from '../../auth/methods/service.ts';
import { loginBy } from '../../auth/proven-login.ts';
import { type ErrorCode, VaultError } from '../../errors.ts';
import type { Call } from '../../policy/access.ts';
import type { Vault } from '../../vault.ts';
import type { Exchange, Host, Protocol } from '../protocol.ts';
import { readBasic, readForm } from './form.ts';

const PATH = '/oauth/token';

/** What is answered as `{"error": …}`. */
type Refusal = { readonly error: string; readonly code: ErrorCode; readonly description: string };

async function token(vault: Vault, host: Host, exchange: Exchange): Promise<Response> {
  const { requestId, source, incoming } = exchange;
  exchange.route = PATH;
  const call: Call = { requestId, source, protocol: 'oauth', token: undefined };
  exchange.call = call;
  try {
    const wish = wishOf(incoming.headers, readForm(await host.readBody(exchange)));
    if ('error' in wish) return refused(host, exchange, wish);
    const { clientId, clientSecret, policies } = wish;
    const login = await loginBy(vault, call, service, { clientId, clientSecret }, { policies });
    return answer(200, {
      access_token: login.token,
      token_type: 'Bearer',
      expires_in: login.ttlSeconds,
      ...(policies ? { scope: policies.join(' ') } : {}),
    });
  } catch (error) {
    const refusal = refusalOf(error);
    if (!refusal) throw error;
    return refused(host, exchange, refusal);
  }
}

function refused(host: Host, exchange: Exchange, { error, code, description }: Refusal): Response {
  exchange.code = code;
  const status = error === 'invalid_client' ? 401 : host.statusOf(code);
  const headers: Record<string, string> = {};
  // §5.2: a client that used the header is told the scheme.
  if (status === 401 && exchange.incoming.headers.authorization !== undefined) {
    headers['WWW-Authenticate'] = 'Basic realm="bulla"';
  }
  if (status === 503 || status === 429) headers['Retry-After'] = '1';
  return answer(status, { error, error_description: printable(description) }, headers);
}

type Wish = {
  readonly clientId: string;
  readonly clientSecret: string;
  readonly policies: readonly string[] | undefined;
};

function wishOf(headers: Exchange['incoming']['headers'], form: ReadonlyMap<string, string>): Wish | Refusal {
  if (!/^application\/x-www-form-urlencoded(?:[ \t]*;|$)/i.test(headers['content-type'] ?? '')) {
    return invalid('Send the body as application/x-www-form-urlencoded.');
  }
  const grantType = form.get('grant_type');
  if (grantType === undefined) return invalid('grant_type is missing.');
  if (grantType !== 'client_credentials') {
    const description = 'Only client_credentials is served here.';
    return { error: 'unsupported_grant_type', code: 'invalid_request', description };
  }
  const shown = headers.authorization === undefined ? undefined : readBasic(headers.authorization);
  if (headers.authorization !== undefined && !shown) return noClient('The Authorization header is not HTTP Basic.');
  if (shown && (form.has('client_secret') || (form.get('client_id') ?? shown.clientId) !== shown.clientId)) {
    return invalid('Show the client once: in the Authorization header or in the body.');
  }
  const clientId = shown?.clientId ?? form.get('client_id');
  const clientSecret = shown?.clientSecret ?? form.get('client_secret');
  if (clientId === undefined || clientSecret === undefined) return noClient('client_id or client_secret is missing.');
  return { clientId, clientSecret, policies: form.get('scope')?.split(' ') };
}

const invalid = (description: string): Refusal => ({ error: 'invalid_request', code: 'invalid_request', description });
const noClient = (description: string): Refusal => ({ error: 'invalid_client', code: 'login_failed', description });

/** Undefined for a fault of ours, which takes the common way. */
function refusalOf(error: unknown): Refusal | undefined {
  if (!(error instanceof VaultError)) return undefined;
  const { code, message: description } = error;
  switch (code) {
    case 'login_failed':
    case 'tenant_suspended':
      return { error: 'invalid_client', code, description };
    case 'invalid_request':
      return { error: error.details?.scope ? 'invalid_scope' : 'invalid_request', code, description };
    case 'too_large':
    case 'unsupported_media_type':
      return { error: 'invalid_request', code, description };
    case 'busy':
    case 'unavailable':
    case 'outcome_unknown':
    case 'too_many_requests':
      return { error: 'temporarily_unavailable', code, description };
    default:
      return undefined;
  }
}

/** §5.2: printable ASCII without quotes and backslashes. */
const printable = (text: string) => text.replace(/[^\x20-\x21\x23-\x5b\x5d-\x7e]/g, "'");

function answer(status: number, body: object, headers: Readonly<Record<string, string>> = {}): Response {
  const all = { 'Content-Type': 'application/json', Pragma: 'no-cache', ...headers };
  return new Response(JSON.stringify(body), { status, headers: all });
}

// ---- openapi ------------------------------------------------------------------------------------------------------

const grant = z
  .object({
    grant_type: z.literal('client_credentials'),
    client_id: z.string().optional(),
    client_secret: z.string().optional(),
    scope: z
      .string()
      .optional()
      .openapi({ description: 'Names of policies, apart by blanks: the token is bound to them.' }),
  })
  .openapi('OauthGrant');
const granted = z
  .object({
    access_token: z.string(),
    token_type: z.literal('Bearer'),
    expires_in: z.int(),
    scope: z.string().optional(),
  })
  .openapi('OauthToken');
const refusal = z.object({ error: z.string(), error_description: z.string() }).openapi('OauthError');

const refusalAnswer = (description: string, error: string) => ({
  description,
  content: { 'application/json': { schema: refusal, example: { error, error_description: 'what is wrong' } } },
});

export const oauth: Protocol = {
  name: 'oauth',
  mount: (router, vault, host) => {
    router.post(PATH, (c) => token(vault, host, c.env));
  },
  describe: (document) => {
    document.openAPIRegistry.registerPath(
      createRoute({
        method: 'post',
        path: PATH,
        operationId: 'oauthToken',
        tags: ['login'],
        summary: 'Log a service in as OAuth 2.0 client credentials (RFC 6749 §4.4)',
        description: 'The client is shown by HTTP Basic or in the body. Parameters that are not known are ignored.',
        security: [],
        request: {
          body: {
            required: true,
            content: {
              'application/x-www-form-urlencoded': {
                schema: grant,
                example: { grant_type: 'client_credentials', scope: 'reader' },
              },
            },
          },
        },
        responses: {
          200: {
            description: 'A token for this service.',
            content: {
              'application/json': {
                schema: granted,
                example: { access_token: 'bulla_…', token_type: 'Bearer', expires_in: 3600, scope: 'reader' },
              },
            },
          },
          400: refusalAnswer('`invalid_request`, `unsupported_grant_type`, `invalid_scope`', 'invalid_request'),
          401: refusalAnswer('`invalid_client`', 'invalid_client'),
          413: refusalAnswer('Too large.', 'invalid_request'),
          415: refusalAnswer('Another Content-Encoding.', 'invalid_request'),
          500: refusalAnswer('A fault of the server.', 'server_error'),
          503: refusalAnswer('`temporarily_unavailable`', 'temporarily_unavailable'),
          504: refusalAnswer(
            '`temporarily_unavailable`: whether a token was made is not known.',
            'temporarily_unavailable',
          ),
        },
      }),
    );
  },
};
