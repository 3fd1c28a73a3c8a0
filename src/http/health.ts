/**
 * The routes outside /api: for probes, for Prometheus, and the description of the interface.
 *
 * Nothing here tells a stranger which version runs, which tenants exist or why the database is away. Metrics are for a
 * loopback peer, unless a proxy makes everybody one, or for who shows BULLA_METRICS_TOKEN.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createRoute, type OpenAPIHono, z } from '@hono/zod-openapi';
import type { Hono } from 'hono';
import { Registry } from 'prom-client';
import { VaultError } from '../errors.ts';
import { errorAnswers } from '../protocols/native/openapi.ts';
import type { Exchange, HttpEnv } from '../protocols/protocol.ts';
import { assertReady } from '../tenant/ready.ts';
import type { Vault } from '../vault.ts';
import { statusOf } from './error.ts';
import { isLoopback } from './source.ts';

export function mountHealth(
  router: Hono<HttpEnv>,
  vault: Vault,
  scrape: () => Promise<string>,
  document: () => object,
): void {
  const ready = throttled(vault, () => assertReady(vault));
  const openapiJson = once(() => JSON.stringify(document()));
  const openapiYaml = once(() => readFile(new URL('../../openapi.yaml', import.meta.url), 'utf8'));

  router.get('/healthz', (c) => answer(c.env, '/healthz', JSON_TYPE, '{"status":"ok"}'));

  router.get('/readyz', async (c) => {
    c.env.route = '/readyz';
    await ready();
    return answer(c.env, '/readyz', JSON_TYPE, '{"status":"ok"}');
  });

  router.get('/metrics', async (c) => {
    c.env.route = '/metrics';
    assertMayScrape(vault, c.env);
    return answer(c.env, '/metrics', Registry.PROMETHEUS_CONTENT_TYPE, await scrape());
  });

  router.get('/openapi.json', (c) => answer(c.env, '/openapi.json', JSON_TYPE, openapiJson()));

  // The file at the root of the package; a test keeps it equal to the document.
  router.get('/openapi.yaml', async (c) => answer(c.env, '/openapi.yaml', 'application/yaml', await openapiYaml()));
}

const JSON_TYPE = 'application/json';

function answer(exchange: Exchange, route: string, contentType: string, body: string): Response {
  exchange.route = route;
  return new Response(body, { headers: { 'Content-Type': contentType } });
}

const READY_FOR_MS = 1000;

/** Anybody may ask, so the database is asked at most once a second. */
function throttled(vault: Vault, check: () => Promise<void>): () => Promise<void> {
  let askedAtMs = Number.NEGATIVE_INFINITY;
  let last: Promise<void> = Promise.resolve();
  return () => {
    const nowMs = vault.clock.monotonicMs();
    if (nowMs - askedAtMs >= READY_FOR_MS) {
      askedAtMs = nowMs;
      last = check();
      last.catch(() => undefined);
    }
    return last;
  };
}

function once<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
}

function assertMayScrape({ config }: Vault, { incoming, source }: Exchange): void {
  if (isLoopback(source) && !config.plainHttpBehindProxy) return;
  const shown = incoming.headers.authorization;
  if (config.metricsToken !== undefined && shown !== undefined && equal(shown, `Bearer ${config.metricsToken}`)) return;
  throw new VaultError(
    'unauthenticated',
    'Metrics are for the machine itself, or send BULLA_METRICS_TOKEN as a Bearer token.',
  );
}

/** In a time that says nothing about where they differ. */
function equal(a: string, b: string): boolean {
  const [hashA, hashB] = [a, b].map((text) => createHash('sha256').update(text).digest());
  return timingSafeEqual(hashA!, hashB!);
}

const status = z.object({ status: z.literal('ok') }).openapi('Health');
const okAnswer = (description: string) => ({
  description,
  content: { [JSON_TYPE]: { schema: status, example: { status: 'ok' } } },
});
const textAnswer = (description: string, type: string, example: string) => ({
  description,
  content: { [type]: { schema: z.string(), example } },
});

export function describeHealth(document: OpenAPIHono): void {
  const common = { method: 'get' as const, tags: ['operation'], security: [] };
  const routes = [
    createRoute({
      ...common,
      path: '/healthz',
      operationId: 'health',
      summary: 'The process is alive',
      responses: { 200: okAnswer('It is.'), ...errorAnswers(['internal'], statusOf) },
    }),
    createRoute({
      ...common,
      path: '/readyz',
      operationId: 'ready',
      summary: 'The database can be reached',
      responses: { 200: okAnswer('Requests can be served.'), ...errorAnswers(['unavailable', 'internal'], statusOf) },
    }),
    createRoute({
      ...common,
      path: '/metrics',
      operationId: 'metrics',
      summary: 'Metrics for Prometheus',
      description: 'For a loopback peer, or with BULLA_METRICS_TOKEN as a Bearer token.',
      responses: {
        200: textAnswer('Prometheus text format 0.0.4.', 'text/plain', 'bulla_http_requests_running 1\n'),
        ...errorAnswers(['unauthenticated', 'internal'], statusOf),
      },
    }),
    createRoute({
      ...common,
      path: '/openapi.json',
      operationId: 'openapiJson',
      summary: 'This document as JSON',
      responses: {
        200: {
          description: 'OpenAPI 3.1.',
          content: { [JSON_TYPE]: { schema: z.looseObject({}), example: { openapi: '3.1.0' } } },
        },
        ...errorAnswers(['internal'], statusOf),
      },
    }),
    createRoute({
      ...common,
      path: '/openapi.yaml',
      operationId: 'openapiYaml',
      summary: 'This document as YAML',
      responses: {
        200: textAnswer('OpenAPI 3.1.', 'application/yaml', 'openapi: 3.1.0\n'),
        ...errorAnswers(['internal'], statusOf),
      },
    }),
  ];
  for (const route of routes) document.openAPIRegistry.registerPath(route);
}
