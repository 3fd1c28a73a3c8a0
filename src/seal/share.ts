/**
 * A share of a split seal key, as a person keeps it.
 *
 *     bulla-share-v1-<base64url of>
 *     offset  bytes
 *          0      8  generation: random, the same in all shares of one split
 *          8      1  threshold: how many shares open the seal
 *          9      1  shares: how many there are
 *         10      1  number of this share, from 1
 *         11      1  x, never 0
 *         12     32  y, one byte for each byte of the seal key
 *         44      4  checksum: the first bytes of SHA-256(`bulla/v1/share-checksum` ‖ bytes 0 to 43)
 *
 * The checksum finds slips of the pen. What a share really is worth is said by its hash, SHA-256(`bulla/v1/share` ‖
 * bytes 0 to 43), which lies in the database for each share of the split: a share is known to be right or wrong by
 * itself, so a wrong one is never kept and spoils nothing. y has 256 bits of its own, so its hash gives none of it away.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { LABEL } from '../crypto/context.ts';
import { assert } from '../errors.ts';

const PREFIX = 'bulla-share-v1-';
const GENERATION_BYTES = 8;
const THRESHOLD_OFFSET = 8;
const SHARES_OFFSET = 9;
const NUMBER_OFFSET = 10;
const POINT_OFFSET = 11;
const Y_BYTES = 32;
const CHECKSUM_OFFSET = 44;
const CHECKSUM_BYTES = 4;
const SHARE_BYTES = CHECKSUM_OFFSET + CHECKSUM_BYTES;
const TEXT = /^bulla-share-v1-[A-Za-z0-9_-]{64}$/;

export type Share = {
  /** In hex: names the split, opens nothing. */
  readonly generation: string;
  readonly threshold: number;
  readonly shares: number;
  readonly number: number;
  /** In base64, as the database has it. */
  readonly hash: string;
  /** y followed by x, as shamir-secret-sharing takes it. To be wiped. */
  readonly point: Uint8Array;
};

/** `point` is y followed by x. */
export function formatShare(share: Omit<Share, 'hash'>): string {
  const bytes = Buffer.alloc(SHARE_BYTES);
  bytes.write(share.generation, 'hex');
  bytes[THRESHOLD_OFFSET] = share.threshold;
  bytes[SHARES_OFFSET] = share.shares;
  bytes[NUMBER_OFFSET] = share.number;
  assert(share.point.length === Y_BYTES + 1, 'a share has a point');
  bytes[POINT_OFFSET] = share.point[Y_BYTES]!;
  bytes.set(share.point.subarray(0, Y_BYTES), POINT_OFFSET + 1);
  bytes.set(checksum(bytes), CHECKSUM_OFFSET);
  const text = PREFIX + bytes.toString('base64url');
  bytes.fill(0);
  return text;
}

/** Undefined when it is not a share, or not all of one. */
export function parseShare(text: string): Share | undefined {
  const trimmed = text.trim();
  if (!TEXT.test(trimmed)) return undefined;
  const bytes = Buffer.from(trimmed.slice(PREFIX.length), 'base64url');
  try {
    if (!timingSafeEqual(checksum(bytes), bytes.subarray(CHECKSUM_OFFSET))) return undefined;
    const point = new Uint8Array(Y_BYTES + 1);
    point.set(bytes.subarray(POINT_OFFSET + 1, CHECKSUM_OFFSET));
    point[Y_BYTES] = bytes[POINT_OFFSET]!;
    return {
      generation: bytes.toString('hex', 0, GENERATION_BYTES),
      threshold: bytes[THRESHOLD_OFFSET]!,
      shares: bytes[SHARES_OFFSET]!,
      number: bytes[NUMBER_OFFSET]!,
      hash: digest(LABEL.share, bytes).toString('base64'),
      point,
    };
  } finally {
    bytes.fill(0);
  }
}

/** Whether a text was meant to be a share, so that a slip can be told from something else. */
export function looksLikeShare(text: string): boolean {
  return text.trim().startsWith(PREFIX);
}

function checksum(bytes: Uint8Array): Buffer {
  return digest(LABEL.shareChecksum, bytes).subarray(0, CHECKSUM_BYTES);
}

function digest(label: string, bytes: Uint8Array): Buffer {
  return createHash('sha256').update(label).update(bytes.subarray(0, CHECKSUM_OFFSET)).digest();
}
