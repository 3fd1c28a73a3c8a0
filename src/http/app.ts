/**
 * The HTTP application: from a request of Node's server to an answer, a log line and a count.
 *
 * Every request goes the same way: begin (id, source, security headers), the checks of exchange.ts, the router, and one
 * place that turns whatever was thrown into a problem. A log line says method, route pattern, status, time, source and
 * tenant; it never holds a path, a query, a header or a body. Nothing here knows what a route does.
 */
import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { getRequestListener } from '@hono/node-server';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import { Hono } from 'hono';
import { LIMITS } from '../config.ts';
import { type ErrorCode, VaultError } from '../errors.ts';
import { PROTOCOLS } from '../protocols/index.ts';
import type { Dialect, Exchange, Host, HttpEnv, PlainAnswer, PlainRoute, WireAnswer } from '../protocols/protocol.ts';
import { countUnheard, countUnread, recordUnheard } from '../protocols/record.ts';
import type { Vault } from '../vault.ts';
import { createRequestAllowance } from './allowance.ts';
import { createBodyReader } from './body.ts';
import {
  asVaultError,
  isFault,
  methodNotAllowed,
  noSuchRoute,
  type Problem,
  problemOf,
  recordOf,
  statusOf,
} from './error.ts';
import { beginExchange, CHECKS, commonHeaders, setCommonHeaders } from './exchange.ts';
import { mountHealth } from './health.ts';
import { registerKeyMetrics } from './key-metrics.ts';
import { registerLeaseMetrics, registerRevocationMetrics } from './lease-metrics.ts';
import { createMetrics, type Metrics } from './metrics.ts';
import { openapiDocument } from './openapi.ts';
import { createPlainRouter, sendPlain } from './plain.ts';
import { createSourceLimits } from './rate.ts';
import { refuseWhileSealed } from './sealed.ts';
import { stream } from './stream.ts';
import type { Tls } from './tls.ts';
import { registerTlsMetrics } from './tls-metrics.ts';

export type App = {
  readonly router: Hono<HttpEnv>;
  /** Answers one request. `refusal` is what to answer instead of routing it. */
  readonly handle: (incoming: IncomingMessage, outgoing: ServerResponse, refusal?: VaultError) => void;
  /** The methods that a path answers, for Allow; none when there is no such path. */
  readonly methodsOf: (path: string) => readonly string[];
  /** How large a body may be that comes to this target. */
  readonly bodyBytesMax: (target: string) => number;
  /** Counts what came from a source and never became a request. */
  readonly countUnread: (source: string, code: ErrorCode) => void;
  readonly connections: Metrics['connections'];
  /** What this process counts. */
  readonly registry: Metrics['registry'];
  /** Absent: plain HTTP. */
  readonly tls: Tls | undefined;
};

