/**
 * One route of the native interface: what it takes, what it answers, and the few lines that do it.
 *
 * The same description checks requests and becomes the route's operation in the OpenAPI document. A request is parsed
 * whole before the verb is called: strict JSON, then the schema; fields and parameters that are not known are refused.
 * Nothing here decides who may do what: the token goes to the verb as it came.
 */
import { z } from '@hono/zod-openapi';
import type { Context, Hono } from 'hono';
import { parseBearerOf } from '../../auth/bearer.ts';
import { type ErrorCode, VaultError } from '../../errors.ts';
import type { Call } from '../../policy/access.ts';
import type { Vault } from '../../vault.ts';
import type { Exchange, Host, HttpEnv } from '../protocol.ts';
import { parseStrictJson, type StrictJson } from './json.ts';
import { checked } from './schema.ts';

export const BASE = '/api/v1';

export type Answer = {
  readonly about: string;
  readonly schema?: z.ZodType;
  readonly example?: unknown;
  /** `application/json` unless it says otherwise. */
  readonly contentType?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Other forms of the same answer. */
  readonly also?: Readonly<Record<string, unknown>>;
};

export type Spec = {
  readonly method: 'get' | 'put' | 'post' | 'patch' | 'delete';
  /** As in OpenAPI: `/secrets/{path}`. */
  readonly path: string;
  readonly id: string;
  readonly tag: string;
  readonly summary: string;
  readonly description?: string;
  readonly query?: z.ZodObject;
  readonly queryExample?: Readonly<Record<string, unknown>>;
  readonly body?: z.ZodType;
  readonly bodyExample?: unknown;
  /** An absent body is an empty object. */
  readonly bodyOptional?: true;
  readonly bodyTypes?: readonly string[];
  /** Bodies that the handler reads by itself, as they are, with an example each. */
  readonly rawBodies?: Readonly<Record<string, string>>;
  /** Conditional headers that the route understands. If-Match anywhere else is refused, never ignored. */
  readonly conditions?: readonly ('If-Match' | 'If-None-Match')[];
  /** Takes an Idempotency-Key, which the handler reads by `idempotencyKey`. */
  readonly idempotent?: true;
  readonly answers: Readonly<Record<number, Answer>>;
  /** Beside those that every route has: see openapi.ts. */
  readonly errors: readonly ErrorCode[];
  readonly withoutToken?: true;
};

type Output<S> = S extends z.ZodType ? z.output<S> : undefined;

export type Request<S extends Spec = Spec> = {
  readonly vault: Vault;
  readonly host: Host;
  readonly exchange: Exchange;
  readonly call: Call;
  /** What stands in the place of the route's first `{…}`; empty when it has none. */
  readonly param: string;
  /** What stands in the place of each, by its name. */
  readonly params: Readonly<Record<string, string>>;
  readonly query: Output<S['query']>;
  readonly body: Output<S['body']>;
  /** The body before its schema, for what is taken as text. */
  readonly json: StrictJson | undefined;
};

export type Endpoint = {
  readonly spec: Spec;
  readonly mount: (router: Hono<HttpEnv>, vault: Vault, host: Host) => void;
};

/** `S` is kept exact, so that a handler's `query` and `body` have the types of their schemas. */
export function endpoint<const S extends Spec>(spec: S, run: (request: Request<S>) => Promise<Response>): Endpoint {
  const route = BASE + spec.path;
  const paramName = /\{(\w+)\}/.exec(spec.path)?.[1];
  const parseQuery = queryParser(spec.query);
  const refusesConditions = spec.method !== 'get' && !spec.conditions?.includes('If-Match');
  const mount = (router: Hono<HttpEnv>, vault: Vault, host: Host) => {
    const handle = async (c: Context<HttpEnv>): Promise<Response> => {
      const exchange = c.env;
      const { headers, url } = exchange.incoming;
      const call = callOf(exchange, route, spec.withoutToken);
      if (refusesConditions && headers['if-match'] !== undefined) throw noCondition();
      const query = parseQuery(url!) as Output<S['query']>;
      const json = await readJson(spec, exchange, host);
      const body = (spec.body && json ? checked(spec.body, json.value) : undefined) as Output<S['body']>;
      const params = c.req.param() as Record<string, string>;
      const param = paramName === undefined ? '' : params[paramName]!;
      return run({ vault, host, exchange, call, param, params, query, body, json });
    };
    router.on(spec.method, routerPath(route), handle);
  };
  return { spec, mount };
}

