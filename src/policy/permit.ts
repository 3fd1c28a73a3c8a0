/**
 * The gate: one function decides and records, and is the only way to anything.
 *
 * `permit` authenticates the token, decides, runs the act and appends its audit entries in one transaction. If the
 * entry cannot be written, the act does not happen. A denial commits its own entry; an act that fails is undone and an
 * `error` entry says so. What an act returns leaves only after the commit.
 *
 * A Permit is a value that only this file makes: no Permit, no row. Plain reads go through read.ts, the same gate in
 * batches. `withoutToken` is for the few acts that come before any token or from the vault itself; it records too.
 */
import { findApproval, markUsed, type Redeemed } from '../approval/redeem.ts';
import { AccessMoved, type Appendix, append } from '../audit/append.ts';
import type { Actor, Entry, Origin } from '../audit/entry.ts';
import { markRecorded } from '../audit/recorded.ts';
import { useToken } from '../auth/use.ts';
import type { ParsedToken } from '../crypto/token.ts';
import { type TenantId, type TransactionOptions, type Tx, transaction } from '../db/database.ts';
import { waitingAtMost } from '../db/lock-wait.ts';
import { VaultError } from '../errors.ts';
import type { Vault } from '../vault.ts';
import {
  type Access,
  type Ask,
  type Asker,
  allows,
  type Call,
  halted,
  proves,
  readAccess,
  refusal,
  requirementsOf,
  resolve,
  unauthenticated,
} from './access.ts';
import type { Requirement } from './approval-rule.ts';
import type { Held } from './grant.ts';
import { knownTenants } from './known.ts';
import { hasRate, overRate } from './rate.ts';
import { type Act, appendices, denial, entryOf, type Note } from './record.ts';

export type { Act, Note } from './record.ts';

declare const permitBrand: unique symbol;
/** Leave to do what was asked, inside the transaction that records it. */
export type Permit = {
  readonly [permitBrand]: true;
  readonly tenant: TenantId;
  readonly actor: Actor;
  readonly tokenId: string;
  readonly userId: string;
  readonly asker: Asker;
  /** The policies that each must allow what the holder does: those of the account, and every bound of the token. */
  readonly held: Held;
  /** Where and how often the token that was shown can be used at all; null: not bounded so. */
  readonly bounds: {
    readonly cidrs: readonly string[] | null;
    readonly certificate: boolean;
    readonly usesLeft: number | null;
  };
  /** `policy_id.revision` of those of the account, in the order of their names. */
  readonly policyIds: readonly string[];
  /** The policies that the holder holds by their names, and the token is not kept from using. */
  readonly namesHeld: (tx: Tx) => Promise<ReadonlySet<string>>;
  /** The approvals that something would wait for. */
  readonly requirements: (ask: Ask, under?: Partial<Asker>) => readonly Requirement[] | 'refused';
  /** What others have approved for this act, by resource. */
  readonly approved: ReadonlyMap<string, Redeemed>;
  /** Whether the holder might also do this: for filtering lists. It records nothing. */
  readonly allows: (ask: Ask) => boolean;
};

export type PermitOptions = {
  /** Other tenants that the act touches. Operators only. */
  readonly tenants?: readonly TenantId[];
  readonly deadlineMs?: number;
  /** Looking at a token that has few uses, or a further act of the request that took one. */
  readonly takesNoUse?: true;
};

const DECISIONS_MAX = 5;

/**
 * Runs `act` if the caller may do all of `asks`; the first ask names the entry. Throws `unauthenticated`, `forbidden`,
 * `tenant_suspended`, `password_change_required`, whatever `act` throws, `unavailable` or `outcome_unknown`.
 * `act` may be run again and must not await anything but the transaction.
 */
export async function permit<T>(
  vault: Vault,
  call: Call,
  asks: Ask | readonly Ask[],
  act: (tx: Tx, permit: Permit) => Promise<Act<T>>,
  options: PermitOptions = {},
): Promise<T> {
  const wanted = asArray(asks);
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await decideAndAct(vault, call, wanted, act, options);
    } catch (error) {
      if (error instanceof AccessMoved && attempt < DECISIONS_MAX) continue;
      if (error instanceof AccessMoved) throw moving();
      if (error instanceof Failed) throw await recordFailure(vault, call, wanted, error);
      // The commit itself found it out, and nothing was done.
      if (isQuota(error)) throw await recordFailure(vault, call, wanted, new Failed(error));
      throw error;
    }
  }
}

/**
 * Whether the caller may, before costly work that no transaction may wait for (Argon2). A refusal is recorded and
 * thrown; leave is not recorded, and is decided again by the `permit` that follows.
 */
