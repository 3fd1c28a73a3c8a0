/**
 * Cosignatures of witnesses (c2sp.org/tlog-cosignature, version 1, Ed25519): that a witness has seen a checkpoint, and that
 * it extends every one that it had seen before.
 *
 *     witness key  = name + "+" + key id in 8 hex digits + "+" + base64(0x04 ‖ public key)
 *     key id       = first 4 bytes of SHA-256(name ‖ 0x0A ‖ 0x04 ‖ public key)
 *     line         = "— " + name + " " + base64(key id ‖ time (8, big endian, seconds) ‖ signature (64))
 *     signed       = "cosignature/v1" LF "time " + seconds LF + the checkpoint's text
 */
import { hash } from 'node:crypto';
import { VaultError } from '../errors.ts';
import { verifySignature } from './note.ts';

export type WitnessKey = { readonly name: string; readonly keyId: Uint8Array; readonly publicKey: Uint8Array };

const COSIGNATURE = 0x04;
const KEY = /^([^+\s]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]+={0,2})$/;

/** Throws `invalid_request`: it comes from the configuration. */
export function parseWitnessKey(text: string): WitnessKey {
  const match = KEY.exec(text);
  const bytes = Buffer.from(match?.[3] ?? '', 'base64');
  const name = match?.[1] ?? '';
  const keyId = hash('sha256', Buffer.concat([Buffer.from(`${name}\n`), bytes]), 'buffer').subarray(0, 4);
  if (match === null || bytes[0] !== COSIGNATURE || bytes.length !== 33 || keyId.toString('hex') !== match[2]) {
    throw new VaultError('invalid_request', 'BULLA_WITNESS_KEY: expected name+id+base64 of a cosignature/v1 key.');
  }
  return { name, keyId, publicKey: bytes.subarray(1) };
}

/** The line of this witness among signature lines, when it is its cosignature of the text; otherwise undefined. */
export function findCosignature(lines: string, text: string, key: WitnessKey): string | undefined {
  return lines.split('\n').find((line) => {
    const match = /^— ([^ ]+) ([A-Za-z0-9+/]+={0,2})$/.exec(line);
    const bytes = Buffer.from(match?.[2] ?? '', 'base64');
    if (match?.[1] !== key.name || bytes.length !== 76 || Buffer.compare(bytes.subarray(0, 4), key.keyId) !== 0)
      return false;
    const signed = `cosignature/v1\ntime ${bytes.readBigUInt64BE(4)}\n${text}`;
    return verifySignature(key.publicKey, Buffer.from(signed), bytes.subarray(12));
  });
}
