/**
 * A client certificate, whose key the TLS handshake has proven.
 *
 * Who somebody is, is role, issuer (by name and key), all names of subjectAltName and the certificate's own key, never
 * the CN: a copy, another authority's certificate of the same name, or a new key is somebody else (T-137). The chain is
 * followed anew at every login against the authority and the revocation lists of now, which are rows, so that no node
 * has older ones. The token is bound to the certificate (RFC 8705 §3).
 */
import { createHash } from 'node:crypto';
import { type Certificate, certificateReader, findPath, type Path } from '../../crypto/certificate.ts';
import { randomId } from '../../crypto/token.ts';
import { RetryTransaction, type TenantId, type Timestamp, type Tx } from '../../db/database.ts';
import { VaultError } from '../../errors.ts';
import { isFrom } from '../../policy/cidr.ts';
import { matchesName } from '../certificate-name.ts';
import type { LoginMethod, Proof, ProvenAccount } from '../method.ts';
import { limitsOf, type TokenSettings, tokenSettingColumns } from '../token-setting.ts';

export type CertificateCredentials = {
  readonly tenant: string;
  /** Undefined: the first role of the tenant, by name, whose client this is. */
  readonly role: string | undefined;
  /** As the connection has it: the client's own first, then what it sent along. */
  readonly chain: readonly Uint8Array[];
};

/** Undefined: there is none that can be read. */
type Prepared =
  | { readonly chain: readonly Certificate[]; readonly parseBundle: (pem: string) => Certificate[] }
  | string;

const CHAIN_MAX = 8;
const CHAIN_BYTES_MAX = 32 * 1024;

export const cert: LoginMethod<CertificateCredentials, Prepared> = {
  name: 'cert',
  tenantOf: ({ tenant }) => ({ name: tenant }),
  prepare: async (_vault, _tenant, { chain }) => {
    if (chain.length === 0) return 'no_certificate';
    const bytes = chain.reduce((sum, { length }) => sum + length, 0);
    if (chain.length > CHAIN_MAX || bytes > CHAIN_BYTES_MAX) return 'too_large';
    const reader = await certificateReader();
    try {
      return { chain: chain.map(reader.parse), parseBundle: reader.parseBundle };
    } catch (error) {
      if (error instanceof VaultError) return 'unreadable';
      throw error;
    }
  },
  prove: async (tx, tenant, { role: name }, prepared, { source }) => {
    const roles = await readRoles(tx, tenant, name);
    if (typeof prepared === 'string') return { refused: prepared };
    let proof: Proof = { refused: 'unknown_role' };
    for (const role of roles) {
      proof = await proveFor(tx, tenant, role, prepared, source);
      if ('account' in proof) break;
    }
    return proof;
  },
};

async function proveFor(
  tx: Tx,
  tenant: TenantId,
  role: RoleRow,
  prepared: Exclude<Prepared, string>,
  source: string,
): Promise<Proof> {
  const [leaf, ...presented] = prepared.chain as [Certificate, ...Certificate[]];
  const path = findPath(leaf, presented, prepared.parseBundle(role.certificates), role.nowMs);
  if ('refused' in path) return path;
  const revoked = await revocation(tx, tenant, role, path);
  if (revoked) return { refused: revoked };
  const { names, der } = leaf.subjectNames!;
  const matching = names.find((subject) => role.names.some((pattern) => matchesName(pattern, subject)));
  if (matching === undefined) return { refused: 'other_names' };
  if (role.tokenCidrs !== null && !isFrom(role.tokenCidrs, source)) return { refused: 'other_network' };
  // No token outlives what it was given for.
  const endMs = Math.min(...path.map(({ notAfterMs }) => notAfterMs));
  if (endMs - role.nowMs < 1000) return { refused: 'expired' };
  const identity = identityOf(role, path, der);
  const findOrMake = async (within: Tx) => {
    const userId = await accountOf(within, tenant, role.roleId, identity);
    await remember(within, tenant, userId, role.authorityId, path);
    return userId;
  };
  return proofOf(role, path[0]!, { findOrMake }, matching, new Date(endMs).toISOString());
}

function proofOf(role: RoleRow, leaf: Certificate, account: ProvenAccount, matching: string, expiresAt: string): Proof {
  return {
    account,
    token: {
      ...limitsOf(role),
      policies: role.policies,
      certificate: { thumbprint: leaf.thumbprint, expiresAt },
      metadata: { cert_name: role.name, subject: matching, serial_number: leaf.serial },
    },
    details: {
      role: role.name,
      authority: role.authority,
      subject: matching,
      serial: leaf.serial,
      thumbprint: leaf.thumbprint.toString('hex'),
    },
  };
}

const SETTING_COLUMNS = tokenSettingColumns('r');

type RoleRow = TokenSettings & {
  readonly roleId: string;
  readonly name: string;
  readonly names: readonly string[];
  readonly policies: readonly string[];
  readonly authorityId: string;
  readonly authority: string;
  readonly certificates: string;
  readonly listRequired: boolean;
  readonly staleList: 'refuse' | 'accept';
  readonly nowMs: number;
};

/** How many are tried for a client that names none. */
const ROLES_TRIED_MAX = 100;

