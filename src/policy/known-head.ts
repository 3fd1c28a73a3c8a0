/**
 * The heads of logs as our last commits left them. Only a guess: what is written under one is written only if it still
 * holds. A wrong one costs a round trip, so it is made more seldom the longer others, such as another node, go on to move
 * the head.
 */
import type { Head } from '../audit/append.ts';
import type { TenantId } from '../db/database.ts';

export type KnownHeads = {
  readonly get: (tenant: TenantId) => Head | undefined;
  /** It was locked, or a guess that held. */
  readonly set: (head: Head, guessed?: 'guessed') => void;
  readonly wasWrong: (tenant: TenantId) => void;
  readonly forget: (tenant: TenantId) => void;
};

const HEADS_MAX = 1000;
const UNGUESSED_MAX = 64;

export function createKnownHeads(): KnownHeads {
  const heads = new Map<TenantId, Head>();
  /** How many heads are let pass before the next guess, now and after the next wrong one. */
  const distrust = new Map<TenantId, { left: number; next: number }>();
  return {
    get: (tenant) => heads.get(tenant),
    set: (head, guessed) => {
      if (guessed) distrust.delete(head.tenant);
      const distrusted = distrust.get(head.tenant);
      if (distrusted && distrusted.left > 0) {
        distrusted.left -= 1;
        return;
      }
      if (heads.size >= HEADS_MAX) heads.clear();
      heads.set(head.tenant, head);
    },
    wasWrong: (tenant) => {
      heads.delete(tenant);
      if (distrust.size >= HEADS_MAX) distrust.clear();
      const left = distrust.get(tenant)?.next ?? 0;
      distrust.set(tenant, { left, next: Math.min(UNGUESSED_MAX, 2 * left + 1) });
    },
    forget: (tenant) => void heads.delete(tenant),
  };
}