export async function precheck(
  vault: Vault,
  call: Call,
  asks: Ask | readonly Ask[],
): Promise<Pick<Permit, 'tenant' | 'userId'>> {
  const { tenant, userId } = await decideAndAct(
    vault,
    call,
    asArray(asks),
    async (_, granted) => ({ value: granted, notes: [] }),
    { isPrecheck: true },
  );
  return { tenant, userId };
}

/**
 * Costly work on the outside, between a precheck and the permit that follows it. What fails there leaves the same entry as
 * what fails within: nobody tries addresses and passwords out unseen.
 */
export async function tryOutside<T>(
  vault: Vault,
  call: Call,
  asks: Ask | readonly Ask[],
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    return permit<T>(vault, call, asks, () => Promise.reject(error));
  }
}

/**
 * What a request needs to know before its verb can be named, such as which mount it goes to. For whoever shows a token
 * that counts; it leaves no entry and takes no use, because the `permit` that follows does.
 */
export function preview<T>(vault: Vault, call: Call, read: (tx: Tx, permit: Permit) => Promise<T>): Promise<T> {
  const own = [{ action: 'auth.self', resource: 'token:self', ofAnyToken: true }] as const;
  const act = async (tx: Tx, granted: Permit) => ({ value: await read(tx, granted), notes: [] });
  return decideAndAct(vault, call, own, act, { isPrecheck: true });
}

const isQuota = (error: unknown): error is VaultError => error instanceof VaultError && error.code === 'quota_exceeded';

/** A row that somebody holds for longer holds up whoever wants it, and nobody who came with them. */
const LOCKED_TOGETHER_MS = 500;

/**
 * A transaction that ends with its entries. Where it leaves the heads of its logs is what reads go on from, as soon as it is
 * said: the commit travels right behind, and waits for its flush when others see it already.
 */
async function recording<T>(
  vault: Vault,
  tenants: readonly TenantId[],
  act: (tx: Tx, log: (appendices: readonly Appendix[]) => Promise<void>) => Promise<T>,
  options: TransactionOptions = {},
): Promise<T> {
  const known = knownTenants(vault);
  const { made } = vault.db;
  let isSaid = false;
  const unsay = () => {
    if (isSaid) for (const tenant of tenants) known.forget(tenant);
    isSaid = false;
  };
  const work = (tx: Tx) => {
    // It is a further try: what the one before said was undone.
    unsay();
    return act(tx, async (appendices) => {
      const heads = await append(tx, appendices);
      isSaid = true;
      for (const head of heads) head.then((left) => known.set(left, made)).catch(() => undefined);
    });
  };
  try {
    return await transaction(vault.db, tenants, work, options);
  } catch (error) {
    unsay();
    throw error;
  }
}

/** One of several acts of a tenant that go together. */
export type Joint = { readonly call: Call; readonly token: ParsedToken; readonly ask: Ask };

/**
 * Several acts of one tenant in one transaction, with one append and one flush for all. `act` gets a permit in the place of
 * each who may at once, and does it or leaves it out. Gives the values of those that were done. Who has none left no
 * trace, and is to be asked for by themselves with `permit`: refusals, approvals, rates and tokens of few uses are there.
 * When it throws, nothing happened, or nobody knows. It waits not long for what somebody else holds.
 */
export async function permitTogether<T>(
  vault: Vault,
  joints: readonly Joint[],
  act: (tx: Tx, permits: readonly (Permit | undefined)[]) => Promise<readonly (Done<T> | undefined)[]>,
  options: Pick<PermitOptions, 'deadlineMs'> = {},
): Promise<readonly (Done<T> | undefined)[]> {
  const tenant = joints[0]!.token.tenantId as TenantId;
  const acts = await recording(
    vault,
    [tenant],
    async (tx, log) => {
      const accesses = await accessesAtOnce(vault, tx, joints);
      const permits = accesses.map((access) => access && permitOf(access, NONE_APPROVED));
      const done = await waitingAtMost(tx, LOCKED_TOGETHER_MS, () => act(tx, permits));
      const own = joints.flatMap(({ call, ask }, i) => {
        const access = accesses[i];
        const one = done[i];
        return access && one ? appendices(access, call, [ask], one, NONE_APPROVED) : [];
      });
      const entries = own.flatMap((appendix) => appendix.entries);
      // They were all read by one statement, so under one revision.
      if (own[0]) await log([{ ...own[0], entries }]);
      return done;
    },
    options,
  );
  for (const [i, { call }] of joints.entries()) if (acts[i]) markRecorded(call);
  return acts;
}

