/** The keys of a secret's data without their values: the shape of a secret for whoever may not read it. */
import type { Call } from '../policy/access.ts';
import { type OpenedVersion, openVersion, type VersionRow } from '../policy/opened.ts';
import { permit } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import { isObject, membersOf } from './document.ts';
import type { SecretPath } from './path.ts';
import { secretAsk } from './row.ts';

export type Subkeys = Omit<OpenedVersion, 'body'> & {
  /** JSON text: the document with null in the place of every value that is no object. */
  readonly subkeys: string;
};

/** `version` 0 is the current one; objects deeper than `depth` are null too, 0: none are. Throws `not_found`, `integrity`. */
export async function readSubkeys(
  vault: Vault,
  call: Call,
  path: SecretPath,
  version: number,
  depth: number,
): Promise<Subkeys> {
  return permit(vault, call, secretAsk('secret.subkeys', path), async (tx, { tenant }) => {
    const [row] = await tx<VersionRow[]>`
      SELECT s.secret_id AS "secretId", v.version, v.key_version AS "keyVersion", v.kind, v.content_type AS "contentType",
             v.envelope, v.created_at AS "createdAt", v.expires_at AS "expiresAt",
             m.key_version AS "metadataKeyVersion", m.envelope AS "metadataEnvelope"
      FROM secrets s JOIN secret_versions v
           ON v.tenant_id = s.tenant_id AND v.secret_id = s.secret_id
              AND v.version = CASE ${version}::int WHEN 0 THEN s.current_version ELSE ${version} END
      LEFT JOIN secret_metadata m ON m.tenant_id = s.tenant_id AND m.secret_id = s.secret_id
      WHERE s.tenant_id = ${tenant} AND s.path = ${path}
        AND v.deleted_at IS NULL AND (v.expires_at IS NULL OR v.expires_at > bulla.now())`;
    const { body, ...opened } = await openVersion(vault, tx, tenant, path, row);
    const text = opened.kind === 'data' ? Buffer.from(body).toString('utf8') : `{"${opened.kind}":null}`;
    const value = { ...opened, subkeys: keysOf(text, depth === 0 ? Number.POSITIVE_INFINITY : depth) };
    return { value, notes: [{ version: opened.version }] };
  });
}

/** Recursion ends with the document's nesting, which the strict parser bounds. */
function keysOf(text: string, depth: number): string {
  if (!isObject(text) || depth === 0) return 'null';
  const members = membersOf(text);
  if (members.length === 0) return 'null';
  return `{${members.map(({ keyText, valueText }) => `${keyText}:${keysOf(valueText, depth - 1)}`).join(',')}}`;
}
