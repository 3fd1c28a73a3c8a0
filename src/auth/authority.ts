/**
 * Authorities whose clients a tenant believes, their revocation lists, and the roles that say what such clients may do.
 * Owns those tables; who has come is methods/cert.ts's.
 *
 * What takes something away ends the tokens that stand on it, in the same transaction, on every node: a list that names a
 * certificate, another bundle, another role. Lists are read in the transaction of every login, so that none is older
 * on one node than on another, and an older list never replaces a newer one.
 */
import { detailsNaming } from '../audit/entry.ts';
import { type Certificate, certificateReader, issuerFlaw, type RevocationList } from '../crypto/certificate.ts';
import { randomId } from '../crypto/token.ts';
import { RetryTransaction, type TenantId, type Timestamp, type Tx } from '../db/database.ts';
import { parseName } from '../db/name.ts';
import { type Page, type PageAsk, visiblePage } from '../db/page.ts';
import { VaultError } from '../errors.ts';
import type { Ask, Call } from '../policy/access.ts';
import type { Action } from '../policy/action.ts';
import { checkEachGiven, checkGiven } from '../policy/give.ts';
import { permit, precheck } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import { parsePattern } from './certificate-name.ts';
import { checkTokenSettings } from './token-limit.ts';
import {
  changed,
  changesOf,
  NO_TOKEN_SETTINGS,
  type TokenSettings,
  type TokenSettingsWish,
  tokenSettingColumns,
  tokenSettingRow,
} from './token-setting.ts';
import { checkPolicies, requirePolicies } from './user.ts';

export type AuthorityInfo = {
  readonly name: string;
  readonly certificates: string;
  /** Whether a login needs a list of every issuer. */
  readonly listRequired: boolean;
  /** What a list that is past its next update does to logins. */
  readonly staleList: 'refuse' | 'accept';
  readonly lists: readonly {
    readonly issuerKey: string;
    readonly thisUpdate: Timestamp;
    readonly nextUpdate: Timestamp;
    readonly revoked: number;
  }[];
  readonly createdAt: Timestamp;
  readonly updatedAt: Timestamp;
};

export type AuthorityChange = {
  readonly certificates: string;
  readonly listRequired: boolean;
  readonly staleList: 'refuse' | 'accept';
};

export type CertificateRole = TokenSettings & {
  readonly name: string;
  readonly authority: string;
  readonly names: readonly string[];
  readonly policies: readonly string[];
  readonly createdAt: Timestamp;
  readonly updatedAt: Timestamp;
};

export type CertificateRoleChange = TokenSettingsWish & {
  readonly authority: string;
  readonly names: readonly string[];
  readonly policies: readonly string[];
};

const ask = (action: Action, noun: 'authority' | 'cert-role', name: string): Ask => ({
  action,
  resource: `${noun}:${parseName(name, 'name')}`,
});

// ---- authorities ----------------------------------------------------------------------------------------------------

const AUTHORITY_COLUMNS = `a.name, a.certificates, a.list_required AS "listRequired", a.stale_list AS "staleList",
  a.created_at AS "createdAt", a.updated_at AS "updatedAt", a.authority_id AS id`;

type AuthorityRow = Omit<AuthorityInfo, 'lists'> & { readonly id: string };

export async function listAuthorities(vault: Vault, call: Call, page: PageAsk): Promise<Page<AuthorityInfo>> {
  const question = { action: 'authority.list', resource: 'authority:', anywhere: true } as const;
  return permit(vault, call, question, async (tx, { tenant, allows }) => {
    const found = await visiblePage(
      page,
      (after, rows) => tx<AuthorityRow[]>`
        SELECT ${tx.unsafe(AUTHORITY_COLUMNS)} FROM authorities a
        WHERE a.tenant_id = ${tenant} AND a.name > ${after} ORDER BY a.name LIMIT ${rows}`,
      ({ name }) => name,
      ({ name }) => allows({ action: 'authority.list', resource: `authority:${name}` }),
    );
    return { value: { ...found, items: await withLists(tx, tenant, found.items) } };
  });
}

