/**
 * The `shamir` seal: a seal key that nobody has, in n shares of which any k open it.
 *
 * The key is split by the audited `shamir-secret-sharing` package (GF(2⁸), random coordinates) when the seal is made,
 * and lives only in memory afterwards. Its parameters are the generation of the split, k, n and the hash of each share
 * (share.ts says why). Fewer than k shares say nothing about the key; with fewer than k left, nothing that the vault
 * holds can ever be opened again after the next restart.
 */
import { randomBytes } from 'node:crypto';
import { combine, split } from 'shamir-secret-sharing';
import { z } from 'zod';
import type { Key } from '../crypto/keys.ts';
import { VaultError } from '../errors.ts';
import { fits, localSeal, SEAL_KEY_BYTES, takeSealKey } from './local-key.ts';
import type { NewSeal, Offer, SealMeans, SealMember, StoredSeal, Unsealer } from './seal.ts';
import { formatShare, looksLikeShare, parseShare, type Share } from './share.ts';

const SHARES_MAX = 32;
const GENERATION_BYTES = 8;

const parameters = z
  .strictObject({
    generation: z.string().regex(/^[0-9a-f]{16}$/),
    threshold: z.int().min(2).max(SHARES_MAX),
    shares: z.int().min(2).max(SHARES_MAX),
    /** In the order of the shares' numbers. */
    hashes: z.array(z.base64()).min(2).max(SHARES_MAX),
  })
  .refine(({ threshold, shares, hashes }) => threshold <= shares && hashes.length === shares);

export type ShamirParameters = z.output<typeof parameters>;

export const shamirSeal: SealMember = {
  create: ({ shamir }) => makeSplit(shamir),
  open: async () => undefined,
  unsealer: (_, stored) => unsealer(stored),
};

/** Throws `integrity` when what the database holds describes no split. */
function shamirParameters(stored: Pick<StoredSeal, 'parameters'>): ShamirParameters {
  const parsed = parameters.safeParse(stored.parameters);
  if (parsed.success) return parsed.data;
  throw new VaultError('integrity', 'The parameters of the shamir seal were edited: restore the table seals.');
}

async function makeSplit({ shares: count, threshold }: SealMeans['shamir']): Promise<NewSeal> {
  if (!(threshold >= 2 && threshold <= count && count <= SHARES_MAX)) {
    throw new VaultError(
      'invalid_request',
      `shamir: expected 2 ≤ threshold ≤ shares ≤ ${SHARES_MAX}, got a threshold of ${threshold} and ${count} shares.`,
    );
  }
  const generation = randomBytes(GENERATION_BYTES).toString('hex');
  const secret = Uint8Array.from(randomBytes(SEAL_KEY_BYTES));
  const points = await split(secret, count, threshold);
  const texts = points.map((point, i) =>
    formatShare({ generation, threshold, shares: count, number: i + 1, point: Uint8Array.from(point) }),
  );
  for (const point of points) point.fill(0);
  const hashes = texts.map((text) => parseShare(text)!.hash);
  const seal = localSeal('shamir', takeSealKey(secret));
  return { seal, parameters: { generation, threshold, shares: count, hashes }, shares: texts };
}

/** What is said of a share that does not fit. It never holds any of the share. */
function refusalOf(text: string, share: Share | undefined, split: ShamirParameters): Offer | undefined {
  if (!share) {
    const damaged = looksLikeShare(text);
    return {
      state: 'refused',
      reason: damaged ? 'damaged' : 'not_a_share',
      why: damaged
        ? 'This share is damaged: its checksum does not fit. Compare it with the original, character by character.'
        : 'This is not a share: expected "bulla-share-v1-" and 64 characters.',
    };
  }
  if (share.generation !== split.generation) {
    return {
      state: 'refused',
      reason: 'another_split',
      why: `This share belongs to another split (generation ${share.generation}); the seal was split as generation ${split.generation}.`,
    };
  }
  if (split.hashes[share.number - 1] === share.hash) return undefined;
  return { state: 'refused', reason: 'wrong', why: 'This share names the right split but is none of its shares.' };
}

function unsealer(stored: StoredSeal): Unsealer {
  const split = shamirParameters(stored);
  const kept = new Map<number, Share>();
  const close = () => {
    for (const share of kept.values()) share.point.fill(0);
    kept.clear();
  };
  const offer = async (text: string): Promise<Offer> => {
    const share = parseShare(text);
    const refused = refusalOf(text, share, split);
    if (refused || !share) {
      share?.point.fill(0);
      return refused!;
    }
    const already = kept.has(share.number);
    if (already) share.point.fill(0);
    else kept.set(share.number, share);
    if (kept.size < split.threshold) return { state: 'kept', already };
    const key = await join([...kept.values()]);
    if (fits(key, stored)) return { state: 'open', seal: localSeal('shamir', key) };
    key.wipe();
    return { state: 'refused', reason: 'does_not_open', why: DOES_NOT_OPEN };
  };
  const progress = () => ({ given: kept.size, threshold: split.threshold, shares: split.shares });
  return { takes: 'share', progress, offer, close };
}

const DOES_NOT_OPEN =
  'These shares belong to the split that the table seals describes, but its key opens no root key of this database: restore both from one backup.';

async function join(shares: readonly Share[]): Promise<Key> {
  return takeSealKey(await combine(shares.map(({ point }) => Uint8Array.from(point))));
}

export type ShareCheck = {
  /** From 1; absent when the text is not a share. */
  readonly number?: number;
  readonly generation?: string;
  readonly fits: boolean;
  readonly reason?: string;
};

/**
 * Says of each share whether it still fits, and whether together they open what the database holds. Nothing is kept and
 * nothing is unsealed.
 */
export async function checkShares(
  stored: StoredSeal,
  texts: readonly string[],
): Promise<{ checks: ShareCheck[]; opens: boolean }> {
  const split = shamirParameters(stored);
  const right = new Map<number, Share>();
  const checks = texts.map((text): ShareCheck => {
    const share = parseShare(text);
    const refused = refusalOf(text, share, split);
    if (share && !refused) right.set(share.number, share);
    const said = share ? { number: share.number, generation: share.generation } : {};
    return refused?.state === 'refused' ? { ...said, fits: false, reason: refused.reason } : { ...said, fits: true };
  });
  if (right.size < split.threshold) return { checks, opens: false };
  const key = await join([...right.values()]);
  const opens = fits(key, stored);
  key.wipe();
  return { checks, opens };
}
