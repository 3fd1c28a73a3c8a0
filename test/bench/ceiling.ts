/** The ceiling: a bare Hono route on the same adapter that parses a bearer token and answers the same bytes. */
import { serve } from '@hono/node-server';
import { Hono } from 'hono';

const body = process.argv[2] ?? '{}';
const app = new Hono();
app.get('/api/v1/secrets/:path{.+}', (c) => {
  const token = /^Bearer (bulla_[a-z0-9_]+\.[A-Za-z0-9_-]+)$/.exec(c.req.header('authorization') ?? '')?.[1];
  if (token === undefined) return c.text('', 401);
  return c.body(body, 200, { 'content-type': 'application/json', etag: '"1"', 'cache-control': 'no-store' });
});
const server = serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' }, ({ port }) =>
  process.stdout.write(`${port}\n`),
);
process.on('SIGTERM', () => server.close());
