/**
 * The native routes as operations of an OpenAPI 3.1 document.
 *
 * Every operation lists every error it can answer, by code, with an example. Errors that follow from a route's kind
 * (it takes a token, it takes a body, it writes) are added here, so that no route can forget one.
 */
import { createRoute, type OpenAPIHono, z } from '@hono/zod-openapi';
import type { ErrorCode } from '../../errors.ts';
import { KEY_NAME_PATTERN } from '../../transit/name.ts';
import type { Host } from '../protocol.ts';
import { type Answer, BASE, type Endpoint, type Spec } from './endpoint.ts';
import { secretPath, version } from './schema.ts';

const ANY: readonly ErrorCode[] = ['invalid_request', 'invalid_path', 'internal', 'unavailable', 'busy', 'sealed'];
const WITH_TOKEN: readonly ErrorCode[] = [
  'unauthenticated',
  'forbidden',
  'tenant_suspended',
  'password_change_required',
  'mfa_required',
];
const WITH_BODY: readonly ErrorCode[] = ['invalid_json', 'too_large', 'unsupported_media_type'];
/** Reads too: each commits its audit entry. */
const WITH_COMMIT: readonly ErrorCode[] = ['outcome_unknown'];

/** What each code means, in one line. */
const MEANING: Readonly<Record<ErrorCode, string>> = {
  invalid_request: 'A field, parameter or header is not what the route takes.',
  invalid_json: 'The body is not strict JSON.',
  invalid_path: 'The path is not canonical.',
  unauthenticated: 'No token, or one that is not or no longer valid.',
  login_failed: 'The credentials are not right, or the user cannot log in now.',
  forbidden: 'No policy allows it, or one denies it.',
  approval_required: 'A policy allows it once others have approved it: see POST /approvals.',
  tenant_suspended: 'The tenant is suspended.',
  password_change_required: 'The password was given once and must be changed first.',
  totp_required: 'The password is right, and a code of the second factor is needed too.',
  mfa_required: 'A second factor is required, and none was enrolled or shown yet.',
  not_found: 'It does not exist.',
  method_not_allowed: 'The route answers other methods.',
  conflict: 'It exists already, or is in a state that does not allow this.',
  version_mismatch: 'The condition named another version than the current one.',
  too_large: 'The request, or what it asks for, is larger than the limit.',
  unsupported_media_type: 'The body is not of a type that the route takes.',
  idempotency_mismatch: 'The idempotency key was used with another body.',
  too_many_requests: 'Too many requests; see Retry-After.',
  quota_exceeded: 'The tenant has as many as its operators let it have.',
  integrity: 'What is stored does not open: it was moved, edited or damaged.',
  internal: 'Something failed inside the vault.',
  backend_failed: 'The target of a lease refused, did not answer in time or broke off.',
  busy: 'A bounded queue is full; see Retry-After.',
  unavailable: 'The database or the audit log cannot be written; nothing was changed.',
  outcome_unknown: 'The connection to the database died in COMMIT: the change is there whole or not at all.',
  sealed: 'The seal cannot open the root key.',
};

const problem = z
  .object({
    type: z.literal('about:blank'),
    title: z.string(),
    status: z.int(),
    detail: z.string().openapi({ description: 'For people; it may change.' }),
    code: z
      .enum(Object.keys(MEANING) as [ErrorCode, ...ErrorCode[]])
      .openapi({ description: 'For programs; it is stable.' }),
    request_id: z.string(),
  })
  .catchall(z.unknown())
  .openapi('Problem', { description: 'RFC 9457 problem details.' });

const RETRY_AFTER = { 'Retry-After': { description: 'Seconds.', schema: { type: 'integer' as const } } };

/** The error responses of an operation, by status. */
export function errorAnswers(codes: readonly ErrorCode[], statusOf: Host['statusOf']) {
  const byStatus = new Map<number, ErrorCode[]>();
  for (const code of new Set(codes)) byStatus.set(statusOf(code), [...(byStatus.get(statusOf(code)) ?? []), code]);
  const sorted = [...byStatus].sort(([a], [b]) => a - b);
  return Object.fromEntries(sorted.map(([status, ofStatus]) => [status, errorAnswer(status, ofStatus)]));
}

function errorAnswer(status: number, codes: readonly ErrorCode[]) {
  const examples = codes.map((code) => [code, { $ref: `#/components/examples/${code}` }] as const);
  return {
    description: codes.map((code) => `\`${code}\``).join(', '),
    ...(status === 503 ? { headers: RETRY_AFTER } : {}),
    content: { 'application/problem+json': { schema: problem, examples: Object.fromEntries(examples) } },
  };
}

const TITLES: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'Not Found',
  405: 'Method Not Allowed',
  409: 'Conflict',
  412: 'Precondition Failed',
  413: 'Payload Too Large',
  415: 'Unsupported Media Type',
  422: 'Unprocessable Content',
  429: 'Too Many Requests',
  500: 'Internal Server Error',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
  504: 'Gateway Timeout',
};

/** One example of every error, which the operations refer to. */
export function describeErrors(document: OpenAPIHono, statusOf: Host['statusOf']): void {
  for (const [code, meaning] of Object.entries(MEANING) as [ErrorCode, string][]) {
    const status = statusOf(code);
    const told = {
      type: 'about:blank',
      title: TITLES[status] ?? 'Error',
      status,
      detail: meaning,
      code,
      request_id: REQUEST_ID,
    };
    document.openAPIRegistry.registerComponent('examples', code, { summary: meaning, value: told });
  }
}

