/**
 * Reading the log back: its lines, filtered, and the leaf hashes that prove them. Streams in bounded chunks; memory
 * does not grow with the log.
 *
 * An export shows the log as it was when it was permitted: `size` entries, not the one that records the export itself.
 */
import { type TenantId, type Timestamp, type Tx, transaction } from '../db/database.ts';
import { isNotText } from '../db/sql-error.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import { compileGlob, covers, resourceOf } from '../policy/glob.ts';
import type { Vault } from '../vault.ts';
import type { Outcome } from './entry.ts';
import { type DeletedLog, permitLog } from './log.ts';
import { readExtent, rootAt } from './tree.ts';

export type ExportFilter = {
  readonly from?: Timestamp | undefined;
  readonly to?: Timestamp | undefined;
  readonly fromIndex?: number | undefined;
  /** Exclusive. */
  readonly toIndex?: number | undefined;
  /** Name or id. */
  readonly actor?: string | undefined;
  readonly action?: string | undefined;
  /** A glob as in policies, such as `secret:prod/**`. */
  readonly resource?: string | undefined;
  readonly outcome?: Outcome | undefined;
  readonly request?: string | undefined;
  readonly limit?: number | undefined;
};

/** `lines` yields text of whole lines, each ended by a line feed, in order. */
export type Export = { readonly size: number; readonly origin: string; readonly lines: AsyncIterable<string> };

export const CHUNK_ENTRIES = 10_000;

/** The lines of a log, the caller's own unless `log` names another. Filters are recorded; what they name is not a secret. */
export async function exportEntries(vault: Vault, call: Call, filter: ExportFilter, log?: DeletedLog): Promise<Export> {
  const matches = matcherOf(filter);
  const { tenant, size } = await permitExport(vault, call, log, { export: 'entries', ...detailsOf(filter) });
  return { size, origin: `${vault.deploymentId}/${tenant}`, lines: readLines(vault, tenant, size, filter, matches) };
}

/** What the entry of an export says of its filter. */
export function detailsOf(filter: ExportFilter): Record<string, string | number> {
  return Object.fromEntries(
    Object.entries(filter).filter((member): member is [string, string | number] => member[1] !== undefined),
  );
}

export async function permitExport(
  vault: Vault,
  call: Call,
  log: DeletedLog,
  details: Record<string, string | number>,
): Promise<{ tenant: TenantId; size: number }> {
  return permitLog(vault, call, log, async (tx, tenant) => {
    const [head] = await tx<{ size: number }[]>`
      SELECT size FROM audit_heads WHERE tenant_id = ${tenant}`;
    return { value: { tenant, ...head! }, details };
  });
}

export type Matcher = ((line: string) => boolean) | undefined;

export async function* readLines(
  vault: Vault,
  tenant: TenantId,
  size: number,
  filter: ExportFilter,
  matches: Matcher,
): AsyncGenerator<string> {
  const from = filter.fromIndex ?? 0;
  const { start, end } = await stretchOf(vault, tenant, size, filter);
  let left = filter.limit ?? Number.POSITIVE_INFINITY;
  for (let at = start; at < end && left > 0; at += CHUNK_ENTRIES) {
    const enough = matches ? end : Math.max(at, from) + left;
    const rows = await segments(vault, tenant, at, Math.min(end, enough, at + CHUNK_ENTRIES), filter);
    let chosen = '';
    for (const { firstSeq, count, lines: text } of rows) {
      if (left <= 0) break;
      const whole = !matches && firstSeq >= from && firstSeq + count <= end && count <= left;
      const taken = whole ? text : choose(text, firstSeq, from, end, left, matches);
      left -= whole ? count : countLines(taken);
      chosen += taken;
      if (chosen.length < PIECE_CHARS) continue;
      yield chosen;
      chosen = '';
    }
    // Nothing found is said too, so that whoever waits is answered, and one who has gone is not searched for.
    yield chosen;
  }
}

/** Pieces of about this length leave: not one for each of many small segments, nor so much that it holds others up. */
const PIECE_CHARS = 65_536;

