/**
 * The Ed25519 key that signs checkpoints: one per deployment, versioned, wrapped by the root key.
 *
 *     active ──rotate──▶ retiring (signs beside the new one) ──overlap over──▶ destroyed (verifies for ever)
 *
 * During the overlap every checkpoint carries the signatures of both, so a verifier that still holds the old key follows
 * without a gap. The public keys stay; the seed of a destroyed key is gone from the database.
 */
import { VAULT_ACTOR } from '../audit/entry.ts';
import { type Key, SecretBytes } from '../crypto/keys.ts';
import { NoteSigner, parseVerifierKey } from '../crypto/note.ts';
import { randomId } from '../crypto/token.ts';
import { SYSTEM, type Timestamp, type Tx, transaction } from '../db/database.ts';
import { isUniqueViolation } from '../db/sql-error.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import { permit, withoutToken } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import { activeRootKey, rootKey } from './keyring.ts';
import { insertSystemKey } from './rotation.ts';

export type LogKeyInfo = {
  readonly version: number;
  readonly state: 'active' | 'retiring' | 'destroyed';
  /** Base64 of the 32 bytes. */
  readonly publicKey: string;
  readonly createdAt: Timestamp;
};

const SEED_BYTES = 32;
const RESOURCE = 'key:log';

/** Makes a version of the key, wrapped by `wrapper`; the caller has demoted the one before. */
export async function insertLogKey(tx: Tx, version: number, wrapper: Key): Promise<LogKeyInfo> {
  const seed = SecretBytes.generate(SEED_BYTES);
  try {
    const publicKey = publicKeyOf(seed);
    await insertSystemKey(tx, 'log-signing', version, seed, wrapper);
    const [row] = await tx<{ createdAt: Timestamp }[]>`
      UPDATE system_keys SET public_key = ${publicKey} WHERE purpose = 'log-signing' AND version = ${version}
      RETURNING created_at AS "createdAt"`;
    return { version, state: 'active', publicKey: Buffer.from(publicKey).toString('base64'), ...row! };
  } finally {
    seed.wipe();
  }
}

function publicKeyOf(seed: SecretBytes): Uint8Array {
  const signer = new NoteSigner('bulla', seed);
  try {
    return parseVerifierKey(signer.verifierKey).publicKey;
  } finally {
    signer.wipe();
  }
}

/** Makes the first log key where a vault has none: those that were initialised before there were checkpoints. */
export async function ensureLogKey(vault: Vault): Promise<void> {
  const { version: root } = await activeRootKey(vault);
  const origin = { requestId: `start-${randomId()}`, source: '', protocol: 'vault' };
  try {
    await withoutToken(vault, origin, [SYSTEM], async (tx) => {
      const rows = await tx`SELECT 1 FROM system_keys WHERE purpose = 'log-signing' LIMIT 1`;
      if (rows.length > 0) return { value: undefined, records: [] };
      const key = await insertLogKey(tx, 1, await rootKey(vault, root));
      const said = { tenant: SYSTEM, actor: VAULT_ACTOR, outcome: 'ok' } as const;
      return { value: undefined, records: [{ ...said, action: 'log-key.create', resource: RESOURCE, ...saidOf(key) }] };
    });
  } catch (error) {
    // Another node was first.
    if (!isUniqueViolation(error)) throw error;
  }
}

const saidOf = ({ version, publicKey }: LogKeyInfo) => ({ version, details: { public_key: publicKey } });

/** A new key signs from here on, and the old one beside it until the overlap is over. */
export async function rotateLogKey(vault: Vault, call: Call): Promise<LogKeyInfo> {
  const { version: root } = await activeRootKey(vault);
  return permit(vault, call, { action: 'log-key.rotate', resource: RESOURCE }, async (tx) => {
    const wrapper = await rootKey(vault, root);
    const [old] = await tx<{ version: number }[]>`
      UPDATE system_keys SET state = 'retiring' WHERE purpose = 'log-signing' AND state = 'active' RETURNING version`;
    if (!old) throw new VaultError('conflict', 'Another rotation of the log key is running: look at GET /audit/key.');
    const key = await insertLogKey(tx, old.version + 1, wrapper);
    return { value: key, notes: [saidOf(key)] };
  });
}

/** Destroys keys whose successor has signed for longer than the overlap. */
export async function destroyRetiredLogKeys(vault: Vault): Promise<void> {
  const { logKeyOverlapSeconds } = vault.config;
  const due = await transaction(vault.db, [SYSTEM], (tx) => dueVersions(tx, logKeyOverlapSeconds, false));
  if (due.length === 0) return;
  const origin = { requestId: `log-key-${randomId()}`, source: '', protocol: 'vault' };
  await withoutToken(vault, origin, [SYSTEM], async (tx) => {
    const versions = await dueVersions(tx, logKeyOverlapSeconds, true);
    for (const version of versions) {
      await tx`DELETE FROM system_key_material WHERE purpose = 'log-signing' AND version = ${version}`;
      await tx`
        UPDATE system_keys SET state = 'destroyed', destroyed_at = bulla.now()
        WHERE purpose = 'log-signing' AND version = ${version}`;
    }
    const said = { tenant: SYSTEM, actor: VAULT_ACTOR, outcome: 'ok', action: 'log-key.destroy' } as const;
    return { value: undefined, records: versions.map((version) => ({ ...said, resource: RESOURCE, version })) };
  });
}

async function dueVersions(tx: Tx, overlapSeconds: number, lock: boolean): Promise<number[]> {
  const rows = await tx<{ version: number }[]>`
    SELECT old.version FROM system_keys old JOIN system_keys next
      ON next.purpose = old.purpose AND next.version = old.version + 1
    WHERE old.purpose = 'log-signing' AND old.state = 'retiring'
      AND next.created_at < bulla.now() - make_interval(secs => ${overlapSeconds})
    ${lock ? tx`FOR UPDATE OF old` : tx``}`;
  return rows.map((row) => row.version);
}
