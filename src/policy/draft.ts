/**
 * What one member of a round reads: decided, opened, and what is to be recorded of it. Nothing of it counts, and nothing
 * leaves, before its entries are durable.
 */
import type { Entry } from '../audit/entry.ts';
import type { Tx } from '../db/database.ts';
import { VaultError } from '../errors.ts';
import type { Vault } from '../vault.ts';
import { type Access, type Call, deadBecause, halted, refusal } from './access.ts';
import { type OpenedVersion, openVersion, openVersionAtOnce, type VersionRow } from './opened.ts';
import type { Under } from './rows.ts';

/** One secret, or several, of which it gets all or nothing. */
type Asked = { readonly call: Call; readonly readings: readonly { readonly path: string }[] };

export type Draft = {
  readonly answer: readonly OpenedVersion[] | VaultError;
  readonly access: Access;
  readonly entries: readonly Entry[];
  /** Under what some of it was known; undefined when all was read. */
  under: Under | undefined;
};

/**
 * In place of a draft, of who goes singly: the token has few uses left, others approve each read, or one of several cannot
 * be given.
 */
export const SINGLY = Symbol('singly');

type Rows = readonly (VersionRow | undefined)[];

/** What a member hears and what is recorded of it. Undefined when a key has to be read first. */
export function draft(vault: Vault, member: Asked, access: Access, rows: Rows): Draft | typeof SINGLY | undefined {
  const asks = member.readings.map(({ path }) => ({ action: 'secret.read', resource: `secret:${path}` }) as const);
  const refused = refusal(access, asks, member.call) ?? halted(vault, asks);
  if (refused) {
    if (refused.code === 'approval_required' || asks.length > 1) return SINGLY;
    const reason = refused.code === 'unauthenticated' ? deadBecause(access, member.call) : undefined;
    const entry = entryOf(member, access, member.readings[0]!.path, 'denied', refused.code);
    return { access, answer: refused, entries: [reason ? { ...entry, details: { reason } } : entry], under: undefined };
  }
  try {
    const opened: OpenedVersion[] = [];
    for (let i = 0; i < member.readings.length; i += 1) {
      const one = openVersionAtOnce(vault, access.tenant, member.readings[i]!.path, rows[i]);
      if (one === undefined) return undefined;
      opened.push(one);
    }
    return drafted(member, access, opened);
  } catch (error) {
    return failed(member, access, error);
  }
}

/** The same for whoever may, with keys that are not in memory. */
export async function draftSlowly(
  vault: Vault,
  tx: Tx,
  member: Asked,
  access: Access,
  rows: Rows,
): Promise<Draft | typeof SINGLY> {
  try {
    const opened: OpenedVersion[] = [];
    for (const [i, { path }] of member.readings.entries()) {
      opened.push(await openVersion(vault, tx, access.tenant, path, rows[i]));
    }
    return drafted(member, access, opened);
  } catch (error) {
    return failed(member, access, error);
  }
}

function drafted(member: Asked, access: Access, opened: readonly OpenedVersion[]): Draft {
  const entries = opened.map(({ path, version }) => entryOf(member, access, path, 'ok', undefined, version));
  return { access, answer: opened, entries, under: undefined };
}

function failed(member: Asked, access: Access, error: unknown): Draft | typeof SINGLY {
  if (!(error instanceof VaultError)) throw error;
  if (member.readings.length > 1) return SINGLY;
  const entry = entryOf(member, access, member.readings[0]!.path, 'error', error.code);
  return { access, answer: error, entries: [entry], under: undefined };
}

function entryOf(
  { call }: Asked,
  { actor }: Access,
  path: string,
  outcome: Entry['outcome'],
  code?: string,
  version?: number,
): Entry {
  return { origin: call, actor, action: 'secret.read', resource: `secret:${path}`, outcome, code, version };
}

// ---- what a round decided that could not have the log's head ----------------------------------------------------------

export type Redraftable = { drafted: { readonly draft: Draft; readonly atMs: number } | undefined };

/** Longer ago, what was decided is decided again: tokens end, and so do versions. */
const DRAFT_MS_MAX = 250;

/** Keeps what was not settled. */
export function keepDrafts(
  { clock }: Vault,
  members: readonly Redraftable[],
  drafts: readonly (Draft | undefined)[],
  settled: readonly unknown[],
): void {
  const atMs = clock.monotonicMs();
  for (const [i, member] of members.entries()) {
    const kept = drafts[i];
    if (kept && settled[i] === undefined) member.drafted = { draft: kept, atMs };
  }
}

/** Once, and all of them or none. Under the lock of the head it is seen whether they still hold. */
export function takeDrafts({ clock }: Vault, members: readonly Redraftable[]): Draft[] | undefined {
  const since = clock.monotonicMs() - DRAFT_MS_MAX;
  const drafts = members.flatMap(({ drafted: kept }) => (kept && kept.atMs >= since ? kept.draft : []));
  for (const member of members) member.drafted = undefined;
  return drafts.length === members.length ? drafts : undefined;
}