function choose(text: string, firstSeq: number, from: number, end: number, left: number, matches: Matcher): string {
  let chosen = '';
  let taken = 0;
  text.split('\n').forEach((line, i) => {
    const seq = firstSeq + i;
    if (line === '' || seq < from || seq >= end || taken >= left || (matches && !matches(line))) return;
    chosen += `${line}\n`;
    taken += 1;
  });
  return chosen;
}

function countLines(text: string): number {
  let count = 0;
  for (let at = text.indexOf('\n'); at !== -1; at = text.indexOf('\n', at + 1)) count += 1;
  return count;
}

/**
 * The part of the log that a filter's indexes and times can be in: the start of a segment, and an end. Times never go
 * back along a log, so both are found by an index.
 */
export async function stretchOf(
  vault: Vault,
  tenant: TenantId,
  size: number,
  { from, to, fromIndex = 0, toIndex = size }: ExportFilter,
): Promise<{ start: number; end: number }> {
  const [first, last] = await transaction(vault.db, [tenant], (tx) =>
    Promise.all(
      [from, to].map(async (time, i) => {
        if (time === undefined) return undefined;
        const [row] = await tx<{ seq: number; end: number }[]>`
          SELECT first_seq AS seq, first_seq + count AS end FROM audit_segments WHERE tenant_id = ${tenant}
            AND ${i === 0 ? tx`last_time >= ${time}` : tx`last_time > ${time}`}
          ORDER BY last_time, first_seq LIMIT 1`;
        return row ?? { seq: size, end: size };
      }),
    ),
  );
  // The segment that ends after `to` may begin before it.
  const end = Math.min(size, toIndex, last?.end ?? size);
  const start = Math.max(await firstSegment(vault, tenant, fromIndex), first?.seq ?? 0);
  return { start, end };
}

/** Where the segment that holds an index starts. */
export async function firstSegment(vault: Vault, tenant: TenantId, index: number): Promise<number> {
  const [row] = await transaction(
    vault.db,
    [tenant],
    (tx) => tx<{ firstSeq: number }[]>`
      SELECT coalesce(
        (SELECT first_seq FROM audit_segments WHERE tenant_id = ${tenant} AND first_seq <= ${index}
         ORDER BY first_seq DESC LIMIT 1),
        (SELECT min(first_seq) FROM audit_segments WHERE tenant_id = ${tenant}), 0) AS "firstSeq"`,
  );
  return row?.firstSeq ?? 0;
}

type Segment = { firstSeq: number; count: number; lines: string };

/** The segments that start from `from` to before `end`, in order, without those that cannot hold what the filter wants. */
export async function segments(
  vault: Vault,
  tenant: TenantId,
  from: number,
  end: number,
  filter: ExportFilter,
): Promise<Segment[]> {
  const read = <L>(lines: (tx: Tx) => ReturnType<Tx>) =>
    transaction(vault.db, [tenant], async (tx) => [
      ...(await tx<{ firstSeq: number; count: number; lines: L }[]>`
        SELECT first_seq AS "firstSeq", count, ${lines(tx)} AS lines FROM audit_segments
        WHERE tenant_id = ${tenant} AND first_seq >= ${from} AND first_seq < ${end}
          ${filter.from === undefined ? tx`` : tx`AND last_time >= ${filter.from}`}
          ${filter.to === undefined ? tx`` : tx`AND first_time <= ${filter.to}`}
          ${needlesOf(filter).reduce((before, any) => tx`${before} AND ${holdsOne(tx, any)}`, tx``)}
        ORDER BY first_seq`),
    ]);
  try {
    // As text they cross in half the bytes.
    return await read<string>((tx) => tx`convert_from(lines, 'UTF8')`);
  } catch (error) {
    // Bytes that are no text were not written by us: they are shown as what they are, and fail to verify.
    if (!isNotText(error)) throw error;
    const rows = await read<Buffer>((tx) => tx`lines`);
    return rows.map((row) => ({ ...row, lines: row.lines.toString('utf8') }));
  }
}

const holdsOne = (tx: Tx, needles: readonly string[]) => tx`EXISTS (
  SELECT FROM unnest(${[...needles]}::text[]) needle WHERE position(convert_to(needle, 'UTF8') IN lines) > 0)`;

type Parsed = {
  readonly actor: { readonly id?: string; readonly name?: string };
  readonly action: string;
  readonly outcome: string;
  readonly request: string;
  readonly resource?: string;
  readonly time: string;
};