export async function readAuthority(vault: Vault, call: Call, name: string): Promise<AuthorityInfo> {
  return permit(vault, call, ask('authority.read', 'authority', name), async (tx, { tenant }) => {
    const [found] = await withLists(tx, tenant, [await authorityNamed(tx, tenant, name)]);
    return { value: found! };
  });
}

/** Made, or replaced: then the tokens of its clients end. Throws `invalid_request` for what is no authority. */
export async function putAuthority(
  vault: Vault,
  call: Call,
  name: string,
  change: AuthorityChange,
): Promise<AuthorityInfo> {
  const wanted = ask('authority.write', 'authority', name);
  await precheck(vault, call, wanted);
  const certificates = await checkedBundle(change.certificates);
  return permit(vault, call, wanted, async (tx, granted) => {
    const { tenant } = granted;
    const { listRequired, staleList } = change;
    // A role that is being made on it waits, or has been waited for: its policies are among those below.
    const before = await tx`SELECT 1 FROM authorities WHERE tenant_id = ${tenant} AND name = ${name} FOR UPDATE`;
    // Whoever says whose certificates count can be whomever the roles on them let in.
    await checkEachGiven(tx, granted, await policiesBehind(tx, tenant, name));
    const [row] = await tx<{ id: string; revision: number }[]>`
      INSERT INTO authorities (tenant_id, name, authority_id, certificates, list_required, stale_list, created_at, updated_at)
      VALUES (${tenant}, ${name}, ${randomId()}, ${certificates}, ${listRequired}, ${staleList}, bulla.now(), bulla.now())
      ON CONFLICT (tenant_id, name) DO UPDATE
        SET certificates = excluded.certificates, list_required = excluded.list_required, stale_list = excluded.stale_list,
            revision = authorities.revision + 1, updated_at = excluded.updated_at
      RETURNING authority_id AS id, revision`;
    if (before.length === 0 && row!.revision > 1) throw new RetryTransaction();
    const ended = row!.revision === 1 ? 0 : await endTokensUnder(tx, tenant, row!.id);
    const [found] = await withLists(tx, tenant, [await authorityNamed(tx, tenant, name)]);
    return { value: found!, notes: [{ details: { tokens_ended: ended } }], revokes: row!.revision > 1 };
  });
}

/** What each role on the authority gives. */
async function policiesBehind(tx: Tx, tenant: TenantId, name: string): Promise<(readonly string[])[]> {
  const rows = await tx<{ policies: string[] }[]>`
    SELECT r.policies FROM certificate_roles r JOIN authorities a USING (tenant_id, authority_id)
    WHERE r.tenant_id = ${tenant} AND a.name = ${name}`;
  return rows.map(({ policies }) => policies);
}

/** Throws `conflict` while a role names it. */
export async function deleteAuthority(vault: Vault, call: Call, name: string): Promise<void> {
  await permit(vault, call, ask('authority.delete', 'authority', name), async (tx, { tenant }) => {
    const { id } = await authorityNamed(tx, tenant, name, 'lock');
    const roles = await tx<{ name: string }[]>`
      SELECT name FROM certificate_roles WHERE tenant_id = ${tenant} AND authority_id = ${id} ORDER BY name LIMIT 1`;
    if (roles[0]) throw new VaultError('conflict', `The role ${roles[0].name} stands on it: delete that first.`);
    await tx`DELETE FROM authorities WHERE tenant_id = ${tenant} AND authority_id = ${id}`;
    return { value: undefined, revokes: true };
  });
}

/** PEM that holds nothing but certificates of authorities, each fit to have issued a client's. */
async function checkedBundle(pem: string): Promise<string> {
  const { parseBundle } = await certificateReader();
  const bundle = parseBundle(pem);
  for (const [i, certificate] of bundle.entries()) {
    const flaw = issuerFlaw(certificate, 0);
    if (flaw)
      throw new VaultError('invalid_request', `certificates: number ${i + 1} cannot issue for clients (${flaw}).`);
  }
  return bundle.map(({ x509 }) => x509.toString()).join('');
}

