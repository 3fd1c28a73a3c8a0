/**
 * Acts that many callers of one tenant ask for at once go together: in rounds, each one transaction with one append and
 * one flush. Whoever cannot go with others, or meets a round that fails for another, goes alone, as if nobody else had come.
 */
import { LIMITS } from '../config.ts';
import type { ParsedToken } from '../crypto/token.ts';
import type { Tx } from '../db/database.ts';
import { VaultError } from '../errors.ts';
import type { Vault } from '../vault.ts';
import { type Ask, type Call, unauthenticated } from './access.ts';
import { refuseBehind, refuseLate, type Waiting } from './deadline.ts';
import { type Done, type Permit, permitTogether } from './permit.ts';
import { createRounds, type Rounds } from './rounds.ts';

/** One kind of act, on items. */
export type Together<I, T> = {
  readonly ask: (item: I) => Ask;
  /** What no two of a round may have in common, such as the row that they change. */
  readonly key: (item: I) => string;
  /** Does them in the transaction of the round, or leaves out who is to go alone. May be run again. */
  readonly act: (vault: Vault, tx: Tx, members: readonly Permitted<I>[]) => Promise<readonly (Done<T> | undefined)[]>;
  readonly alone: (vault: Vault, call: Call, item: I) => Promise<T>;
};

export type Permitted<I> = { readonly permit: Permit; readonly item: I };

type Member<I, T> = Waiting & {
  readonly call: Call;
  readonly token: ParsedToken;
  readonly ask: Ask;
  readonly item: I;
  readonly resolve: (value: T) => void;
};

/** The act, to be asked for by one caller. It throws what `alone` throws, `unavailable`, `outcome_unknown` and `busy`. */
export function together<I, T>(kind: Together<I, T>): Together<I, T>['alone'] {
  const vaults = new WeakMap<Vault, Map<string, Rounds<Member<I, T>>>>();

  const roundsOf = (vault: Vault, tenant: string) => {
    const tenants = vaults.get(vault) ?? new Map<string, Rounds<Member<I, T>>>();
    vaults.set(vault, tenants);
    const known = tenants.get(tenant);
    if (known) return known;
    const rounds: Rounds<Member<I, T>> = createRounds(vault, LIMITS.writesTogetherMax, async (members) => {
      await runRound(vault, kind, rounds, members);
      if (rounds.waiting.length === 0 && tenants.get(tenant) === rounds) tenants.delete(tenant);
    });
    tenants.set(tenant, rounds);
    return rounds;
  };

  return (vault, call, item) => {
    const { token } = call;
    if (!token) return Promise.reject(unauthenticated());
    const rounds = roundsOf(vault, token.tenantId);
    if (rounds.waiting.length >= LIMITS.writeQueueMax) return Promise.reject(tooMany());
    return new Promise((resolve, reject) => {
      const arrivedMs = vault.clock.monotonicMs();
      rounds.add({ arrivedMs, begunMs: undefined, call, token, ask: kind.ask(item), item, resolve, reject });
    });
  };
}

const tooMany = () => new VaultError('busy', 'Too many writes are waiting; try again.', { retryAfterSeconds: 1 });

async function runRound<I, T>(
  vault: Vault,
  kind: Together<I, T>,
  rounds: Rounds<Member<I, T>>,
  members: readonly Member<I, T>[],
): Promise<void> {
  const { inTime, leftMs } = refuseLate(vault, members);
  const first = new Map<string, Member<I, T>>();
  for (const member of inTime) {
    const key = kind.key(member.item);
    if (first.has(key)) rounds.add(member);
    else first.set(key, member);
  }
  const now = [...first.values()];
  const goAlone = ({ call, item, resolve, reject }: Member<I, T>) =>
    kind.alone(vault, call, item).then(resolve, reject);
  if (now.length === 1) return goAlone(now[0]!);
  if (now.length === 0) return;
  let done: readonly (Done<T> | undefined)[] = [];
  try {
    done = await permitTogether(vault, now, (tx, permits) => actOn(vault, kind, tx, now, permits), {
      deadlineMs: leftMs,
    });
  } catch (error) {
    // An outage is told to everybody at once: repeating would only prolong it. All else may be the fault of one.
    if (error instanceof VaultError && (error.code === 'unavailable' || error.code === 'outcome_unknown')) {
      for (const { reject } of now) reject(error);
      return refuseBehind(vault, rounds.waiting);
    }
  }
  for (const [i, member] of now.entries()) {
    const one = done[i];
    if (one) member.resolve(one.value);
    else void goAlone(member);
  }
}

/** `kind.act` for those who have a permit, its results in the places of all. */
async function actOn<I, T>(
  vault: Vault,
  { act }: Together<I, T>,
  tx: Tx,
  members: readonly Member<I, T>[],
  permits: readonly (Permit | undefined)[],
): Promise<readonly (Done<T> | undefined)[]> {
  const places = permits.flatMap((permit, i) => (permit ? [{ permit, item: members[i]!.item, i }] : []));
  const results: (Done<T> | undefined)[] = new Array(members.length).fill(undefined);
  if (places.length === 0) return results;
  for (const [n, result] of (await act(vault, tx, places)).entries()) results[places[n]!.i] = result;
  return results;
}