/**
 * What stands in every line that a filter wants, one of each: most lines, and segments, are told apart by these without
 * being parsed.
 */
function needlesOf({ actor, action, resource, outcome, request }: ExportFilter): string[][] {
  const members = Object.entries({ action, outcome, request }).flatMap(([name, value]) =>
    value === undefined ? [] : [[`"${name}":${JSON.stringify(value)}`]],
  );
  // A resource up to its first star, and with its end where it has none.
  const start = resource?.split('*', 1)[0];
  const named =
    start === undefined ? [] : [[`"resource":${JSON.stringify(start).slice(0, start === resource ? undefined : -1)}`]];
  return [
    ...members,
    ...named,
    ...(actor === undefined ? [] : [[`"name":${JSON.stringify(actor)}`, `"id":${JSON.stringify(actor)}`]]),
  ];
}

/** Undefined when every line of the index range is wanted. Throws `invalid_request` for a glob that is none. */
export function matcherOf(filter: ExportFilter): Matcher {
  const { from, to, actor, action, resource, outcome, request } = filter;
  if ([from, to, actor, action, resource, outcome, request].every((field) => field === undefined)) return undefined;
  const glob = resource === undefined ? undefined : compileGlob(resource);
  if (typeof glob === 'string') throw new VaultError('invalid_request', `resource: the pattern ${glob}.`);
  const needles = needlesOf(filter);
  return (line) => {
    if (!needles.every((any) => any.some((needle) => line.includes(needle)))) return false;
    const entry = JSON.parse(line) as Parsed;
    return (
      (from === undefined || entry.time >= from) &&
      (to === undefined || entry.time <= to) &&
      (actor === undefined || entry.actor.id === actor || entry.actor.name === actor) &&
      (action === undefined || entry.action === action) &&
      (outcome === undefined || entry.outcome === outcome) &&
      (request === undefined || entry.request === request) &&
      (glob === undefined || (entry.resource !== undefined && covers(glob, resourceOf(entry.resource))))
    );
  };
}

/**
 * The tree of a log at a size (today's when absent) as text: what verifies an export offline.
 *
 *     bulla-tree-v1 ␊ origin ␊ size ␊ root in base64 ␊ ␊ then one leaf hash in base64 a line
 */
export async function exportTree(
  vault: Vault,
  call: Call,
  size?: number,
  log?: DeletedLog,
): Promise<AsyncIterable<string>> {
  const details = { export: 'tree', ...(size === undefined ? {} : { size }) };
  const { tenant, size: whole } = await permitExport(vault, call, log, details);
  const wanted = size ?? whole;
  if (wanted > whole) {
    throw new VaultError('invalid_request', `size: the log has ${whole} entries, not ${wanted}.`);
  }
  const root = await transaction(vault.db, [tenant], async (tx) =>
    rootAt(tx, tenant, await readExtent(tx, tenant), wanted),
  );
  return treeText(vault, tenant, wanted, root);
}

async function* treeText(vault: Vault, tenant: TenantId, size: number, root: Uint8Array): AsyncGenerator<string> {
  yield `bulla-tree-v1\n${vault.deploymentId}/${tenant}\n${size}\n${Buffer.from(root).toString('base64')}\n\n`;
  for await (const hashes of leafHashes(vault, tenant, size)) {
    let text = '';
    for (let at = 0; at < hashes.length; at += 32) text += `${hashes.toString('base64', at, at + 32)}\n`;
    yield text;
  }
}

/** The leaf hashes before `size`, in order, a chunk at a time. */
async function* leafHashes(vault: Vault, tenant: TenantId, size: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < size; at += CHUNK_ENTRIES) {
    const end = Math.min(size, at + CHUNK_ENTRIES);
    const rows = await transaction(
      vault.db,
      [tenant],
      (tx) => tx<{ firstSeq: number; hashes: Buffer }[]>`
        SELECT first_seq AS "firstSeq", hashes FROM audit_leaves
        WHERE tenant_id = ${tenant} AND first_seq >= ${at} AND first_seq < ${end} ORDER BY first_seq`,
    );
    for (const { firstSeq, hashes } of rows) yield hashes.subarray(0, Math.max(0, size - firstSeq) * 32);
  }
}
