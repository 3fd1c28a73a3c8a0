/**
 * Mounts: a part of the tree of secrets under another name, with settings for all of it. Owns the table mounts.
 *
 * A mount is a view: the secret `kv/db` of a mount `kv` at the prefix `kv` is the secret `kv/db` of the native interface,
 * under the same policies. Every tenant has the mount `secret`, which is the whole tree; it has a row only when its
 * settings were changed. No mount lies inside of another's path, and no two begin at the same prefix, so a request
 * names one mount and a secret obeys one: the innermost.
 */
import { LIMITS } from '../config.ts';
import { randomId } from '../crypto/token.ts';
import type { TenantId, Timestamp, Tx } from '../db/database.ts';
import { isUniqueViolation } from '../db/sql-error.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import type { Action } from '../policy/action.ts';
import { permit, preview } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import type { SecretPath, SecretPrefix } from './path.ts';

/** What holds for every secret under a mount, where the secret itself says nothing else. */
export type MountSettings = {
  readonly versionsKept: number | null;
  readonly casRequired: boolean;
  readonly deleteAfterSeconds: number | null;
};

export type Mount = MountSettings & {
  /** Without slashes around it: `kv`, `team/kv`. */
  readonly path: string;
  readonly id: string;
  readonly prefix: SecretPrefix;
  readonly version: 1 | 2;
  readonly description: string;
  readonly createdAt: Timestamp | null;
};

export type NewMount = {
  readonly path: SecretPath;
  readonly version: 1 | 2;
  /** The mount's path when absent. */
  readonly prefix?: SecretPath | undefined;
  readonly description?: string | undefined;
};

export type MountChange = { readonly description?: string | undefined } & {
  readonly [setting in keyof MountSettings]?: MountSettings[setting] | undefined;
};

export const MOUNTS_MAX = 1000;
export const DESCRIPTION_CHARS_MAX = 500;
const PREFIX_BYTES_MAX = 256;

/** The mount that every tenant has. */
export const WHOLE_TREE: Mount = Object.freeze({
  ...{ path: 'secret', id: 'aaaaaaaaaaaaaaaa', prefix: '' as const, version: 2 as const, description: 'all secrets' },
  ...{ createdAt: null, versionsKept: null, casRequired: false, deleteAfterSeconds: null },
});

const ask = (action: Action, path: string) => ({ action, resource: `mount:${path}` }) as const;

/**
 * Every mount that the caller may see, in path order. They are few: there is no paging. `refused` is what whoever may look,
 * and asked for what cannot be, is told: the entry says so too.
 */
export async function listMounts(vault: Vault, call: Call, refused?: VaultError): Promise<Mount[]> {
  const wanted = { action: 'mount.list', resource: 'mount:', anywhere: true } as const;
  return permit(vault, call, wanted, async (tx, { tenant, allows }) => {
    const mounts = await mountsOf(tx, tenant);
    const value = mounts.filter(({ path }) => allows(ask('mount.list', path)));
    return refused ? { value, refused } : { value };
  });
}

/** All of them, for a translation of paths into secrets: for whoever holds a token, and without an entry. */
export function allMountsFor(vault: Vault, call: Call): Promise<Mount[]> {
  return preview(vault, call, (tx, { tenant }) => mountsOf(tx, tenant));
}

export async function readMount(vault: Vault, call: Call, path: SecretPath): Promise<Mount> {
  return permit(vault, call, ask('mount.read', path), async (tx, { tenant }) => ({
    value: await mountNamed(tx, tenant, path),
  }));
}

/**
 * Which mount a path of a request belongs to, if any: for whoever holds a token, and without an entry, because what is
 * done there is asked for and recorded next.
 */
export async function mountOver(vault: Vault, call: Call, path: string): Promise<Mount | undefined> {
  return preview(vault, call, (tx, { tenant }) => mountOf(tx, tenant, path));
}

async function mountOf(tx: Tx, tenant: TenantId, path: string): Promise<Mount | undefined> {
  const [row] = await selectMounts(tx, tenant, tx`AND path = ANY (${[...ancestorsOf(path), path]})`);
  return row;
}

