/**
 * What an auditor asks of the log: who touched this, and what has nobody touched. Both read the lines of a stretch of
 * time; memory grows with the answer, not with the log. Every question is an entry itself.
 */
import { type TenantId, type Timestamp, transaction } from '../db/database.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import { permit } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import { type ExportFilter, matcherOf, readLines } from './export.ts';

const ask = { action: 'audit.read', resource: 'audit:log' } as const;

export type Did = {
  readonly actor: string;
  readonly kind: string;
  readonly ok: number;
  readonly denied: number;
  readonly error: number;
  readonly firstAt: Timestamp;
  readonly lastAt: Timestamp;
};

type Line = {
  readonly actor: { readonly kind: string; readonly id?: string; readonly name?: string };
  readonly outcome: 'ok' | 'denied' | 'error';
  readonly resource?: string;
  readonly time: Timestamp;
};

const ACTORS_MAX = 10_000;

/** Who did something to a resource (a glob), how often, and when last; the latest first. */
export async function whoDid(
  vault: Vault,
  call: Call,
  filter: Pick<ExportFilter, 'resource' | 'action' | 'from' | 'to'>,
): Promise<Did[]> {
  const details = { question: 'who_did', about: filter.resource ?? '' };
  const { tenant, size } = await permitQuestion(vault, call, details);
  const found = new Map<string, { -readonly [K in keyof Did]: Did[K] }>();
  for await (const line of parsed(vault, tenant, size, filter)) {
    const { actor, outcome, time } = line;
    const key = `${actor.kind} ${actor.id ?? ''}`;
    const did = found.get(key) ?? {
      ...{ actor: actor.name ?? actor.kind, kind: actor.kind, ok: 0, denied: 0, error: 0 },
      ...{ firstAt: time, lastAt: time },
    };
    did[outcome] += 1;
    did.lastAt = time;
    found.set(key, did);
    if (found.size > ACTORS_MAX) throw tooMany('actors');
  }
  return [...found.values()].sort((a, b) => (a.lastAt < b.lastAt ? 1 : -1));
}

export type Unread = { readonly path: string; readonly createdAt: Timestamp };

const PATHS_MAX = 100_000;
const DAY_SECONDS = 86_400;

/** Secrets that nobody has read in the last so many days, by path. */
export async function unread(vault: Vault, call: Call, days: number): Promise<Unread[]> {
  const { tenant, size } = await permitQuestion(vault, call, { question: 'unread', days });
  const { since, secrets } = await transaction(vault.db, [tenant], async (tx) => {
    const [row] = await tx<{ since: Timestamp }[]>`
      SELECT bulla.now() - make_interval(secs => ${days * DAY_SECONDS}) AS since`;
    // Read only: the table is secret/'s.
    const rows = await tx<Unread[]>`
      SELECT path, created_at AS "createdAt" FROM secrets WHERE tenant_id = ${tenant} ORDER BY path LIMIT ${PATHS_MAX + 1}`;
    return { since: row!.since, secrets: [...rows] };
  });
  if (secrets.length > PATHS_MAX) throw tooMany('secrets');
  const left = new Map(secrets.map((secret) => [`secret:${secret.path}`, secret]));
  const matches = matcherOf({ ...READS, from: since })!;
  // All lines are asked for and few are parsed: those about a secret of which no read has been seen yet.
  const lines = linesOf(readLines(vault, tenant, size, { ...READS, from: since }, undefined));
  for await (const line of lines) {
    const resource = resourceIn(line);
    if (resource !== undefined && left.has(resource) && matches(line)) left.delete(resource);
    if (left.size === 0) break;
  }
  return [...left.values()];
}

const READS = { action: 'secret.read', outcome: 'ok' } as const;
const RESOURCE = '"resource":"';

/** The last member of this name is the entry's own: after it come no details. Names of secrets have nothing to escape. */
function resourceIn(line: string): string | undefined {
  const at = line.lastIndexOf(RESOURCE);
  return at < 0 ? undefined : line.slice(at + RESOURCE.length, line.indexOf('"', at + RESOURCE.length));
}

function tooMany(what: string): VaultError {
  return new VaultError('too_large', `There are more ${what} than one answer holds: ask about a part.`);
}

async function permitQuestion(
  vault: Vault,
  call: Call,
  details: Record<string, string | number>,
): Promise<{ tenant: TenantId; size: number }> {
  return permit(vault, call, ask, async (tx, { tenant }) => {
    const [head] = await tx<{ size: number }[]>`SELECT size FROM audit_heads WHERE tenant_id = ${tenant}`;
    return { value: { tenant, size: head!.size }, notes: [{ details }] };
  });
}

async function* parsed(vault: Vault, tenant: TenantId, size: number, filter: ExportFilter): AsyncGenerator<Line> {
  const lines = linesOf(readLines(vault, tenant, size, filter, matcherOf(filter)));
  for await (const line of lines) yield JSON.parse(line) as Line;
}

async function* linesOf(pieces: AsyncIterable<string>): AsyncGenerator<string> {
  for await (const text of pieces) for (const line of text.split('\n')) if (line !== '') yield line;
}
