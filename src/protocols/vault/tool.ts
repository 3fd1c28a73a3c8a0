/** sys/tools: randomness, and hashes for whoever holds a token. */
import { createHash } from 'node:crypto';
import { readSelf } from '../../auth/token.ts';
import { makeRandom } from '../../transit/keyless.ts';
import { type Answer, data, json } from './answer.ts';
import { badRequest } from './error.ts';
import type { Route, VaultRequest } from './route.ts';

const HASHES: Readonly<Record<string, string>> = {
  ...{ 'sha2-224': 'sha224', 'sha2-256': 'sha256', 'sha2-384': 'sha384', 'sha2-512': 'sha512' },
  ...{ 'sha3-224': 'sha3-224', 'sha3-256': 'sha3-256', 'sha3-384': 'sha3-384', 'sha3-512': 'sha3-512' },
};

export function formatOf(text: string | undefined, fallback: 'hex' | 'base64'): 'hex' | 'base64' {
  const format = text ?? fallback;
  if (format === 'hex' || format === 'base64') return format;
  throw badRequest(`unsupported encoding format; must be "hex" or "base64"`);
}

/** Standard base64 with padding, and nothing else. */
export function bytesOf(text: string): Buffer {
  const bytes = Buffer.from(text, 'base64');
  if (bytes.toString('base64') === text) return bytes;
  throw badRequest('unable to decode input as base64: illegal base64 data at input byte 0');
}

/** Where it could come from, for clients that say so: all of it is the operating system's. */
const SOURCES = new Set(['platform', 'seal', 'all']);

async function random({ vault, call, at, fields }: VaultRequest): Promise<Answer> {
  const { source = 'platform', bytes: named } = SOURCES.has(at.bytes ?? '') ? { source: at.bytes } : at;
  if (!SOURCES.has(source)) throw badRequest(`unsupported entropy source ${JSON.stringify(source.slice(0, 64))}`);
  const count = named === undefined ? (fields.integer('bytes') ?? 32) : Number(named);
  const format = formatOf(fields.string('format'), 'base64');
  if (!Number.isInteger(count) || count < 1) throw badRequest('"bytes" cannot be less than 1');
  const bytes = await makeRandom(vault, call, { bytes: count });
  return data(json({ random_bytes: Buffer.from(bytes).toString(format) }), { mountType: 'system' });
}

async function hash({ vault, call, at, fields }: VaultRequest): Promise<Answer> {
  const algorithm = HASHES[at.algorithm ?? fields.string('algorithm') ?? 'sha2-256'];
  const format = formatOf(fields.string('format'), 'hex');
  if (algorithm === undefined) throw badRequest('unsupported algorithm');
  const input = bytesOf(fields.string('input') ?? '');
  await readSelf(vault, call);
  return data(json({ sum: createHash(algorithm).update(input).digest(format) }), { mountType: 'system' });
}

export const TOOL_ROUTES: readonly Route[] = [
  { pattern: 'tools/random', verbs: { POST: random } },
  { pattern: 'tools/random/{bytes}', verbs: { POST: random } },
  { pattern: 'tools/random/{source}/{bytes}', verbs: { POST: random } },
  { pattern: 'tools/hash', verbs: { POST: hash } },
  { pattern: 'tools/hash/{algorithm}', verbs: { POST: hash } },
];
