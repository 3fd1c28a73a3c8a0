/**
 * The text of everything that a named key makes: which version made it, and the bytes.
 *
 *     ciphertext = "vault:v" version ":" base64        nonce ‖ ciphertext ‖ tag, or as crypto/named-key.ts says
 *     signature  = "vault:v" version ":" base64        or base64url without padding, for marshaling jws
 *     hmac       = "vault:v" version ":" base64
 *     password   = "vault:v" version ":" PHC string
 *
 * The prefix is HashiCorp's, so a text is the same through either interface. Base64 is taken in its one canonical
 * spelling (RFC 4648 §4 with padding, §5 without), a version without leading zeros.
 */
import { type Fault, fault } from './fault.ts';

export type VersionedText = { readonly version: number; readonly rest: string };

const PREFIX = 'vault:v';

export const formatText = (version: number, rest: string): string => `${PREFIX}${version}:${rest}`;

export function formatBytes(version: number, bytes: Uint8Array, encoding: 'base64' | 'base64url' = 'base64'): string {
  return formatText(version, Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString(encoding));
}

/** What is readable without the key. */
export function parseText(text: string): VersionedText | Fault {
  if (!text.startsWith(PREFIX)) return fault('no_prefix');
  const colon = text.indexOf(':', PREFIX.length);
  if (colon === -1) return fault('bad_fields');
  const digits = text.slice(PREFIX.length, colon);
  if (!/^[1-9][0-9]{0,9}$/.test(digits)) return fault('bad_version');
  return { version: Number(digits), rest: text.slice(colon + 1) };
}

/** Undefined when it is not the one spelling of its bytes. */
export function decodeBytes(text: string, encoding: 'base64' | 'base64url' = 'base64'): Uint8Array | undefined {
  const bytes = Buffer.from(text, encoding);
  return bytes.toString(encoding) === text ? bytes : undefined;
}
