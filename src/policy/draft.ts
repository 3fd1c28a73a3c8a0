/**
 * One read of a round: decided, opened, and what is to be recorded of it. Nothing of it counts, and nothing leaves, before
 * its entry is durable.
 */
import type { Entry } from '../audit/entry.ts';
import type { Tx } from '../db/database.ts';
import { VaultError } from '../errors.ts';
import type { Vault } from '../vault.ts';
import { type Access, type Call, deadBecause, halted, refusal } from './access.ts';
import { type OpenedVersion, openVersion, openVersionAtOnce, type VersionRow } from './opened.ts';

type Asked = { readonly call: Call; readonly path: string };

export type Draft = {
  readonly answer: OpenedVersion | VaultError;
  readonly access: Access;
  readonly entry: Entry;
};

/** In place of a draft: the token has few uses left, or others approve each read, so this one goes singly. */
export const SINGLY = Symbol('singly');

/** What a member hears and what is recorded of it. Undefined when a key has to be read first. */
export function draft(
  vault: Vault,
  member: Asked,
  access: Access,
  row: VersionRow | undefined,
): Draft | typeof SINGLY | undefined {
  const resource = `secret:${member.path}`;
  const asks = [{ action: 'secret.read', resource }] as const;
  const refused = refusal(access, asks, member.call) ?? halted(vault, asks);
  if (refused?.code === 'approval_required') return SINGLY;
  if (refused) {
    const reason = refused.code === 'unauthenticated' ? deadBecause(access, member.call) : undefined;
    const entry = entryOf(member, access, resource, 'denied', refused.code);
    return { access, answer: refused, entry: reason ? { ...entry, details: { reason } } : entry };
  }
  try {
    const opened = openVersionAtOnce(vault, access.tenant, member.path, row);
    return opened && drafted(member, access, resource, opened);
  } catch (error) {
    return failed(member, access, resource, error);
  }
}

/** The same for whoever may, with keys that are not in memory. */
export async function draftSlowly(
  vault: Vault,
  tx: Tx,
  member: Asked,
  access: Access,
  row: VersionRow,
): Promise<Draft> {
  const resource = `secret:${member.path}`;
  try {
    return drafted(member, access, resource, await openVersion(vault, tx, access.tenant, member.path, row));
  } catch (error) {
    return failed(member, access, resource, error);
  }
}

function drafted(member: Asked, access: Access, resource: string, opened: OpenedVersion): Draft {
  return { access, answer: opened, entry: entryOf(member, access, resource, 'ok', undefined, opened.version) };
}

function failed(member: Asked, access: Access, resource: string, error: unknown): Draft {
  if (!(error instanceof VaultError)) throw error;
  return { access, answer: error, entry: entryOf(member, access, resource, 'error', error.code) };
}

function entryOf(
  { call }: Asked,
  { actor }: Access,
  resource: string,
  outcome: Entry['outcome'],
  code?: string,
  version?: number,
): Entry {
  return { origin: call, actor, action: 'secret.read', resource, outcome, code, version };
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
