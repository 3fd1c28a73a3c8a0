/**
 * The ceiling: a bare Hono route on the same adapter that parses a bearer token and answers the same bytes, headers too.
 *
 *     node ceiling.js <body> <headers as JSON>
 */
import { serve } from '@hono/node-server';
import { Hono } from 'hono';

const [, , body = '{}', headers = '{}'] = process.argv;
const sameHeaders = JSON.parse(headers) as Record<string, string>;
const app = new Hono();
app.get('/api/v1/secrets/:path{.+}', (c) => {
  const token = /^Bearer (bulla_[a-z0-9_]+\.[A-Za-z0-9_-]+)$/.exec(c.req.header('authorization') ?? '')?.[1];
  if (token === undefined) return c.text('', 401);
  return c.body(body, 200, sameHeaders);
});
const server = serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' }, ({ port }) =>
  process.stdout.write(`${port}\n`),
);
process.on('SIGTERM', () => server.close());
