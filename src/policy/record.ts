/** What an act leaves in the log: an entry for each note of it, or of what was refused. */
import type { Redeemed } from '../approval/redeem.ts';
import type { Appendix } from '../audit/append.ts';
import type { Actor, Details, Entry } from '../audit/entry.ts';
import type { TenantId } from '../db/database.ts';
import type { VaultError } from '../errors.ts';
import { type Access, type Ask, allows, type Call, deadBecause } from './access.ts';

/** What an entry says beside the ask. */
export type Note = {
  readonly action?: string;
  readonly resource?: string;
  readonly version?: number;
  readonly lease?: string;
  readonly details?: Details;
};

/** What an act did. One entry per note; one entry that says the ask when there is none. */
export type Act<T> = {
  readonly value: T;
  readonly notes?: readonly Note[];
  /** The act takes access away: every grant decided before it is decided again. */
  readonly revokes?: boolean;
  /** The act refuses after all: what it changed (a count of failures) stays, its entry says `denied`, and this is thrown. */
  readonly refused?: VaultError;
  /** Entries in the logs of other tenants that the act touched. Their ids must be among `tenants`. */
  readonly elsewhere?: readonly { readonly tenant: TenantId; readonly note: Note; readonly revokes?: boolean }[];
};

export function denial(access: Access, call: Call, asks: readonly Ask[], refused: VaultError): Appendix {
  const isMissing = refused.code === 'forbidden' || refused.code === 'approval_required';
  const lacking = isMissing ? asks.filter((ask) => !allows(access, ask)) : asks;
  // What the kind of the token forbids is allowed by its policies.
  const missing = lacking.length > 0 ? lacking : asks;
  const note = refused.code === 'unauthenticated' ? { details: deathOf(access, call) } : {};
  const entries = missing.map((ask) =>
    entryOf(access.actor, call, ask, note, { outcome: 'denied', code: refused.code }),
  );
  return { tenant: access.tenant, entries };
}

/**
 * A token that was made to be used a few times or for a short while, and is shown again: somebody else may have it
 * (T-053).
 */
function deathOf(access: Access, call: Call): Details {
  const reason = deadBecause(access, call) ?? 'used_up';
  const handedOn = access.row.kind === 'lease' || access.row.kind === 'wrapping';
  return handedOn && (reason === 'used_up' || reason === 'expired') ? { reason, possible_theft: true } : { reason };
}

export function appendices<T>(
  access: Access,
  call: Call,
  asks: readonly Ask[],
  done: Act<T>,
  approved: ReadonlyMap<string, Redeemed>,
): Appendix[] {
  const ask = asks[0]!;
  const notes = done.notes ?? [{}];
  const end = done.refused ? ({ outcome: 'denied', code: done.refused.code } as const) : ({ outcome: 'ok' } as const);
  const entries = notes.map((note) => {
    const approval = approved.get(note.resource ?? ask.resource);
    const said = approval ? { ...note, details: { ...note.details, approval: approval.id } } : note;
    return entryOf(access.actor, call, ask, said, end);
  });
  const own: Appendix = {
    tenant: access.tenant,
    entries,
    decidedAt: access.aclRevision,
    revokes: done.revokes ?? false,
  };
  const others = (done.elsewhere ?? []).map(({ tenant, note, revokes }) => ({
    tenant,
    entries: [entryOf(access.actor, call, ask, note, end)],
    revokes: revokes ?? false,
  }));
  return [own, ...others];
}

export function entryOf(actor: Actor, call: Call, ask: Ask, note: Note, end: Pick<Entry, 'outcome' | 'code'>): Entry {
  const { requestId, source, protocol } = call;
  return {
    origin: { requestId, source, protocol },
    actor,
    action: ask.action,
    resource: ask.resource,
    ...note,
    ...end,
  };
}
