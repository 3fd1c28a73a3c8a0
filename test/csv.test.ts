/** The log as a table: RFC 4180, and nothing that a spreadsheet would run. */
import { describe, expect, it } from 'vitest';
import { csvHeader, csvRow } from '../src/audit/csv.ts';

const line = (members: object) =>
  JSON.stringify({
    action: 'secret.read',
    actor: { kind: 'user', name: 'app' },
    outcome: 'ok',
    seq: 7,
    time: 't',
    ...members,
  });

/** RFC 4180 §2, written plainly. */
function parseRow(row: string): string[] {
  expect(row.endsWith('\r\n')).toBe(true);
  const cells: string[] = [];
  for (const [, quoted, plain] of row.slice(0, -2).matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^",]*))/g)) {
    cells.push(quoted === undefined ? plain! : quoted.replaceAll('""', '"'));
  }
  return cells;
}

describe('csv', () => {
  it('has one cell a column, in the order of the header, absent ones empty', () => {
    const columns = csvHeader().trimEnd().split(',');
    const cells = parseRow(csvRow(line({ version: 3, details: { b: 'x, "y"', a: 1 }, source: '10.0.0.7' })));
    const row = Object.fromEntries(columns.map((column, i) => [column, cells[i]]));
    expect(cells).toHaveLength(columns.length);
    expect(row).toMatchObject({
      seq: '7',
      version: '3',
      actor_kind: 'user',
      actor_name: 'app',
      actor_id: '',
      lease: '',
    });
    expect(JSON.parse(row.details!)).toEqual({ a: 1, b: 'x, "y"' });
  });

  it('T-156 a name that would be a formula, another cell or another row stays a text', () => {
    const hostile = ['=1+1', '+1', '-1', '@SUM(A1)', '\t=1', '\r=1', '＝1', '=HYPERLINK("http://x","y")'];
    for (const name of hostile) {
      const [, , , , , , , shown] = parseRow(csvRow(line({ actor: { kind: 'user', name } })));
      expect(shown).toBe(`'${name}`);
    }
    for (const name of ['a,b', 'a"b', 'a\r\nb', '"', ',']) {
      const cells = parseRow(csvRow(line({ actor: { kind: 'user', name } })));
      expect([cells.length, cells[7]]).toEqual([17, name]);
    }
  });
});
