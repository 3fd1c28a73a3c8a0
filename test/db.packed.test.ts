/** Rows in PostgreSQL's binary form, read in place: the same values as every other statement gives. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { transaction } from '../src/db/database.ts';
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