/** The same where nothing else is asked, so it has an entry of its own; `absent` is what whoever asks for none is told. */
export async function askForMount(
  vault: Vault,
  call: Call,
  path: string,
  absent?: VaultError,
): Promise<Mount | undefined> {
  const own = { action: 'auth.self', resource: 'token:self', ofAnyToken: true } as const;
  const act = async (tx: Tx, { tenant }: { readonly tenant: TenantId }) => {
    const value = await mountOf(tx, tenant, path);
    const notes = [{ details: { question: 'mount' } }];
    return value === undefined && absent !== undefined ? { value, notes, refused: absent } : { value, notes };
  };
  return permit(vault, call, own, act, { takesNoUse: true });
}

/** Throws `conflict` when a mount is there already, inside of it or around it, or begins at the same prefix. */
export async function createMount(vault: Vault, call: Call, asked: NewMount): Promise<Mount> {
  const { path, version, prefix = path, description = '' } = asked;
  checkDescription(description);
  if (prefix.length > PREFIX_BYTES_MAX) {
    throw new VaultError('invalid_request', `prefix: expected at most ${PREFIX_BYTES_MAX} characters.`);
  }
  // Its settings reach the secrets under the prefix: whoever may have a mount there may say them.
  const asks = [...new Set([path, prefix])].map((name) => ask('mount.write', name));
  return permit(vault, call, asks, async (tx, { tenant }) => {
    const others = await mountsOf(tx, tenant);
    const taken = others.find((other) => isOver(other.path, path) || isOver(path, other.path));
    if (taken) throw new VaultError('conflict', `path is already in use at ${taken.path}/`);
    if (others.length >= MOUNTS_MAX) throw new VaultError('conflict', `A tenant has at most ${MOUNTS_MAX} mounts.`);
    await insertMount(tx, tenant, { ...WHOLE_TREE, path, prefix, version, description, id: randomId() });
    return { value: await mountNamed(tx, tenant, path), notes: [{ details: { version, prefix } }] };
  });
}

export async function changeMount(vault: Vault, call: Call, path: SecretPath, change: MountChange): Promise<Mount> {
  const { versionsKept, deleteAfterSeconds, description } = change;
  if (versionsKept != null && !(versionsKept >= 1 && versionsKept <= LIMITS.secretVersionsKeptMax)) {
    throw new VaultError('invalid_request', `versions_kept: expected from 1 to ${LIMITS.secretVersionsKeptMax}.`);
  }
  if (deleteAfterSeconds != null) checkDeleteAfter(deleteAfterSeconds);
  if (description !== undefined) checkDescription(description);
  return permit(vault, call, ask('mount.write', path), async (tx, { tenant }) => {
    const before = await mountNamed(tx, tenant, path);
    if (before.path === WHOLE_TREE.path) await insertMount(tx, tenant, { ...WHOLE_TREE, id: randomId() });
    const given = Object.fromEntries(Object.entries(change).filter(([, value]) => value !== undefined));
    const after: Mount = { ...before, ...given };
    await tx`
      UPDATE mounts SET description = ${after.description}, versions_kept = ${after.versionsKept},
        cas_required = ${after.casRequired}, delete_after_seconds = ${after.deleteAfterSeconds}
      WHERE tenant_id = ${tenant} AND path = ${path}`;
    return {
      value: await mountNamed(tx, tenant, path),
      notes: [{ details: { changed: Object.keys(given).join(' ') } }],
    };
  });
}

/** Takes the name away. Refused while there are secrets under it: what a mount held must not turn up under another. */
export async function removeMount(vault: Vault, call: Call, path: SecretPath): Promise<void> {
  await permit(vault, call, ask('mount.delete', path), async (tx, { tenant }) => {
    const { prefix } = await mountNamed(tx, tenant, path);
    if (path === WHOLE_TREE.path) throw new VaultError('conflict', 'The mount secret is the whole tree and stays.');
    const [held] = await tx<{ path: string }[]>`
      SELECT path FROM secrets WHERE tenant_id = ${tenant} AND path > ${`${prefix}/`} AND path < ${`${prefix}/\x7f`} LIMIT 1`;
    if (held) {
      throw new VaultError(
        'conflict',
        `There are secrets under ${prefix}/: remove them first, with all their versions.`,
      );
    }
    await tx`DELETE FROM mounts WHERE tenant_id = ${tenant} AND path = ${path}`;
    return { value: undefined };
  });
}