async function authorityNamed(tx: Tx, tenant: TenantId, name: string, lock?: 'lock' | 'keep'): Promise<AuthorityRow> {
  const [row] = await tx<AuthorityRow[]>`
    SELECT ${tx.unsafe(AUTHORITY_COLUMNS)} FROM authorities a
    WHERE a.tenant_id = ${tenant} AND a.name = ${name}
    ${lock === 'lock' ? tx`FOR UPDATE` : lock === 'keep' ? tx`FOR SHARE` : tx``}`;
  if (!row) throw new VaultError('not_found', `There is no authority ${name}.`);
  return row;
}

async function withLists(tx: Tx, tenant: TenantId, rows: readonly AuthorityRow[]): Promise<AuthorityInfo[]> {
  const lists = await tx<(AuthorityInfo['lists'][number] & { id: string })[]>`
    SELECT authority_id AS id, encode(issuer_key, 'hex') AS "issuerKey", this_update AS "thisUpdate",
           next_update AS "nextUpdate", cardinality(serials) AS revoked
    FROM revocation_lists WHERE tenant_id = ${tenant} AND authority_id = ANY (${rows.map(({ id }) => id)}) ORDER BY 1, 2`;
  return rows.map(({ id, ...row }) => ({
    ...row,
    lists: lists.filter((list) => list.id === id).map(({ id: _, ...list }) => list),
  }));
}

// ---- revocation lists -----------------------------------------------------------------------------------------------

/** How far ahead of us the clock of an authority may be. */
const AHEAD_MS_MAX = 5 * 60 * 1000;

/**
 * Takes a list that one of the authority's certificates has signed, and ends the tokens of those in it. Throws
 * `invalid_request` for another's or one that is not yet, `conflict` for one that is older than what is here.
 */
export async function putRevocationList(vault: Vault, call: Call, name: string, pem: string): Promise<AuthorityInfo> {
  const wanted = ask('authority.write', 'authority', name);
  await precheck(vault, call, wanted);
  const reader = await certificateReader();
  const list = reader.parseRevocationList(pem);
  const before = await permit(vault, call, wanted, async (tx, { tenant }) => ({
    value: await authorityNamed(tx, tenant, name),
    notes: [],
  }));
  const issuer = await issuerOf(list, reader.parseBundle(before.certificates));
  return permit(vault, call, wanted, async (tx, { tenant }) => {
    const now = await authorityNamed(tx, tenant, name, 'lock');
    if (now.certificates !== before.certificates)
      throw new VaultError('conflict', 'The authority changed meanwhile; try again.');
    await keepList(tx, tenant, now.id, issuer, list);
    const ended = await endTokensIn(tx, tenant, now.id, issuer, list);
    const [found] = await withLists(tx, tenant, [now]);
    const details = { revoked: list.serials.length, next_update: list.nextUpdate.toISOString(), tokens_ended: ended };
    return { value: found!, notes: [{ details }], revokes: true };
  });
}

async function issuerOf(list: RevocationList, bundle: readonly Certificate[]): Promise<Certificate> {
  for (const certificate of bundle) if (await list.isSignedBy(certificate)) return certificate;
  throw new VaultError('invalid_request', 'crl: none of the certificates of this authority has signed the list.');
}