const REQUEST_ID = '3f0c2b1e-6f0e-4a53-9c0c-2f1d7c1f6a52';

export function describeEndpoint(document: OpenAPIHono, { spec }: Endpoint, statusOf: Host['statusOf']): void {
  const { method, path, id, tag, summary, description } = spec;
  const answers = Object.entries(spec.answers).map(([status, answer]) => [status, successAnswer(answer)] as const);
  const route = createRoute({
    method,
    path: BASE + path,
    operationId: id,
    tags: [tag],
    summary,
    ...(description === undefined ? {} : { description }),
    ...(spec.withoutToken ? { security: [] } : {}),
    request: requestOf(spec),
    responses: { ...Object.fromEntries(answers), ...errorAnswers(codesOf(spec), statusOf) },
  });
  document.openAPIRegistry.registerPath(route);
}

function codesOf(spec: Spec): ErrorCode[] {
  return [
    ...ANY,
    ...WITH_COMMIT,
    ...(spec.withoutToken ? [] : WITH_TOKEN),
    ...(spec.body ? WITH_BODY : []),
    ...spec.errors,
  ];
}

function requestOf(spec: Spec) {
  const params = paramsOf(spec.path);
  return {
    ...(params ? { params } : {}),
    ...(spec.query ? { query: spec.query } : {}),
    ...headersOf(spec),
    ...(spec.body ? { body: { required: !spec.bodyOptional, content: bodyContent(spec) } } : {}),
  };
}

const PARAMS: Readonly<Record<string, z.ZodType>> = {
  path: secretPath.openapi({
    param: {
      name: 'path',
      in: 'path',
      description: 'The path of a secret. Its slashes stand as they are, not encoded.',
    },
  }),
  name: z
    .string()
    .openapi({ param: { name: 'name', in: 'path' }, pattern: '^[a-z0-9][a-z0-9._-]{0,62}$', example: 'app' }),
  tile: z.string().openapi({
    param: { name: 'tile', in: 'path', description: 'Its slashes stand as they are.' },
    pattern: '^[0-6]/(x[0-9]{3}/)*[0-9]{3}([.]p/[1-9][0-9]{0,2})?$',
    example: '0/x001/067',
  }),
  id: z.string().openapi({ param: { name: 'id', in: 'path' }, pattern: '^[a-z2-7]{16}$', example: 'p7q2xk4mz3nb5cde' }),
  secret: z
    .string()
    .openapi({ param: { name: 'secret', in: 'path' }, pattern: '^[a-z0-9][a-z0-9._-]{0,62}$', example: '2026-q1' }),
  key: z.string().openapi({ param: { name: 'key', in: 'path' }, pattern: KEY_NAME_PATTERN, example: 'orders' }),
  version: version.openapi({ param: { name: 'version', in: 'path' } }),
  accessor: z
    .string()
    .openapi({ param: { name: 'accessor', in: 'path' }, pattern: '^[a-z2-7]{16}$', example: 'k3v2m5qy7dzr4abc' }),
};

function paramsOf(path: string): z.ZodObject | undefined {
  const names = Array.from(path.matchAll(/\{(\w+)\}/g), ([, name]) => name!);
  return names.length === 0 ? undefined : z.object(Object.fromEntries(names.map((name) => [name, PARAMS[name]!])));
}

function headersOf({ conditions = [], idempotent }: Spec) {
  const headers = [...conditions.map(conditionOf), ...(idempotent ? [IDEMPOTENCY_KEY] : [])];
  return headers.length === 0 ? {} : { headers: z.object(Object.fromEntries(headers)) };
}

const IDEMPOTENCY_KEY = [
  'Idempotency-Key',
  z
    .string()
    .optional()
    .openapi({
      param: {
        name: 'Idempotency-Key',
        in: 'header',
        description: 'A retry of the same request by the same user with the same key has the same effect, and answer.',
      },
      example: '5f1c0f0e-6c0b-4a53-9c0c-2f1d7c1f6a52',
    }),
] as const;

function conditionOf(name: 'If-Match' | 'If-None-Match') {
  const description =
    name === 'If-Match' ? 'The current version in double quotes.' : 'An ETag, or on a write * for: must not exist.';
  const example = name === 'If-Match' ? '"3"' : '*';
  return [
    name,
    z
      .string()
      .optional()
      .openapi({ param: { name, in: 'header', description }, example }),
  ] as const;
}

function bodyContent({ body, bodyExample, bodyTypes = ['application/json'], rawBodies = {} }: Spec) {
  const typed = bodyTypes.map((type) => [type, { schema: body!, example: bodyExample }] as const);
  const raw = Object.entries(rawBodies).map(
    ([type, example]) => [type, { schema: { type: 'string' as const }, example }] as const,
  );
  return Object.fromEntries<{ schema: z.ZodType | { type: 'string' }; example: unknown }>([...typed, ...raw]);
}

function successAnswer({ about, schema, example, contentType = 'application/json', headers, also = {} }: Answer) {
  const others = Object.entries(also).map(
    ([type, shown]) => [type, { schema: { type: 'string' as const }, example: shown }] as const,
  );
  const described = Object.entries(headers ?? {}).map(
    ([name, text]) => [name, { description: text, schema: { type: 'string' as const } }] as const,
  );
  return {
    description: about,
    ...(described.length === 0 ? {} : { headers: Object.fromEntries(described) }),
    ...(schema === undefined ? {} : { content: { [contentType]: { schema, example }, ...Object.fromEntries(others) } }),
  };
}