/** What holds for secrets at these paths. Each look-up is by its own key, so that not all mounts are read. */
export async function settingsOf(
  tx: Tx,
  tenant: TenantId,
  paths: readonly SecretPath[],
): Promise<(path: SecretPath) => MountSettings> {
  const prefixes = new Set(['', ...paths.flatMap(ancestorsOf)]);
  const rows = await tx<(MountSettings & { prefix: string })[]>`
    SELECT m.* FROM unnest(${[...prefixes]}::text[]) AS wanted (prefix),
    LATERAL (SELECT prefix, versions_kept AS "versionsKept", cas_required AS "casRequired",
                    delete_after_seconds AS "deleteAfterSeconds"
             FROM mounts WHERE tenant_id = ${tenant} AND prefix = wanted.prefix LIMIT 1) m`;
  const found = new Map(rows.map((row) => [row.prefix, row]));
  return (path) =>
    ancestorsOf(path)
      .map((prefix) => found.get(prefix))
      .findLast(Boolean) ??
    found.get('') ??
    WHOLE_TREE;
}

/** Removes every mount of a tenant that is being deleted. */
export async function removeMounts(tx: Tx, tenant: TenantId): Promise<void> {
  await tx`DELETE FROM mounts WHERE tenant_id = ${tenant}`;
}

const DELETE_AFTER_SECONDS_MAX = 100 * 366 * 24 * 3600;

export function checkDeleteAfter(seconds: number): void {
  if (Number.isInteger(seconds) && seconds >= 1 && seconds <= DELETE_AFTER_SECONDS_MAX) return;
  throw new VaultError('invalid_request', 'delete_after: expected from 1 second to 100 years.');
}

function checkDescription(text: string): void {
  if (text.length <= DESCRIPTION_CHARS_MAX) return;
  throw new VaultError('invalid_request', `description: expected at most ${DESCRIPTION_CHARS_MAX} characters.`);
}

/** `a/b/c` lies under `a` and `a/b`. */
function ancestorsOf(path: string): string[] {
  const ancestors: string[] = [];
  for (let at = path.indexOf('/'); at !== -1; at = path.indexOf('/', at + 1)) ancestors.push(path.slice(0, at));
  return ancestors;
}

const isOver = (above: string, path: string) => path === above || path.startsWith(`${above}/`);

async function selectMounts(tx: Tx, tenant: TenantId, also: ReturnType<Tx>): Promise<Mount[]> {
  return tx<Mount[]>`
    SELECT path, mount_id AS id, prefix, version, description, created_at AS "createdAt",
           versions_kept AS "versionsKept", cas_required AS "casRequired", delete_after_seconds AS "deleteAfterSeconds"
    FROM mounts WHERE tenant_id = ${tenant} ${also} ORDER BY path`;
}

async function mountsOf(tx: Tx, tenant: TenantId): Promise<Mount[]> {
  const rows = await selectMounts(tx, tenant, tx``);
  const all = rows.some(({ path }) => path === WHOLE_TREE.path) ? rows : [...rows, WHOLE_TREE];
  return all.sort((a, b) => (a.path < b.path ? -1 : 1));
}

async function mountNamed(tx: Tx, tenant: TenantId, path: string): Promise<Mount> {
  const [row] = await selectMounts(tx, tenant, tx`AND path = ${path}`);
  if (row) return row;
  if (path === WHOLE_TREE.path) return WHOLE_TREE;
  throw new VaultError('not_found', `There is no mount ${path}.`);
}

async function insertMount(tx: Tx, tenant: TenantId, mount: Mount): Promise<void> {
  try {
    await tx`
      INSERT INTO mounts (tenant_id, path, mount_id, prefix, version, description, created_at)
      VALUES (${tenant}, ${mount.path}, ${mount.id}, ${mount.prefix}, ${mount.version}, ${mount.description}, bulla.now())
      ON CONFLICT (tenant_id, path) DO NOTHING`;
  } catch (error) {
    if (!isUniqueViolation(error)) throw error;
    throw new VaultError('conflict', `Another mount begins at the prefix ${mount.prefix}.`);
  }
}
