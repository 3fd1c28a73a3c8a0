/**
 * The second reference: the same adapter, and for a read one SELECT of the same row with its envelope, for a write one
 * durable INSERT; but no token, no decision, no cryptography and no entry. `unaudited.js <tenant> <answer>`,
 * and the database as JSON in the environment's DATABASE.
 */
import { serve } from '@hono/node-server';
import { Hono } from 'hono';
import postgres from 'postgres';

const [tenant = '', body = '{}'] = process.argv.slice(2);
const session = { search_path: 'bulla', 'bulla.tenants': `,${tenant},`, plan_cache_mode: 'force_generic_plan' };
const options = { max: 8, onnotice: () => undefined, connection: session as Record<string, string> };
const sql = postgres({ ...JSON.parse(process.env.DATABASE ?? '{}'), ...options });
const app = new Hono();
app.get('/api/v1/secrets/:path{.+}', async (c) => {
  const [row] = await sql`
    SELECT v.version, v.kind, v.envelope, v.created_at FROM secrets s JOIN secret_versions v
      ON v.tenant_id = s.tenant_id AND v.secret_id = s.secret_id AND v.version = s.current_version
    WHERE s.tenant_id = ${tenant} AND s.path = ${c.req.param('path')}`;
  if (!row) return c.text('', 404);
  return c.body(body, 200, {
    'content-type': 'application/json',
    etag: `"${row.version}"`,
    'cache-control': 'no-store',
  });
});
await sql`CREATE TABLE IF NOT EXISTS bench_writes (path text, at timestamptz DEFAULT now(), body bytea)`;
app.put('/api/v1/secrets/:path{.+}', async (c) => {
  const sent = Buffer.from(await c.req.arrayBuffer());
  await sql`INSERT INTO bench_writes (path, body) VALUES (${c.req.param('path')}, ${sent})`;
  return c.body('{}', 201, { 'content-type': 'application/json' });
});
const server = serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' }, ({ port }) =>
  process.stdout.write(`${port}\n`),
);
process.on('SIGTERM', () => {
  server.close();
  void sql.end({ timeout: 1 });
});
