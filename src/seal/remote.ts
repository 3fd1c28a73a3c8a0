/**
 * What the seals whose key is elsewhere share: what they send, and how long they wait.
 *
 * A root key goes out as 32 bytes of SHA-256(`bulla/v1/seal-binding` ‖ encoded context) and then its own 32 bytes, so
 * that what comes back belongs to the row that it was asked for, whatever the other side binds. The answer is the other
 * side's own blob and is stored as it came.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { type Context, encodeContext, LABEL } from '../crypto/context.ts';
import { SecretBytes } from '../crypto/keys.ts';
import { VaultError } from '../errors.ts';
import type { Seal } from './seal.ts';

/** For one request to the other side: long enough for a slow one, short enough that nobody waits behind it. */
export const REMOTE_DEADLINE_MS = 3000;
export const REMOTE_BLOB_BYTES_MAX = 16 * 1024;

const BINDING_BYTES = 32;
const ROOT_KEY_BYTES = 32;

/** What is sent: binding and key. The caller wipes it. */
export function bound(context: Context, rootKey: SecretBytes): Uint8Array {
  return rootKey.use((bytes) => {
    const message = new Uint8Array(BINDING_BYTES + bytes.length);
    message.set(bindingOf(context));
    message.set(bytes, BINDING_BYTES);
    return message;
  });
}

/** The root key in what came back, which is wiped. */
export function unbound(context: Context, message: Uint8Array): SecretBytes {
  try {
    const whole = message.length === BINDING_BYTES + ROOT_KEY_BYTES;
    if (!whole || !timingSafeEqual(message.subarray(0, BINDING_BYTES), bindingOf(context))) {
      throw new VaultError(
        'integrity',
        'What the seal opened is not this root key: its row was moved, edited or damaged. Restore it from a backup.',
      );
    }
    return SecretBytes.fromBytes(message.subarray(BINDING_BYTES));
  } finally {
    message.fill(0);
  }
}

function bindingOf(context: Context): Buffer {
  return createHash('sha256').update(LABEL.sealBinding).update(encodeContext(context)).digest();
}

const PROBE: Context = { label: 'root-key', deployment: 'probe', version: 1 };

/** A key that encrypts and does not decrypt would lock the vault at the next start. */
export async function assertRoundTrip(seal: Seal): Promise<void> {
  const probe = SecretBytes.generate(ROOT_KEY_BYTES);
  try {
    const back = await seal.unwrap(PROBE, await seal.wrap(PROBE, probe));
    const same = back.use((a) => probe.use((b) => timingSafeEqual(a, b)));
    back.wipe();
    if (!same) throw new VaultError('sealed', `The ${seal.kind} seal gives back other bytes than it took.`);
  } finally {
    probe.wipe();
  }
}

/** A seal that asks the other side nothing any more once it is closed. */
export function remoteSeal(seal: Seal): Seal {
  let closed = false;
  const assertOpen = () => {
    if (closed) throw new VaultError('sealed', 'The vault is sealed.');
  };
  return {
    kind: seal.kind,
    fingerprint: seal.fingerprint,
    wrap: async (context, rootKey) => {
      assertOpen();
      return seal.wrap(context, rootKey);
    },
    unwrap: async (context, wrapped) => {
      assertOpen();
      return seal.unwrap(context, wrapped);
    },
    close: () => {
      closed = true;
      seal.close();
    },
  };
}

/** Names the key for people: 8 bytes of SHA-256 in hex, as long as the fingerprint of a key at hand. */
export function nameFingerprint(...names: readonly string[]): string {
  return createHash('sha256').update(JSON.stringify(names)).digest('hex').slice(0, 16);
}