async function keepList(
  tx: Tx,
  tenant: TenantId,
  id: string,
  { keyHash }: Certificate,
  list: RevocationList,
): Promise<void> {
  const [clock] = await tx<{ now: Timestamp }[]>`SELECT bulla.now() AS now`;
  if (list.thisUpdate.getTime() > Date.parse(clock!.now) + AHEAD_MS_MAX) {
    throw new VaultError('invalid_request', 'crl: the list is not of today: its thisUpdate is still to come.');
  }
  const [thisUpdate, nextUpdate] = [list.thisUpdate.toISOString(), list.nextUpdate.toISOString()];
  const kept = await tx`
    INSERT INTO revocation_lists AS l (tenant_id, authority_id, issuer_key, this_update, next_update, serials, received_at)
    VALUES (${tenant}, ${id}, ${keyHash}, ${thisUpdate}, ${nextUpdate}, ${[...list.serials]}, bulla.now())
    ON CONFLICT (tenant_id, authority_id, issuer_key) DO UPDATE
      SET this_update = excluded.this_update, next_update = excluded.next_update, serials = excluded.serials,
          received_at = excluded.received_at
      WHERE l.this_update <= excluded.this_update
    RETURNING l.this_update`;
  if (kept.length === 0) throw new VaultError('conflict', 'crl: a newer list of this authority is here already.');
}

/** Of clients whose certificate, or one above it, the list names. */
async function endTokensIn(
  tx: Tx,
  tenant: TenantId,
  id: string,
  { keyHash }: Certificate,
  { serials }: RevocationList,
): Promise<number> {
  const issuerKey = keyHash.toString('hex');
  const rows = await tx`
    DELETE FROM tokens USING client_certificates c
    WHERE tokens.tenant_id = ${tenant} AND c.tenant_id = ${tenant} AND c.authority_id = ${id}
      AND tokens.user_id = c.user_id AND tokens.certificate = c.thumbprint
      AND c.path && ${serials.map((serial) => `${issuerKey}.${serial}`)}::text[]
    RETURNING tokens.token_id`;
  return rows.length;
}

async function endTokensUnder(tx: Tx, tenant: TenantId, authorityId: string): Promise<number> {
  const rows = await tx`
    DELETE FROM tokens WHERE tenant_id = ${tenant} AND user_id IN (
      SELECT i.user_id FROM certificate_identities i JOIN certificate_roles r USING (tenant_id, role_id)
      WHERE i.tenant_id = ${tenant} AND r.authority_id = ${authorityId})
    RETURNING token_id`;
  return rows.length;
}

// ---- roles ----------------------------------------------------------------------------------------------------------

const ROLE_COLUMNS = `r.name, r.names, r.policies, ${tokenSettingColumns('r')},
  r.created_at AS "createdAt", r.updated_at AS "updatedAt",
  (SELECT a.name FROM authorities a WHERE a.tenant_id = r.tenant_id AND a.authority_id = r.authority_id) AS authority`;

const NAMES_MAX = 64;

export async function listCertificateRoles(vault: Vault, call: Call, page: PageAsk): Promise<Page<CertificateRole>> {
  const question = { action: 'cert-role.list', resource: 'cert-role:', anywhere: true } as const;
  return permit(vault, call, question, async (tx, { tenant, allows }) => ({
    value: await visiblePage(
      page,
      (after, rows) => tx<CertificateRole[]>`
        SELECT ${tx.unsafe(ROLE_COLUMNS)} FROM certificate_roles r
        WHERE r.tenant_id = ${tenant} AND r.name > ${after} ORDER BY r.name LIMIT ${rows}`,
      ({ name }) => name,
      ({ name }) => allows({ action: 'cert-role.list', resource: `cert-role:${name}` }),
    ),
  }));
}

export async function readCertificateRole(vault: Vault, call: Call, name: string): Promise<CertificateRole> {
  return permit(vault, call, ask('cert-role.read', 'cert-role', name), async (tx, { tenant }) => ({
    value: await roleNamed(tx, tenant, name),
  }));
}