/** `scrape` is what a worker answers to Prometheus: what all processes of the server count. Absent: what this one does. */
export function createApp(vault: Vault, tls?: Tls, scrape?: () => Promise<string>): App {
  const router = new Hono<HttpEnv>();
  const metrics = createMetrics();
  if (!scrape) {
    registerKeyMetrics(metrics.registry, vault);
    registerLeaseMetrics(metrics.registry, vault);
  }
  registerRevocationMetrics(metrics.registry, vault);
  if (tls) registerTlsMetrics(metrics.registry, tls);
  const sources = createSourceLimits(vault.config, () => vault.clock.monotonicMs());
  const enter = createRequestAllowance(vault.config);
  const { readBody, release } = createBodyReader(vault.config.http.bodiesBytesMax);
  const host: Host = { statusOf, readBody, stream, tls: () => tls?.status() };
  const { registry } = metrics;
  mountHealth(router, vault, scrape ?? (() => registry.metrics()), openapiDocument);
  for (const protocol of PROTOCOLS) protocol.mount(router, vault, host);
  const dialects = PROTOCOLS.flatMap(({ dialect }) => (dialect ? [dialect(vault, host)] : []));
  const dialectOf = (target = ''): Dialect | undefined => dialects.find(({ base }) => target.startsWith(base));
  const plainRouteOf = createPlainRouter(PROTOCOLS);
  const methodsOf = (path: string) => allowedMethods(router, path);
  router.notFound((c) => responseOf(vault, unrouted(c.req.path, methodsOf), c.env));
  router.onError((error, c) => responseOf(vault, error, c.env));

  const exchanges = new WeakMap<object, Exchange>();
  const route = getRequestListener(
    async (request, { incoming }) => {
      const exchange = exchanges.get(incoming)!;
      try {
        return await router.fetch(request, exchange);
      } catch (error) {
        return await responseOf(vault, error, exchange);
      }
    },
    { errorHandler: (error) => toResponse(problemOf(unreadable(vault, error), randomUUID())) },
  );

  const handle = (incoming: IncomingMessage, outgoing: ServerResponse, refusal?: VaultError) => {
    const exchange = beginExchange(incoming, outgoing, vault.config.trustedProxies, dialectOf(incoming.url));
    const startedMs = vault.clock.monotonicMs();
    let leave: (() => void) | undefined;
    metrics.begin();
    outgoing.on('close', () => {
      release(exchange);
      leave?.();
      const ms = vault.clock.monotonicMs() - startedMs;
      const method = knownMethod(incoming.method);
      metrics.end(method, exchange.route, outgoing.statusCode, ms / 1000);
      const unheard = countUnheard(vault, exchange);
      sources.count(exchange.source, isStranger(outgoing.statusCode, unheard, exchange.code));
      logRequest(vault, exchange, method, ms);
    });
    try {
      if (refusal) throw refusal;
      sources.check(exchange.source);
      leave = enter(incoming, exchange.source);
      for (const check of CHECKS) check(incoming, vault.config, exchange.dialect);
      refuseWhileSealed(vault, incoming, exchange.dialect);
    } catch (error) {
      void sendProblem(vault, error, exchange);
      return;
    }
    const cut = (error: unknown) => {
      vault.log.error({ request: exchange.requestId, error: recordOf(error) }, 'an answer could not be sent');
      outgoing.destroy();
    };
    if (exchange.dialect) {
      answerDialect(vault, exchange.dialect, exchange).catch(cut);
      return;
    }
    const plain = plainRouteOf(incoming);
    if (plain) {
      answerPlain(vault, plain, exchange).catch(cut);
      return;
    }
    setCommonHeaders(exchange);
    exchanges.set(incoming, exchange);
    route(incoming, outgoing).catch(cut);
  };
  return {
    ...{ router, handle, methodsOf, registry, tls },
    bodyBytesMax: (target) => dialectOf(target)?.bodyBytesMax ?? LIMITS.bodyBytesMax,
    countUnread: (source, code) => countUnread(vault, source, code),
    connections: metrics.connections,
  };
}

/** Refused, with no token of ours behind it; a guess at a password counts though it is in the log. */
function isStranger(status: number, unheard: boolean, code: ErrorCode | undefined): boolean {
  return status >= 400 && status < 500 && status !== 429 && (unheard || code === 'login_failed');
}

const METHODS = ['GET', 'PUT', 'POST', 'PATCH', 'DELETE'] as const;

function allowedMethods(router: Hono<HttpEnv>, path: string): string[] {
  const methods: string[] = METHODS.filter((method) => router.router.match(method, path)[0].length > 0);
  return methods.includes('GET') ? ['HEAD', ...methods] : methods;
}

/** The adapter could not make a request of it, for a reason that our checks let through. */
function unreadable(vault: Vault, error: unknown): VaultError {
  vault.log.warn({ error: recordOf(error) }, 'a request could not be read');
  return new VaultError('invalid_request', 'the target or the Host of the request cannot be read');
}

/** A path that answers other methods, or none. */
function unrouted(path: string, methodsOf: App['methodsOf']): VaultError {
  const allow = methodsOf(path);
  return allow.length === 0 ? noSuchRoute() : methodNotAllowed(allow);
}