/** Held until the login has committed: what takes the role or the authority away waits, and then ends the token. */
async function readRoles(tx: Tx, tenant: TenantId, name: string | undefined): Promise<RoleRow[]> {
  const rows = await tx<(Omit<RoleRow, 'nowMs'> & { now: Timestamp })[]>`
    SELECT r.role_id AS "roleId", r.name, r.names, r.policies, ${tx.unsafe(SETTING_COLUMNS)},
           a.authority_id AS "authorityId", a.name AS authority, a.certificates, a.list_required AS "listRequired",
           a.stale_list AS "staleList", bulla.now() AS now
    FROM certificate_roles r JOIN authorities a USING (tenant_id, authority_id)
    WHERE r.tenant_id = ${tenant} ${name === undefined ? tx`` : tx`AND r.name = ${name}`}
    ORDER BY r.name LIMIT ${ROLES_TRIED_MAX} FOR SHARE`;
  return rows.map((row) => ({ ...row, nowMs: Date.parse(row.now) }));
}

/** Every certificate of the path but the authority's own, in the list of whoever issued it. */
async function revocation(tx: Tx, tenant: TenantId, role: RoleRow, path: Path): Promise<string | undefined> {
  for (let i = 0; i + 1 < path.length; i += 1) {
    const [below, issuer] = [path[i]!, path[i + 1]!];
    const [list] = await tx<{ revoked: boolean; stale: boolean }[]>`
      SELECT ${below.serial} = ANY (serials) AS revoked, next_update < bulla.now() AS stale FROM revocation_lists
      WHERE tenant_id = ${tenant} AND authority_id = ${role.authorityId} AND issuer_key = ${issuer.keyHash} FOR SHARE`;
    if (list?.revoked) return 'revoked';
    if (!list && role.listRequired) return 'no_revocation_list';
    if (list?.stale && role.staleList === 'refuse') return 'stale_revocation_list';
  }
  return undefined;
}

/** Injective: each part has its length before it. */
function identityOf(role: RoleRow, path: Path, names: Uint8Array): Buffer {
  const [leaf, issuer] = path as [Certificate, Certificate];
  const hash = createHash('sha256');
  for (const part of [Buffer.from(role.roleId), leaf.issuer, issuer.keyHash, names, leaf.keyHash]) {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(part.length);
    hash.update(length).update(part);
  }
  return hash.digest();
}

/** Made at the first login. Nothing is merged by its name, which says nothing. */
async function accountOf(tx: Tx, tenant: TenantId, roleId: string, identity: Buffer): Promise<string> {
  const [known] = await tx<{ userId: string }[]>`
    SELECT u.user_id AS "userId"
    FROM certificate_identities i JOIN users u USING (tenant_id, user_id)
    WHERE i.tenant_id = ${tenant} AND i.identity = ${identity} FOR NO KEY UPDATE OF u`;
  if (known) {
    await tx`
      UPDATE certificate_identities SET last_seen_at = bulla.now() WHERE tenant_id = ${tenant} AND identity = ${identity}`;
    return known.userId;
  }
  await removeForgotten(tx, tenant, roleId);
  const userId = randomId();
  const name = `cert-${userId}`;
  await tx`
    INSERT INTO users (tenant_id, user_id, name, kind, password_hash, policies, created_at)
    VALUES (${tenant}, ${userId}, ${name}, 'external', '!', '{}', bulla.now())`;
  const made = await tx`
    INSERT INTO certificate_identities (tenant_id, identity, role_id, user_id, last_seen_at)
    VALUES (${tenant}, ${identity}, ${roleId}, ${userId}, bulla.now()) ON CONFLICT DO NOTHING RETURNING identity`;
  // The same certificate has logged in twice at once, for the first time.
  if (made.length === 0) throw new RetryTransaction();
  return userId;
}

const FORGOTTEN_AT_ONCE = 20;

/**
 * Each new key is a new account, so those that nobody has come back to go, unless somebody gave or forbade them
 * something.
 */
async function removeForgotten(tx: Tx, tenant: TenantId, roleId: string): Promise<void> {
  await tx`
    WITH forgotten AS MATERIALIZED (
      SELECT i.user_id FROM certificate_identities i
      WHERE i.tenant_id = ${tenant} AND i.role_id = ${roleId} AND i.last_seen_at < (SELECT bulla.now() - interval '90 days')
        AND NOT EXISTS (SELECT FROM tokens k WHERE k.tenant_id = ${tenant} AND k.user_id = i.user_id AND k.expires_at > bulla.now())
      ORDER BY i.last_seen_at LIMIT ${FORGOTTEN_AT_ONCE} FOR UPDATE OF i SKIP LOCKED)
    DELETE FROM users u USING forgotten f
    WHERE u.tenant_id = ${tenant} AND u.user_id = f.user_id AND u.policies = '{}' AND NOT u.disabled`;
}

async function remember(tx: Tx, tenant: TenantId, userId: string, authorityId: string, path: Path): Promise<void> {
  const leaf = path[0]!;
  const steps = path.slice(0, -1).map(({ serial }, i) => `${path[i + 1]!.keyHash.toString('hex')}.${serial}`);
  await tx`DELETE FROM client_certificates WHERE tenant_id = ${tenant} AND user_id = ${userId} AND not_after < bulla.now()`;
  await tx`
    INSERT INTO client_certificates (tenant_id, user_id, thumbprint, authority_id, path, not_after, last_seen_at)
    VALUES (${tenant}, ${userId}, ${leaf.thumbprint}, ${authorityId}, ${steps}, ${new Date(leaf.notAfterMs).toISOString()}, bulla.now())
    ON CONFLICT (tenant_id, user_id, thumbprint) DO UPDATE
      SET path = excluded.path, authority_id = excluded.authority_id, last_seen_at = excluded.last_seen_at`;
}