/** Made, or replaced: then the tokens that it gave end. */
export async function putCertificateRole(
  vault: Vault,
  call: Call,
  name: string,
  change: CertificateRoleChange,
): Promise<CertificateRole> {
  const { names, policies, settings } = checkRole(vault, change);
  return permit(vault, call, ask('cert-role.write', 'cert-role', name), async (tx, granted) => {
    const { tenant } = granted;
    await requirePolicies(tx, tenant, policies);
    await checkGiven(tx, granted, { before: [], after: policies });
    const authority = await authorityNamed(tx, tenant, parseName(change.authority, 'authority'), 'keep');
    const [row] = await tx<{ id: string; old: boolean }[]>`
      INSERT INTO certificate_roles (tenant_id, name, role_id, authority_id, names, policies, created_at, updated_at)
      VALUES (${tenant}, ${name}, ${randomId()}, ${authority.id}, ${names}, ${policies}, bulla.now(), bulla.now())
      ON CONFLICT (tenant_id, name) DO UPDATE
        SET authority_id = excluded.authority_id, names = excluded.names, policies = excluded.policies,
            updated_at = excluded.updated_at
      RETURNING role_id AS id, xmax <> 0 AS old`;
    await tx`
      UPDATE certificate_roles SET ${tx(tokenSettingRow(settings))} WHERE tenant_id = ${tenant} AND role_id = ${row!.id}`;
    const ended = row!.old ? await endTokensOf(tx, tenant, row!.id) : 0;
    const { said, lists } = changesOf(NO_TOKEN_SETTINGS, settings);
    const all = detailsNaming(
      { authority: authority.name, tokens_ended: ended, ...said },
      { names, policies, ...lists },
    );
    const notes = all.map((details) => ({ details }));
    return { value: await roleNamed(tx, tenant, name), notes, revokes: row!.old };
  });
}

function checkRole(vault: Vault, change: CertificateRoleChange) {
  if (change.names.length === 0 || change.names.length > NAMES_MAX) {
    throw new VaultError('invalid_request', `names: expected from 1 to ${NAMES_MAX}.`);
  }
  const settings = changed(NO_TOKEN_SETTINGS, change);
  checkTokenSettings(vault, settings);
  return { names: [...new Set(change.names.map(parsePattern))], policies: checkPolicies(change.policies), settings };
}

/** Ends with it whoever came by it. */
export async function deleteCertificateRole(vault: Vault, call: Call, name: string): Promise<void> {
  await permit(vault, call, ask('cert-role.delete', 'cert-role', name), async (tx, { tenant }) => {
    const [row] = await tx<{ id: string }[]>`
      SELECT role_id AS id FROM certificate_roles WHERE tenant_id = ${tenant} AND name = ${name} FOR UPDATE`;
    if (!row) throw new VaultError('not_found', `There is no certificate role ${name}.`);
    const users = await tx`
      DELETE FROM users WHERE tenant_id = ${tenant} AND user_id IN (
        SELECT user_id FROM certificate_identities WHERE tenant_id = ${tenant} AND role_id = ${row.id})
      RETURNING user_id`;
    await tx`DELETE FROM certificate_roles WHERE tenant_id = ${tenant} AND role_id = ${row.id}`;
    return { value: undefined, notes: [{ details: { accounts_removed: users.length } }], revokes: true };
  });
}

async function roleNamed(tx: Tx, tenant: TenantId, name: string): Promise<CertificateRole> {
  const [row] = await tx<CertificateRole[]>`
    SELECT ${tx.unsafe(ROLE_COLUMNS)} FROM certificate_roles r WHERE r.tenant_id = ${tenant} AND r.name = ${name}`;
  if (!row) throw new VaultError('not_found', `There is no certificate role ${name}.`);
  return row;
}

async function endTokensOf(tx: Tx, tenant: TenantId, roleId: string): Promise<number> {
  const rows = await tx`
    DELETE FROM tokens WHERE tenant_id = ${tenant} AND user_id IN (
      SELECT user_id FROM certificate_identities WHERE tenant_id = ${tenant} AND role_id = ${roleId})
    RETURNING token_id`;
  return rows.length;
}

/** Of a tenant that is being deleted, after its users. */
export async function removeAuthorities(tx: Tx, tenant: TenantId): Promise<void> {
  await tx`DELETE FROM certificate_roles WHERE tenant_id = ${tenant}`;
  await tx`DELETE FROM authorities WHERE tenant_id = ${tenant}`;
}