/** What an act that goes together with others may have done. */
export type Done<T> = Pick<Act<T>, 'value' | 'notes'>;

/** Of those who may as things are; nobody for whom that takes more than a look. */
async function accessesAtOnce(vault: Vault, tx: Tx, joints: readonly Joint[]): Promise<(Access | undefined)[]> {
  const tokens = new Map(joints.map(({ token }) => [token.tokenId, token]));
  const rows = new Map((await readAccess(tx, [...tokens.values()])).map((row) => [row.tokenId, row]));
  const accesses: (Access | undefined)[] = [];
  for (const { call, token, ask } of joints) {
    const row = rows.get(token.tokenId);
    const isPlain = row && proves(row, token) && row.usesLeft === null && !hasRate(row);
    const access = isPlain ? await resolve(vault, tx, token, row, call.source) : undefined;
    accesses.push(access && !refusal(access, [ask], call) && !halted(vault, [ask]) ? access : undefined);
  }
  return accesses;
}

/** An act that failed for a reason of the caller's: undone, and to be recorded. */
class Failed extends Error {
  readonly reason: VaultError;
  constructor(reason: VaultError) {
    super('the act failed');
    this.reason = reason;
  }
}

async function decideAndAct<T>(
  vault: Vault,
  call: Call,
  asks: readonly Ask[],
  act: (tx: Tx, permit: Permit) => Promise<Act<T>>,
  options: PermitOptions & { readonly isPrecheck?: true },
): Promise<T> {
  const { token } = call;
  if (!token) throw unauthenticated();
  const tenant = token.tenantId as TenantId;
  const outcome = await recording(
    vault,
    [tenant, ...(options.tenants ?? [])],
    async (tx, log) => {
      const [row] = await readAccess(tx, [token]);
      if (!row || !proves(row, token)) throw unauthenticated();
      const access = await resolve(vault, tx, token, row, call.source);
      const late = hasRate(row) ? await overRate(vault, row, call) : undefined;
      if (late) throw late;
      const waiting = refusal(access, asks, call);
      const approved = waiting?.code === 'approval_required' ? await approvals(tx, access, asks) : NONE_APPROVED;
      const refused =
        (approved === NONE_APPROVED ? waiting : undefined) ?? halted(vault, asks) ?? (await use(tx, access, options));
      if (refused) {
        await log([denial(access, call, asks, refused)]);
        return { refused, recorded: true };
      }
      const done = await runAct(tx, permitOf(access, approved), act);
      const used = done.refused || options.isPrecheck ? [] : [...approved.values()].map(({ id }) => id);
      if (used.length > 0) await markUsed(tx, tenant, used);
      const entries = appendices(access, call, asks, done, approved).filter((appendix) => appendix.entries.length > 0);
      if (entries.length > 0) await log(entries);
      const recorded = entries.length > 0;
      return done.refused ? { refused: done.refused, recorded } : { value: done.value, recorded };
    },
    options,
  );
  if (outcome.recorded) markRecorded(call);
  if ('refused' in outcome) throw outcome.refused;
  return outcome.value;
}

type Approved = Permit['approved'];
const NONE_APPROVED: Approved = new Map();

/** The approvals for all that waits for one; none when some of it is not approved. */
async function approvals(tx: Tx, access: Access, asks: readonly Ask[]): Promise<Approved> {
  const found = new Map<string, Redeemed>();
  for (const ask of asks) {
    const requirements = requirementsOf(access, ask);
    if (requirements === 'refused') return NONE_APPROVED;
    if (requirements.length === 0) continue;
    const { action, resource, subject } = ask;
    if (subject === undefined) return NONE_APPROVED;
    const { tenant, userId } = access;
    const approval = await findApproval(tx, { tenant, userId, action, resource, subject, requirements });
    if (!approval) return NONE_APPROVED;
    found.set(resource, approval);
  }
  return found;
}

/** Counts the use of a token that has few. An act that fails is undone, and its use with it. */
async function use(
  tx: Tx,
  { row }: Access,
  options: { readonly isPrecheck?: true; readonly takesNoUse?: true },
): Promise<VaultError | undefined> {
  if (row.usesLeft === null || options.isPrecheck || options.takesNoUse) return undefined;
  return (await useToken(tx, row)) ? undefined : unauthenticated();
}

async function runAct<T>(tx: Tx, permit: Permit, act: (tx: Tx, permit: Permit) => Promise<Act<T>>): Promise<Act<T>> {
  try {
    return await act(tx, permit);
  } catch (error) {
    throw error instanceof VaultError && error.code !== 'unavailable' ? new Failed(error) : error;
  }
}

