/**
 * Audit entries as RFC 4180 rows, for people with a spreadsheet.
 *
 * Every text is quoted, lines end with CR LF, and a text that a spreadsheet would take for a formula gets an apostrophe
 * in front, because names of users and secrets are chosen by others. The rows prove nothing: proofs are over the
 * canonical lines, which only the NDJSON form holds.
 */

const COLUMNS = [
  'seq',
  'time',
  'outcome',
  'action',
  'resource',
  'version',
  'actor_kind',
  'actor_name',
  'actor_id',
  'method',
  'accessor',
  'source',
  'request',
  'protocol',
  'code',
  'lease',
  'details',
] as const;

type Cell = string | number | undefined;
type Row = Readonly<Record<(typeof COLUMNS)[number], Cell>>;

/** What an entry's line holds; see entry.ts. */
type Line = Readonly<Partial<Record<string, Cell>>> & {
  readonly actor: Readonly<Partial<Record<string, string>>>;
  readonly details?: Readonly<Record<string, unknown>>;
};

/** The first row, with its line end. */
export function csvHeader(): string {
  return `${COLUMNS.join(',')}\r\n`;
}

/** One row, with its line end. `line` is a canonical line of the log. */
export function csvRow(line: string): string {
  const { actor, details, ...rest } = JSON.parse(line) as Line;
  const row: Row = {
    seq: rest.seq,
    time: rest.time,
    outcome: rest.outcome,
    action: rest.action,
    resource: rest.resource,
    version: rest.version,
    actor_kind: actor.kind,
    actor_name: actor.name,
    actor_id: actor.id,
    method: actor.method,
    accessor: actor.accessor,
    source: rest.source,
    request: rest.request,
    protocol: rest.protocol,
    code: rest.code,
    lease: rest.lease,
    details: details === undefined ? undefined : JSON.stringify(details),
  };
  return `${COLUMNS.map((column) => cell(row[column])).join(',')}\r\n`;
}

/** What Excel, LibreOffice and Google Sheets may take for the start of a formula. */
const FORMULA = /^[=+\-@\t\r＝＋－＠]/;

function cell(value: Cell): string {
  if (value === undefined) return '';
  if (typeof value === 'number') return String(value);
  const safe = FORMULA.test(value) ? `'${value}` : value;
  return `"${safe.replaceAll('"', '""')}"`;
}
