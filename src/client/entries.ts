/**
 * A stream of audit entries that outlives its connection: cut short, it is asked for again from the entry after the last
 * whole line. A log only grows and its numbers stay, so what comes is what one answer would have held.
 *
 * Only while each answer brings something: a server that is gone ends the stream with its error. An export with proof is
 * never put together from two.
 */
import type { AuditFilter } from './audit.ts';
import { BullaError } from './error.ts';

type Open = (rest: Pick<AuditFilter, 'from_index' | 'limit'>) => Promise<AsyncIterable<Buffer>>;

const LF = 0x0a;

/** In pieces of whole lines. `headers` is how many lines of an answer are no entries. */
export async function* resumed(
  open: Open,
  { from_index, limit }: AuditFilter,
  headers: 0 | 1,
): AsyncGenerator<Buffer, void, undefined> {
  let next = from_index;
  let lines = 0;
  for (;;) {
    const began = next;
    const left = limit === undefined ? undefined : limit - Math.max(0, lines - headers);
    if (left === 0) return;
    try {
      const pieces = await open({ from_index: next, limit: left });
      for await (const whole of wholeLines(pieces, lines === 0 ? 0 : headers)) {
        lines += countLines(whole);
        next = Math.max(next ?? 0, numberIn(whole) + 1);
        yield whole;
      }
      return;
    } catch (error) {
      const cut = error instanceof BullaError && (error.code === 'unreachable' || error.code === 'timed_out');
      if (!cut || next === began) throw error;
    }
  }
}

/** Without the first `skipped` lines. What has no line end at the end of all was cut by nobody, and comes too. */
async function* wholeLines(pieces: AsyncIterable<Buffer>, skipped: number): AsyncGenerator<Buffer, void, undefined> {
  let skip = skipped;
  let kept: Buffer = Buffer.alloc(0);
  for await (const piece of pieces) {
    const bytes = kept.length === 0 ? piece : Buffer.concat([kept, piece]);
    const end = bytes.lastIndexOf(LF) + 1;
    kept = bytes.subarray(end);
    let start = 0;
    for (; skip > 0 && start < end; skip -= 1) start = bytes.indexOf(LF, start) + 1;
    if (end > start) yield bytes.subarray(start, end);
  }
  if (kept.length > 0) yield kept;
}

export function countLines(bytes: Buffer): number {
  let lines = 0;
  for (let at = bytes.indexOf(LF); at >= 0; at = bytes.indexOf(LF, at + 1)) lines += 1;
  return lines;
}

/** Looked at from the end: more than the longest line. */
const LAST_BYTES = 8192;

/** The number of the last entry that a piece names, in any of the formats; -1 when it names none. */
export function numberIn(piece: Buffer): number {
  const start = Math.max(0, piece.length - LAST_BYTES);
  const text = `${start === 0 ? '\n' : ''}${piece.toString('latin1', start)}`;
  const last = [...text.matchAll(/seq\\?":(\d+)|\n(\d+),"/g)].at(-1);
  return last === undefined ? -1 : Number(last[1] ?? last[2]);
}