function permitOf(access: Access, approved: Approved): Permit {
  const { tenant, actor, tokenId, userId, asker, row } = access;
  return {
    ...{ tenant, actor, tokenId, userId, asker, approved },
    held: [access.policies, ...access.limits],
    policyIds: access.row.policyIds,
    namesHeld: (tx: Tx) => namesHeld(tx, access),
    bounds: { cidrs: row.cidrs, certificate: row.certificate !== null, usesLeft: row.usesLeft },
    requirements: (ask: Ask, under: Partial<Asker> = {}) =>
      requirementsOf({ ...access, asker: { ...asker, ...under } }, ask),
    allows: (ask: Ask) => allows(access, ask),
  } as Omit<Permit, typeof permitBrand> as Permit;
}

/** A token that has a grant is for what the grant names; one that is bound is for the policies of its bounds. */
async function namesHeld(tx: Tx, { tenant, userId, row }: Access): Promise<ReadonlySet<string>> {
  if (row.grants !== null) return new Set();
  const held = await tx<{ name: string }[]>`
    SELECT unnest(policies) AS name FROM users WHERE tenant_id = ${tenant} AND user_id = ${userId}
    UNION SELECT unnest(g.policies) FROM group_members m JOIN groups g USING (tenant_id, group_id)
    WHERE m.tenant_id = ${tenant} AND m.user_id = ${userId}`;
  const bounds = row.bounds?.map((bound) => bound.split(' ')) ?? [];
  return new Set(held.map(({ name }) => name).filter((name) => bounds.every((bound) => bound.includes(name))));
}

/** An act may find by what it reads that its caller may not do it. */
const DENIALS: ReadonlySet<string> = new Set(['forbidden', 'approval_required']);

/** Records that a permitted act failed. When even that cannot be written, the caller hears of that instead. */
async function recordFailure(vault: Vault, call: Call, asks: readonly Ask[], { reason }: Failed): Promise<VaultError> {
  const token = call.token!;
  const tenant = token.tenantId as TenantId;
  const recorded = await recording(vault, [tenant], async (tx, log) => {
    const [row] = await readAccess(tx, [token]);
    if (!row || !proves(row, token)) return false;
    const { actor } = await resolve(vault, tx, token, row, call.source);
    const outcome = DENIALS.has(reason.code) ? 'denied' : 'error';
    const entry = entryOf(actor, call, asks[0]!, {}, { outcome, code: reason.code });
    await log([{ tenant, entries: [entry] }]);
    return true;
  });
  if (recorded) markRecorded(call);
  return reason;
}

/** One line of what an act without a token did. */
export type Record = Note & { readonly tenant: TenantId; readonly actor: Actor; readonly action: string } & Pick<
    Entry,
    'outcome' | 'code'
  > & {
    readonly revokes?: boolean;
    /** Of the line, when it is not the call's. */
    readonly origin?: Origin;
  };

/**
 * Runs an act that no token stands for, a login or a deed of the vault itself, and records what it says it did in the
 * same transaction. The caller decides; nothing but auth/ and the vault's own life uses this.
 */
export async function withoutToken<T>(
  vault: Vault,
  call: Omit<Call, 'token'>,
  tenants: readonly TenantId[],
  act: (tx: Tx) => Promise<{ value: T; records: readonly Record[] }>,
  options: { deadlineMs?: number } = {},
): Promise<T> {
  const done = await recording(
    vault,
    tenants,
    async (tx, log) => {
      const { value, records } = await act(tx);
      const logs = [...new Set(records.map((record) => record.tenant))].sort();
      if (logs.length > 0) {
        await log(
          logs.map((tenant) => {
            const own = records.filter((record) => record.tenant === tenant);
            return {
              tenant,
              entries: own.map((record) => recordEntry(call, record)),
              revokes: own.some((r) => r.revokes),
            };
          }),
        );
      }
      return { value, recorded: logs.length > 0 };
    },
    options,
  );
  if (done.recorded) markRecorded(call);
  return done.value;
}

function recordEntry(call: Omit<Call, 'token'>, record: Record): Entry {
  const { tenant: _tenant, revokes: _revokes, ...said } = record;
  const { requestId, source, protocol } = call;
  return { origin: { requestId, source, protocol }, ...said };
}

function moving(): VaultError {
  return new VaultError('unavailable', 'Access rights change faster than this could be decided; try again.', {
    retryAfterSeconds: 1,
  });
}

const asArray = (asks: Ask | readonly Ask[]): readonly Ask[] => (Array.isArray(asks) ? asks : [asks as Ask]);
