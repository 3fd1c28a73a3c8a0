/**
 * Exporting keys: the one way in which bytes of a named key leave, for keys that were made or set to be exportable, by an
 * action of its own. Public halves are no secret and need neither.
 */
import { KEY_TYPES, type NamedKey } from '../crypto/named-key.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import { permit } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import { infoOf } from './key.ts';
import { type KeyName, keyAsk } from './name.ts';
import { loadKey, type UsableKey } from './use.ts';

export const EXPORT_KINDS = ['encryption-key', 'signing-key', 'hmac-key', 'public-key'] as const;

export type ExportKind = (typeof EXPORT_KINDS)[number];

export type Exported = {
  readonly name: string;
  readonly type: UsableKey['type'];
  /** The text of each version, oldest first. */
  readonly keys: readonly { readonly version: number; readonly key: string }[];
};

/** One version, the latest, or every one from min_decryption_version. Throws `not_found` and `invalid_request`. */
export async function exportKey(
  vault: Vault,
  call: Call,
  name: KeyName,
  { kind, version }: { kind: ExportKind; version?: number | 'latest' | undefined },
): Promise<Exported> {
  if (kind === 'public-key') return publicKeys(vault, call, name, version);
  return permit(vault, call, keyAsk('transit.export', name), async (tx, { tenant }) => {
    const key = await loadKey(vault, tx, tenant, name, 'all');
    checkKind(key, kind);
    if (!key.exportable) {
      throw new VaultError(
        'invalid_request',
        'The key is not exportable: only one made or set to be so is handed out.',
        {
          details: { reason: 'not_exportable' },
        },
      );
    }
    const keys: { version: number; key: string }[] = [];
    for (const wanted of versionsOf(key, version)) {
      keys.push({ version: wanted, key: textOf(await key.open(wanted), kind) });
    }
    const details = { kind, versions: keys.length };
    return { value: { name, type: key.type, keys }, notes: [{ version: keys.at(-1)!.version, details }] };
  });
}

async function publicKeys(
  vault: Vault,
  call: Call,
  name: KeyName,
  version: number | 'latest' | undefined,
): Promise<Exported> {
  return permit(vault, call, keyAsk('transit.read', name), async (tx, { tenant }) => {
    const { type, versions, latestVersion, minDecryptionVersion } = await infoOf(tx, tenant, name);
    const wanted = version === 'latest' ? latestVersion : version;
    const keys = versions
      .filter((one) => (wanted === undefined ? one.version >= minDecryptionVersion : one.version === wanted))
      .flatMap(({ version: made, publicKey }) => (publicKey === null ? [] : [{ version: made, key: publicKey }]))
      .reverse();
    if (KEY_TYPES[type].family !== 'ed25519' && keys.length === 0 && versions.every((one) => one.publicKey === null)) {
      throw wrongKind(type, 'public-key');
    }
    if (keys.length === 0) throw noVersion();
    return { value: { name, type, keys }, notes: [{ details: { kind: 'public-key', versions: keys.length } }] };
  });
}

function versionsOf(key: UsableKey, version: number | 'latest' | undefined): number[] {
  if (version === 'latest') return [key.latestVersion];
  if (version !== undefined) {
    if (!key.has(version) || version < key.minDecryptionVersion) throw noVersion();
    return [version];
  }
  const count = key.latestVersion - key.minDecryptionVersion + 1;
  return Array.from({ length: count }, (_, i) => key.minDecryptionVersion + i);
}

const noVersion = () =>
  new VaultError('not_found', 'The key has no such version, or it is below min_decryption_version.', {
    details: { reason: 'no_version' },
  });

function checkKind({ type, facts }: UsableKey, kind: ExportKind): void {
  const fits = kind === 'hmac-key' || (kind === 'encryption-key' ? facts.encrypts : facts.signs);
  if (!fits) throw wrongKind(type, kind);
}

const wrongKind = (type: string, kind: ExportKind) =>
  new VaultError('invalid_request', `A key of type ${type} has no ${kind}.`, { details: { reason: 'wrong_kind' } });

function textOf(key: NamedKey, kind: ExportKind): string {
  return kind === 'hmac-key' ? key.exportMac() : key.exportAs()!;
}
