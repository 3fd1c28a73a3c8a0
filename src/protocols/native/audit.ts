/** The caller's audit log: its entries, filtered, and the tree that proves them. Streamed. */
import { z } from '@hono/zod-openapi';
import { csvHeader, csvRow } from '../../audit/csv.ts';
import { exportEntries, exportTree } from '../../audit/export.ts';
import { exportProven } from '../../audit/export-proof.ts';
import { ocsfEvent } from '../../audit/ocsf.ts';
import { tailEntries } from '../../audit/tail.ts';
import { VaultError } from '../../errors.ts';
import { endpoint } from './endpoint.ts';
import { deletedLog, instant, wholeNumber } from './schema.ts';

const index = wholeNumber(0, Number.MAX_SAFE_INTEGER);
const filterText = z.string().min(1).max(1024);

const LINE =
  '{"action":"secret.read","actor":{"accessor":"k3v2m5qy7dzr4abc","id":"p7q2xk4mz3nb5cde","kind":"user",' +
  '"method":"password","name":"app"},"outcome":"ok","protocol":"native","request":"3f0c2b1e","resource":' +
  '"secret:prod/web/db","salt":"q1w2e3r4t5y6u7i8o9p0aA","seq":7,"source":"10.0.0.7",' +
  '"time":"2026-01-02T03:04:05.678901Z","v":1,"version":3}\n';

export const entries = endpoint(
  {
    method: 'get',
    path: '/audit/entries',
    id: 'exportEntries',
    tag: 'audit',
    summary: 'Export audit entries',
    description:
      'As ndjson, exactly the canonical lines whose hashes are the leaves of the tree, in order. The whole log when ' +
      'nothing limits it. An answer that breaks off was not whole.',
    query: z.strictObject({
      from: instant.optional(),
      to: instant.optional(),
      from_index: index.optional().openapi({ description: 'To resume: the number after the last one seen.' }),
      to_index: index.optional().openapi({ description: 'Exclusive.' }),
      actor: filterText.optional().openapi({ description: 'Name or id.' }),
      action: filterText.optional().openapi({ example: 'secret.read' }),
      resource: filterText.optional().openapi({ description: 'A glob, as in policies.', example: 'secret:prod/**' }),
      outcome: z.enum(['ok', 'denied', 'error']).optional(),
      request: filterText.optional(),
      format: z.enum(['ndjson', 'csv', 'ocsf']).optional().openapi({
        description: 'ocsf: one event of OCSF 1.3.0 a line, for SIEMs.',
      }),
      limit: wholeNumber(1, Number.MAX_SAFE_INTEGER).optional(),
      proof: z.enum(['true', 'false']).optional().openapi({
        description: 'With the hashes that prove each entry, up to the newest checkpoint; ndjson only.',
      }),
      extending: index
        .optional()
        .openapi({ description: 'With proof: the size of an older checkpoint to connect to.' }),
      log: deletedLog,
    }),
    answers: {
      200: {
        about: 'One entry a line.',
        contentType: 'application/x-ndjson',
        schema: z.string(),
        example: LINE,
        also: { 'text/csv': csvHeader() + csvRow(LINE) },
      },
    },
    errors: ['not_found'],
  },
  async ({ vault, call, exchange, host, query }) => {
    const { format, proof, extending, log, from_index: fromIndex, to_index: toIndex, ...rest } = query;
    const filter = { ...rest, fromIndex, toIndex };
    if (proof === 'true') {
      if (format !== undefined && format !== 'ndjson') {
        throw new VaultError('invalid_request', 'proof: only ndjson can be proven; leave format out.');
      }
      const { lines } = await exportProven(vault, call, filter, extending, log);
      return host.stream(exchange, 'application/x-ndjson', lines);
    }
    const { lines } = await exportEntries(vault, call, filter, log);
    if (format === 'ocsf') return host.stream(exchange, 'application/x-ndjson', eachLine(lines, ocsfEvent));
    if (format === 'csv') return host.stream(exchange, 'text/csv; charset=utf-8; header=present', csv(lines));
    return host.stream(exchange, 'application/x-ndjson', lines);
  },
);

async function* csv(lines: AsyncIterable<string>): AsyncGenerator<string> {
  yield csvHeader();
  yield* eachLine(lines, csvRow);
}

async function* eachLine(lines: AsyncIterable<string>, shape: (line: string) => string): AsyncGenerator<string> {
  for await (const text of lines) {
    let shaped = '';
    for (const line of text.split('\n')) if (line !== '') shaped += shape(line);
    yield shaped;
  }
}

export const tail = endpoint(
  {
    method: 'get',
    path: '/audit/tail',
    id: 'tailEntries',
    tag: 'audit',
    summary: 'Follow the log live',
    description:
      'Server-sent events: `id` is the number of the entry, `data` its canonical line. It ends when the token does. ' +
      'To resume, give the number after the last one seen.',
    query: z.strictObject({ from_index: index.optional() }),
    answers: {
      200: {
        about: 'Entries as they are written.',
        contentType: 'text/event-stream',
        schema: z.string(),
        example: `id: 7\ndata: ${LINE}\n`,
      },
    },
    errors: [],
  },
  async ({ vault, call, exchange, host, query }) =>
    host.stream(exchange, 'text/event-stream', await tailEntries(vault, call, query.from_index)),
);

export const tree = endpoint(
  {
    method: 'get',
    path: '/audit/tree',
    id: 'exportTree',
    tag: 'audit',
    summary: 'Export the leaf hashes and the root that prove an export',
    query: z.strictObject({
      size: index.optional().openapi({ description: 'Of the log; today’s when absent.' }),
      log: deletedLog,
    }),
    answers: {
      200: {
        about: 'bulla-tree-v1: origin, size, root, an empty line, then one leaf hash a line.',
        contentType: 'text/plain',
        schema: z.string(),
        example:
          'bulla-tree-v1\nabcdefghij234567/m3x7kq2zp5nb4cde\n1\nX5i9Vq0eJ8r1lq3r7cJX0m1wq0yC1oHq0m4Uo2b9bFs=\n\n' +
          'X5i9Vq0eJ8r1lq3r7cJX0m1wq0yC1oHq0m4Uo2b9bFs=\n',
      },
    },
    errors: [],
  },
  async ({ vault, call, exchange, host, query }) =>
    host.stream(exchange, 'text/plain; charset=utf-8', await exportTree(vault, call, query.size, query.log)),
);