/** The problem that an error becomes, written down in the log line and, where it is a fault, on its own. */
async function conclude(vault: Vault, thrown: unknown, exchange: Exchange): Promise<Problem> {
  const error = asVaultError(thrown);
  exchange.code = error.code;
  if (isFault(error)) {
    const { requestId, route } = exchange;
    vault.log.error({ request: requestId, route, code: error.code, error: recordOf(thrown) }, 'a request failed');
  }
  await recordUnheard(vault, exchange, error.code, knownMethod(exchange.incoming.method));
  if (exchange.dialect) return exchange.dialect.errorAnswer(error, statusOf(error.code));
  const problem = problemOf(error, exchange.requestId);
  const allow = error.code === 'method_not_allowed' ? error.details?.allow : undefined;
  return Array.isArray(allow) ? { ...problem, headers: { ...problem.headers, Allow: allow.join(', ') } } : problem;
}

async function responseOf(vault: Vault, thrown: unknown, exchange: Exchange): Promise<Response> {
  const problem = await conclude(vault, thrown, exchange);
  if (!exchange.outgoing.headersSent) return toResponse(problem);
  // Something has been sent already: the only honest end is a cut.
  exchange.outgoing.destroy();
  return RESPONSE_ALREADY_SENT;
}

function toResponse({ status, headers, body }: Problem): Response {
  return new Response(body, { status, headers });
}

async function answerPlain(vault: Vault, route: PlainRoute, exchange: Exchange): Promise<void> {
  let answer: PlainAnswer;
  try {
    answer = await route.answer(vault, exchange, exchange.incoming.url!.slice(route.prefix.length));
  } catch (error) {
    await sendProblem(vault, error, exchange);
    return;
  }
  sendPlain(exchange, answer);
}

async function answerDialect(vault: Vault, dialect: Dialect, exchange: Exchange): Promise<void> {
  let answer: WireAnswer;
  try {
    answer = await dialect.serve(exchange);
  } catch (error) {
    await sendProblem(vault, error, exchange);
    return;
  }
  send(exchange, answer);
}

/** For requests that never reach the router. */
async function sendProblem(vault: Vault, thrown: unknown, exchange: Exchange): Promise<void> {
  send(exchange, await conclude(vault, thrown, exchange));
}

function send(exchange: Exchange, { status, headers, body }: WireAnswer): void {
  const { outgoing } = exchange;
  // The client has gone meanwhile.
  if (outgoing.destroyed) return;
  const all = commonHeaders(exchange);
  for (const name in headers) all.push(name, headers[name]!);
  if (status !== 204) all.push('Content-Length', String(Buffer.byteLength(body)));
  outgoing.writeHead(status, all);
  outgoing.end(body);
}

const KNOWN_METHODS = new Set(['GET', 'HEAD', 'PUT', 'POST', 'PATCH', 'DELETE', 'OPTIONS', 'LIST']);

function knownMethod(method: string | undefined): string {
  return method !== undefined && KNOWN_METHODS.has(method) ? method : 'other';
}

/** Whether an answer with this status comes after the token was checked: only then is its tenant more than a claim. */
function isBelieved(status: number): boolean {
  return status < 400 || status === 403 || status === 404 || status === 409 || status === 412;
}

function logRequest(vault: Vault, exchange: Exchange, method: string, ms: number): void {
  const { outgoing, requestId, route, source, tenant, code } = exchange;
  const status = outgoing.statusCode;
  // Who read what is the audit log's to say; this line is for whoever looks for a fault.
  const level = status >= 500 ? 'info' : 'debug';
  if (!vault.log.isLevelEnabled(level)) return;
  const line = {
    request: requestId,
    method,
    route,
    status,
    ms: Math.round(ms * 10) / 10,
    source,
    ...(tenant !== undefined && isBelieved(status) ? { tenant } : {}),
    ...(code === undefined ? {} : { code }),
    ...(outgoing.writableFinished ? {} : { cut: true }),
  };
  vault.log[level](line, 'request');
}