/** What the verb of a route is called with, and what log and metrics say of it. */
export function callOf(exchange: Exchange, route: string, withoutToken?: true): Call {
  exchange.route = route;
  const { incoming } = exchange;
  const token = withoutToken ? undefined : parseBearerOf(incoming.socket, incoming.headers.authorization);
  exchange.tenant = token?.tenantId;
  const { requestId, source, clientCertificate } = exchange;
  const certificate = clientCertificate?.thumbprint;
  const call: Call = { requestId, source, protocol: 'native', token, certificate };
  exchange.call = call;
  return call;
}

/** The paths of secrets and of tiles have slashes in them; other parameters do not. */
function routerPath(route: string): string {
  return route.replace(/\{(path|tile)\}/, ':$1{.+}').replace(/\{(\w+)\}/g, ':$1');
}

/** As it came: whoever keeps it says which are taken. */
export function idempotencyKey({ incoming }: Exchange): string | undefined {
  const header = incoming.headers['idempotency-key'];
  return typeof header === 'string' ? header : undefined;
}

function noCondition(): VaultError {
  return new VaultError('invalid_request', 'If-Match: this route cannot be made conditional; leave it out');
}

// ---- query --------------------------------------------------------------------------------------------------------

const NO_QUERY = z.strictObject({});

function queryParser(schema: z.ZodObject = NO_QUERY): (target: string) => unknown {
  // Most requests have no query: what the schema makes of nothing is the same every time.
  const absent = schema.safeParse({});
  return (target) => {
    const question = target.indexOf('?');
    if (question === -1 && absent.success) return absent.data;
    return checked(schema, parametersOf(question === -1 ? '' : target.slice(question + 1)));
  };
}

/** Each parameter once. A parameter has no prototype to fall into, whatever it is called. */
function parametersOf(query: string): Record<string, string> {
  const parameters: Record<string, string> = Object.create(null);
  for (const [name, value] of new URLSearchParams(query)) {
    if (Object.hasOwn(parameters, name)) throw new VaultError('invalid_request', 'a parameter of the query came twice');
    if (value.includes('\ufffd')) throw new VaultError('invalid_request', 'the query is not UTF-8 in percent-encoding');
    parameters[name] = value;
  }
  return parameters;
}

// ---- body ---------------------------------------------------------------------------------------------------------

const JSON_TYPES = ['application/json'];
const EMPTY_OBJECT: StrictJson = { value: {}, raw: () => undefined };

async function readJson(spec: Spec, exchange: Exchange, host: Host): Promise<StrictJson | undefined> {
  const { headers } = exchange.incoming;
  if (!spec.body) {
    if (hasBody(headers)) throw new VaultError('invalid_request', 'this route takes no body; leave it out');
    return undefined;
  }
  if (spec.bodyOptional && !hasBody(headers)) return EMPTY_OBJECT;
  const type = mediaType(headers['content-type']);
  if (spec.rawBodies && type !== 'application/json') return undefined;
  const types = spec.bodyTypes ?? JSON_TYPES;
  if (type === undefined || !types.includes(type)) {
    throw new VaultError('unsupported_media_type', `send the body as ${types.join(' or ')}, in UTF-8`);
  }
  return parseStrictJson(await host.readBody(exchange));
}

function hasBody(headers: Exchange['incoming']['headers']): boolean {
  const length = headers['content-length'];
  return headers['transfer-encoding'] !== undefined || (length !== undefined && Number(length) > 0);
}

const MEDIA_TYPE = /^([\w!#$&^.+-]{1,64}\/[\w!#$&^.+-]{1,64})(?:[ \t]*;[ \t]*charset="?([\w-]{1,40})"?)?[ \t]*$/i;

/** The media type in lower case when its only parameter, if any, says UTF-8. */
export function mediaType(header: string | undefined): string | undefined {
  const match = header === undefined ? null : MEDIA_TYPE.exec(header);
  if (!match || (match[2] !== undefined && match[2].toLowerCase() !== 'utf-8')) return undefined;
  return match[1]!.toLowerCase();
}

// ---- answers ------------------------------------------------------------------------------------------------------

const JSON_HEADERS = { 'Content-Type': 'application/json' };

export function json(
  status: number,
  value: unknown,
  headers: Readonly<Record<string, string>> = JSON_HEADERS,
): Response {
  return new Response(JSON.stringify(value), { status, headers });
}

export function noContent(): Response {
  return new Response(null, { status: 204 });
}

/** `{"items": […], "next_cursor": …}` */
export function page<T>(
  { items, nextCursor }: { items: readonly T[]; nextCursor: string | null },
  shape: (item: T) => object,
): Response {
  return json(200, { items: items.map(shape), next_cursor: nextCursor });
}
