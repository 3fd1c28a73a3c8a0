/**
 * Nonces that are never used twice under one key.
 *
 * SHA-256 over random bytes that no other nonce has, and over where and when we are. Random bytes alone would do while
 * the generator is sound; but its state lives in this process's memory, as do bytes that were drawn and not used yet, and
 * a restored snapshot of a virtual machine brings an old state back. Process id, both clocks and a count then still keep the nonces apart (case T-010). How many nonces of 12 bytes
 * one key may have is counted by whoever uses it (transit/uses.ts).
 */
import { hash, randomFillSync } from 'node:crypto';
import { assert } from '../errors.ts';
import { LABEL } from './context.ts';

// seed: label ‖ random (32) ‖ process id (4) ‖ monotonic ns (8) ‖ wall clock ms (8) ‖ count (8)
const RANDOM_BYTES = 32;
const RANDOM_OFFSET = LABEL.nonce.length;
const PLACE_OFFSET = RANDOM_OFFSET + RANDOM_BYTES;
const seed = Buffer.alloc(PLACE_OFFSET + 28);
seed.write(LABEL.nonce, 'latin1');
const seedRandom = seed.subarray(RANDOM_OFFSET, PLACE_OFFSET);
let count = 0;

// Drawn for many nonces at once: a draw for each was a tenth of what it costs to seal a kilobyte.
const drawn = Buffer.alloc(64 * RANDOM_BYTES);
let used = drawn.length;

/** Fills `target`, of at most 32 bytes. */
export function writeFreshNonce(target: Uint8Array): void {
  if (used === drawn.length) draw();
  seedRandom.set(drawn.subarray(used, used + RANDOM_BYTES));
  used += RANDOM_BYTES;
  count += 1;
  let end = seed.writeUInt32LE(process.pid, PLACE_OFFSET);
  end = seed.writeBigUInt64LE(process.hrtime.bigint(), end);
  end = seed.writeDoubleLE(Date.now(), end);
  seed.writeDoubleLE(count, end);
  target.set(hash('sha256', seed, 'buffer').subarray(0, target.length));
}

/** Where the generator fails, or leaves a part of what it was asked for as it was, nothing of it is used. */
function draw(): void {
  drawn.fill(0);
  randomFillSync(drawn);
  for (let at = 0; at < drawn.length; at += RANDOM_BYTES) {
    const part = drawn.subarray(at, at + RANDOM_BYTES);
    assert(!part.every((byte) => byte === 0), 'the random number generator gives random bytes');
  }
  used = 0;
}
