/**
 * A second verifier of exported logs, written from docs/audit.md alone: it imports nothing of src and shares no idea with
 * it (roots are computed recursively, not grown). It answers yes or no.
 */
import { createHash, createPublicKey, verify } from 'node:crypto';

const sha256 = (...parts: Uint8Array[]) => createHash('sha256').update(Buffer.concat(parts)).digest();
const leafOf = (line: string) => sha256(Buffer.of(0), Buffer.from(line, 'latin1'));
const nodeOf = (left: Buffer, right: Buffer) => sha256(Buffer.of(1), left, right);

type Note = { origin: string; size: number; root: string };

/** The checkpoint in a signed note, or undefined unless the key signed it. */
function openNote(note: string, verifierKey: string): Note | undefined {
  const [name = '', id, ...rest] = verifierKey.split('+');
  const key = Buffer.from(rest.join('+'), 'base64');
  const split = note.lastIndexOf('\n\n');
  if (split < 0 || key[0] !== 1 || key.length !== 33) return undefined;
  const text = note.slice(0, split + 1);
  const x = key.subarray(1).toString('base64url');
  const publicKey = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' });
  const good = note
    .slice(split + 2)
    .split('\n')
    .filter((line) => line.startsWith(`— ${name} `))
    .map((line) => Buffer.from(line.split(' ')[2]!, 'base64'))
    .filter((signature) => signature.subarray(0, 4).toString('hex') === id)
    .map((signature) => verify(null, Buffer.from(text), publicKey, signature.subarray(4)));
  if (good.length === 0 || good.includes(false)) return undefined;
  const [origin = '', size, root = ''] = text.split('\n');
  return { origin, size: Number(size), root };
}

/** A subtree of 2^level leaves that is known. */
type Part = { level: number; hash: Buffer };

/** The root of a row of parts that cover `size` leaves, by RFC 6962 §2.1; undefined when the parts do not fit. */
function rootOf(parts: Part[], size: number): Buffer | undefined {
  if (size === 0) return parts.length === 0 ? sha256() : undefined;
  if (parts.length === 1 && 2 ** parts[0]!.level === size) return parts[0]!.hash;
  if (size === 1 || parts.length < 2) return undefined;
  let left = 1;
  while (left * 2 < size) left *= 2;
  let taken = 0;
  let count = 0;
  while (taken < left && count < parts.length) taken += 2 ** parts[count++]!.level;
  if (taken !== left) return undefined;
  const a = rootOf(parts.slice(0, count), left);
  const b = rootOf(parts.slice(count), size - left);
  return a && b && nodeOf(a, b);
}

const sizeOf = (parts: Part[]) => parts.reduce((sum, { level }) => sum + 2 ** level, 0);
const seqOf = (line: string) => (JSON.parse(Buffer.from(line, 'latin1').toString('utf8')) as { seq: number }).seq;

/** The parts of a self-proving export; undefined when a line is not what it must be. */
function readProven(lines: string[]): { parts: Part[]; note: string } | undefined {
  const head = JSON.parse(Buffer.from(lines[0]!, 'latin1').toString('utf8')) as { proof: string; checkpoint: string };
  const parts: Part[] = [];
  let at = 0;
  for (let i = 1; i < lines.length; i++) {
    const { hash, level, leaf } = JSON.parse(lines[i]!) as { hash?: string; level?: number; leaf?: string };
    if (leaf !== undefined) {
      const entry = lines[++i];
      if (entry === undefined || leafOf(entry).toString('base64') !== leaf || seqOf(entry) !== at) return undefined;
      parts.push({ level: 0, hash: Buffer.from(leaf, 'base64') });
    } else if (hash !== undefined && level !== undefined && at % 2 ** level === 0) {
      parts.push({ level, hash: Buffer.from(hash, 'base64') });
    } else return undefined;
    at = sizeOf(parts);
  }
  return { parts, note: head.checkpoint };
}

function readWhole(lines: string[]): Part[] | undefined {
  if (lines.some((line, i) => seqOf(line) !== i)) return undefined;
  return lines.map((line) => ({ level: 0, hash: leafOf(line) }));
}

export type Trusted = { note?: string | undefined; older?: string | undefined; key: string };

/** Whether the file holds what was signed, and the log that was signed extends the older checkpoint. */
export function referenceVerify(file: string, { note, older, key }: Trusted): boolean {
  try {
    const lines = Buffer.from(file).toString('latin1').split('\n').slice(0, -1);
    const proven = file.startsWith('{"proof":"v1"') ? readProven(lines) : undefined;
    const parts = proven ? proven.parts : readWhole(lines);
    const signed = openNote(proven ? proven.note : (note ?? ''), key);
    if (!parts || !signed || sizeOf(parts) !== signed.size) return false;
    if (rootOf(parts, signed.size)?.toString('base64') !== signed.root) return false;
    if (older === undefined) return true;
    const before = openNote(older, key);
    if (!before || before.origin !== signed.origin) return false;
    let count = 0;
    for (let at = 0; at < before.size; count++) at += 2 ** parts[count]!.level;
    return rootOf(parts.slice(0, count), before.size)?.toString('base64') === before.root;
  } catch {
    return false;
  }
}
