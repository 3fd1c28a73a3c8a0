/** How values cross: arrays both ways, and rows in PostgreSQL's binary form, read in place, as every other statement gives them. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { transaction } from '../src/db/database.ts';
import { drop, openLane } from '../src/db/lane.ts';
import { bytea, int4, nextRow, packed, text, timestamptz } from '../src/db/packed.ts';
import { type TestVault, testVault } from './harness.ts';

let t: TestVault;
beforeAll(async () => {
  t = await testVault();
});
afterAll(() => t.close());

it('every type, null, empty and at its ends, row by row as text gives them', async () => {
  await transaction(t.vault.db, [], async (tx) => {
    const values = tx`(VALUES
      (1, 7, 'text', '\\x00ff'::bytea, '2026-01-02 03:04:05.678901+00'::timestamptz),
      (2, NULL, NULL, NULL, NULL),
      (3, -2147483648, '', ''::bytea, '1999-12-31 23:59:59.999999+00'),
      (4, 2147483647, 'ü🗝', '\\x7b7d', '2000-01-01 00:00:00+00'),
      (5, 0, 'a', '\\x', '9999-12-31 23:59:59.000001+00')) v (n, i, t, b, at)`;
    const plain = await tx`SELECT n, i, t, b, at FROM ${values} ORDER BY n`;
    const [row] = await tx<{ packed: Uint8Array }[]>`
      SELECT string_agg(record_send(ROW(n, i, t, b, at)), '' ORDER BY n) AS packed FROM ${values}`;
    const from = packed(row!.packed);
    const rows = [];
    while (nextRow(from, 5)) {
      rows.push({ n: int4(from), i: int4(from), t: text(from), b: bytea(from), at: timestamptz(from) });
    }
    expect(rows).toHaveLength(5);
    expect(rows).toEqual([...plain]);
  });
});

it('no rows are none, and another type than was asked for is refused', async () => {
  expect(nextRow(packed(null), 1)).toBe(false);
  await transaction(t.vault.db, [], async (tx) => {
    const [row] = await tx<{ packed: Uint8Array }[]>`SELECT record_send(ROW(1)) AS packed`;
    expect(() => nextRow(packed(row!.packed), 2)).toThrow();
    const from = packed(row!.packed);
    nextRow(from, 1);
    expect(() => text(from)).toThrow();
  });
});

it('arrays cross unchanged, whatever is in them', async () => {
  const texts = [
    '',
    ' ',
    'NULL',
    'null',
    null,
    '"',
    '\\',
    '\\"',
    '{}',
    '{a,b}',
    'a,b',
    "it's",
    '🗝\n',
    '\\x00',
    '[1:2]={1,2}',
  ];
  const bytes = [Buffer.alloc(0), Buffer.from([0, 255, 34, 92]), null];
  const at = '2026-01-02T03:04:05.678901Z';
  await transaction(t.vault.db, [], async (tx) => {
    const [row] = await tx`
      SELECT ${texts}::text[] AS texts, ${[]}::text[] AS none, ${[1, -2_147_483_648, null]}::int[] AS integers,
             ${[2 ** 53 - 1, null]}::bigint[] AS bigints, ${[7]}::smallint[] AS smallints,
             ARRAY[true, NULL, false] AS booleans, ARRAY[''::bytea, '\\x00ff225c', NULL] AS bytes,
             ARRAY[${at}::timestamptz, NULL] AS times, ARRAY['8a56f9a0-0c27-4c86-9d5e-0a8c1f6d3b11'::uuid] AS uuids`;
    expect(row).toEqual({
      texts,
      none: [],
      integers: [1, -2_147_483_648, null],
      bigints: [2 ** 53 - 1, null],
      smallints: [7],
      booleans: [true, null, false],
      bytes,
      times: [at, null],
      uuids: ['8a56f9a0-0c27-4c86-9d5e-0a8c1f6d3b11'],
    });
    const [length] = await tx`SELECT cardinality(${texts}::text[]) AS length`;
    expect(length).toEqual({ length: texts.length });
  });
});

it('a connection asks nothing of its own first: what breaks it then is told to nobody, and ends the process', async () => {
  // The least of deadlines ends any statement that is not ours; ours lifts it.
  for (let round = 0; round < 20; round++) {
    const lane = openLane({ ...t.vault.db.options, deadlineMs: 1 });
    await expect(lane.sql`SELECT pg_sleep(1)`).rejects.toThrow();
    drop(lane);
  }
});
