/**
 * Rows in PostgreSQL's own binary form, many in one value: what `string_agg(record_send(ROW(…)), '')` gives.
 *
 *     rows  = *row
 *     row   = number of fields (4) *field
 *     field = type oid (4) | length (4), -1 for null | bytes
 *
 * All integers are big endian. postgres.js asks for every column as text and makes a string of each; for the hot path
 * that costs more than the decryption. Here a row is read in place: `bytes` of it are views, not copies, so they keep the
 * whole value alive. A value of another type or form than was asked for is a defect of ours, and asserted.
 */
import { assert } from '../errors.ts';
import type { Timestamp } from './database.ts';
import { timestampOf } from './timestamp.ts';

/** Reads fields in their order; `at` moves along. */
export type Packed = { readonly bytes: Buffer; at: number };

const NO_BYTES = Buffer.alloc(0);

/** Null is no row at all. */
export function packed(value: Uint8Array | null): Packed {
  if (value === null) return { bytes: NO_BYTES, at: 0 };
  return { bytes: Buffer.from(value.buffer, value.byteOffset, value.byteLength), at: 0 };
}

/** Steps into the next row, or says that there is none. */
export function nextRow(from: Packed, fields: number): boolean {
  if (from.at === from.bytes.length) return false;
  assert(from.bytes.readInt32BE(from.at) === fields, 'a packed row has the fields that were asked for');
  from.at += 4;
  return true;
}

const OID_BYTEA = 17;
const OID_INT4 = 23;
const OID_TEXT = 25;
const OID_TIMESTAMPTZ = 1184;

/** Steps over a field's head and gives its length, -1 for null. */
function field(from: Packed, oid: number): number {
  assert(from.bytes.readInt32BE(from.at) === oid, 'a packed field has the type that was asked for');
  const length = from.bytes.readInt32BE(from.at + 4);
  from.at += 8;
  return length;
}

export function int4(from: Packed): number | null {
  if (field(from, OID_INT4) === -1) return null;
  from.at += 4;
  return from.bytes.readInt32BE(from.at - 4);
}

export function text(from: Packed): string | null {
  const length = field(from, OID_TEXT);
  if (length === -1) return null;
  from.at += length;
  return from.bytes.toString('utf8', from.at - length, from.at);
}

/** A view. */
export function bytea(from: Packed): Buffer | null {
  const length = field(from, OID_BYTEA);
  if (length === -1) return null;
  from.at += length;
  return from.bytes.subarray(from.at - length, from.at);
}

/** Milliseconds from 1970 to 2000, where PostgreSQL's time begins. */
const EPOCH_MS = 946_684_800_000;

/** Microseconds since 2000 as RFC 3339, as every other statement gives it. Our times are finite and of four-digit years. */
export function timestamptz(from: Packed): Timestamp | null {
  if (field(from, OID_TIMESTAMPTZ) === -1) return null;
  from.at += 8;
  const high = from.bytes.readInt32BE(from.at - 8);
  // 2^32 is 4,294,967 thousands and 296, so that nothing here comes near 2^53.
  const low = high * 296 + from.bytes.readUInt32BE(from.at - 4);
  const thousands = Math.floor(low / 1000);
  const millis = high * 4_294_967 + thousands;
  const rest = low - thousands * 1000;
  return timestampOf(EPOCH_MS + millis, rest);
}
