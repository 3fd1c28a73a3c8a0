/**
 * What a node proves about its keys before it serves: the seal gives back what it wrapped, the root key is the one that
 * the database names, the newest data key of the system tenant seals and opens, and the key tables are not older than
 * what this node has seen. The data keys of other tenants are checked when they are first used (keyring.ts).
 *
 * The root mark is a file outside the database: whoever puts old key tables back does not put it back. (A whole old
 * database shows in the mark of the audit log too; this one shows key tables that were put back alone.)
 */
import { closeSync, existsSync, fsyncSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs';
import { VAULT_ACTOR } from '../audit/entry.ts';
import { open, seal } from '../crypto/envelope.ts';
import { SecretBytes } from '../crypto/keys.ts';
import { randomId } from '../crypto/token.ts';
import { SYSTEM, transaction } from '../db/database.ts';
import { VaultError } from '../errors.ts';
import { withoutToken } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import { activeDataKey, activeRootKey, rootKeyContext } from './keyring.ts';

const PROBE_BYTES = 32;

/** Throws `integrity` or `sealed`, naming the key that is wrong by its fingerprint. */
export async function proveKeys(vault: Vault): Promise<void> {
  await proveSeal(vault);
  const root = await activeRootKey(vault);
  const { fingerprint } = root;
  await transaction(vault.db, [SYSTEM], async (tx) => {
    const key = await activeDataKey(vault, tx, SYSTEM);
    const context = { label: 'kept-answer', tenant: SYSTEM, actor: 'self-test', key: randomId() } as const;
    const probe = Buffer.from(randomId());
    if (Buffer.from(open(key, context, seal(key, context, probe))).equals(probe)) return;
    throw new VaultError(
      'integrity',
      `The self-test failed: data key ${key.fingerprint} of the system tenant, under root key ${fingerprint}, does not open what it sealed.`,
    );
  });
}

async function proveSeal(vault: Vault): Promise<void> {
  const probe = SecretBytes.generate(PROBE_BYTES);
  const context = rootKeyContext(vault, 1);
  const back = await vault.seal.unwrap(context, await vault.seal.wrap(context, probe));
  const same = probe.use((sent) => back.use((got) => Buffer.from(sent).equals(got)));
  probe.wipe();
  back.wipe();
  if (same) return;
  throw new VaultError(
    'integrity',
    `The self-test failed: the ${vault.seal.kind} seal ${vault.seal.fingerprint} does not give back what it wrapped.`,
  );
}

// ---- the root mark ------------------------------------------------------------------------------------------------

type RootMark = { readonly deployment: string; readonly version: number; readonly fingerprint: string };

/**
 * Compares the active root key with the mark, and keeps it. Throws `integrity` when the database names an older one, or
 * another one of the same version, unless `acknowledged`: that is recorded. Without a mark, detection starts now.
 */
export async function checkRootMark(vault: Vault, file: string, acknowledged: boolean): Promise<void> {
  const found = await activeRootKey(vault);
  const mark = readMark(file);
  if (!mark) {
    vault.log.info({ file, root_key_version: found.version }, 'no root mark: detection of older keys starts now');
  } else if (mark.deployment !== vault.deploymentId) {
    throw new VaultError(
      'integrity',
      `${file} is the root mark of another deployment: point BULLA_DATA_DIR at this one's.`,
    );
  } else if (isOlder(found, mark)) {
    if (!acknowledged) {
      throw new VaultError(
        'integrity',
        `The database names root key version ${found.version} (${found.fingerprint}), but this node has seen version ${mark.version} (${mark.fingerprint}): older keys were put back. If that was on purpose, run "bulla audit acknowledge-rollback" and start again: that is recorded.`,
      );
    }
    await recordRollback(vault, mark, found.version);
  }
  keepRootMark(vault, file, found);
}

function isOlder(found: { version: number; fingerprint: string }, mark: RootMark): boolean {
  return found.version < mark.version || (found.version === mark.version && found.fingerprint !== mark.fingerprint);
}

/** Keeps the newest root key that this node has seen, durably; an equal one costs nothing. */
export async function followRootMark(vault: Vault, file: string): Promise<void> {
  const found = await activeRootKey(vault);
  const mark = readMark(file);
  if (!mark || found.version > mark.version) keepRootMark(vault, file, found);
}

function keepRootMark(
  vault: Vault,
  file: string,
  { version, fingerprint }: { version: number; fingerprint: string },
): void {
  const mark: RootMark = { deployment: vault.deploymentId, version, fingerprint };
  const descriptor = openSync(`${file}.new`, 'w', 0o600);
  try {
    writeSync(descriptor, `${JSON.stringify(mark)}\n`);
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
  renameSync(`${file}.new`, file);
}

function readMark(file: string): RootMark | undefined {
  if (!existsSync(file)) return undefined;
  try {
    const { deployment, version, fingerprint } = JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>;
    if (typeof deployment === 'string' && typeof version === 'number' && typeof fingerprint === 'string') {
      return { deployment, version, fingerprint };
    }
  } catch {
    // Said below.
  }
  throw new VaultError(
    'integrity',
    `${file} is no root mark: it was edited or damaged. Restore it, or remove it to start detection anew.`,
  );
}

async function recordRollback(vault: Vault, mark: RootMark, version: number): Promise<void> {
  const origin = { requestId: `rollback-${randomId()}`, source: '', protocol: 'vault' };
  const details = { marked_version: mark.version, marked_fingerprint: mark.fingerprint };
  await withoutToken(vault, origin, [SYSTEM], async () => ({
    value: undefined,
    records: [
      {
        ...{ tenant: SYSTEM, actor: VAULT_ACTOR, outcome: 'ok', version, details },
        ...{ action: 'root-key.acknowledge-rollback', resource: 'key:root' },
      },
    ],
  }));
}
