/**
 * A growing list of hashes, 32 bytes of memory each, and where in it a hash stands. In pieces, so that growing copies
 * nothing; the index by hash is made only when somebody looks for one.
 */
import { HASH_BYTES } from '../crypto/merkle.ts';

const PIECE = 8192;

export class HashList {
  readonly #pieces: Buffer[] = [];
  #length = 0;
  /** Open addressing over the first bytes of a hash, which are as good as random: position + 1, or 0. */
  #slots: Uint32Array | undefined;

  get length(): number {
    return this.#length;
  }

  /** Takes a hash as 44 characters of base64; the caller has checked that they are. */
  push(hash: string): void {
    const at = this.#length % PIECE;
    if (at === 0) this.#pieces.push(Buffer.alloc(PIECE * HASH_BYTES));
    this.#pieces[this.#pieces.length - 1]!.write(hash, at * HASH_BYTES, HASH_BYTES, 'base64');
    this.#length += 1;
    this.#slots = undefined;
  }

  /** The hashes from a position on, one after the other, in pieces. */
  *from(position: number): Generator<Uint8Array, void, undefined> {
    for (let at = position; at < this.#length; ) {
      const start = at % PIECE;
      const end = Math.min(PIECE, start + this.#length - at);
      yield this.#pieces[(at - start) / PIECE]!.subarray(start * HASH_BYTES, end * HASH_BYTES);
      at += end - start;
    }
  }

  isAt(position: number, hash: Uint8Array): boolean {
    if (position >= this.#length) return false;
    const start = (position % PIECE) * HASH_BYTES;
    return this.#pieces[Math.floor(position / PIECE)]!.compare(hash, 0, HASH_BYTES, start, start + HASH_BYTES) === 0;
  }

  /** The first position of a hash, or undefined. */
  positionOf(hash: Uint8Array): number | undefined {
    const slots = this.#index();
    for (let slot = firstSlot(hash, 0, slots.length); slots[slot] !== 0; slot = (slot + 1) % slots.length) {
      if (this.isAt(slots[slot]! - 1, hash)) return slots[slot]! - 1;
    }
    return undefined;
  }

  #index(): Uint32Array {
    if (this.#slots !== undefined) return this.#slots;
    const slots = new Uint32Array(2 ** Math.ceil(Math.log2(2 * this.#length + 2)));
    for (let position = 0; position < this.#length; position++) {
      const piece = this.#pieces[Math.floor(position / PIECE)]!;
      let slot = firstSlot(piece, (position % PIECE) * HASH_BYTES, slots.length);
      while (slots[slot] !== 0) slot = (slot + 1) % slots.length;
      slots[slot] = position + 1;
    }
    this.#slots = slots;
    return slots;
  }
}

/** `slots` is a power of two, so the remainder takes the low bits. */
function firstSlot(bytes: Uint8Array, at: number, slots: number): number {
  const word = bytes[at]! * 2 ** 24 + bytes[at + 1]! * 2 ** 16 + bytes[at + 2]! * 2 ** 8 + bytes[at + 3]!;
  return word % slots;
}
