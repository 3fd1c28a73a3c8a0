/**
 * A workload that shows a token which somebody else has signed: GitHub Actions, GitLab, Kubernetes, any OpenID provider.
 *
 * The token is checked before the transaction (signed-token.ts). Which role is meant, that it is for tokens of this
 * issuer, that the issuer is still as it was, and that the token has not expired, is decided in it.
 */
import { LIMITS } from '../../config.ts';
import type { TenantId, Tx } from '../../db/database.ts';
import { isName } from '../../db/name.ts';
import { VaultError } from '../../errors.ts';
import { isFrom } from '../../policy/cidr.ts';
import { type ClaimRule, claimAt, policiesFor, textAt } from '../claim.ts';
import type { LoginMethod, Proof } from '../method.ts';
import { audienceProblem, type Checked, checkSignedToken, SUBJECT } from '../signed-token.ts';
import { limitsOf, type TokenSettings, tokenSettingColumns } from '../token-setting.ts';

export type JwtCredentials = {
  readonly tenant: string;
  /** A login role; or the one that the issuer of this name has for who names none. */
  readonly role: string | { readonly defaultOf: string };
  readonly jwt: string;
};

export const jwt: LoginMethod<JwtCredentials, Checked> = {
  name: 'jwt',
  tenantOf: ({ tenant }) => ({ name: tenant }),
  prepare: async (vault, tenant, { jwt: token }) =>
    tenant === undefined ? { refused: 'unknown_tenant' } : checkSignedToken(vault, tenant, token),
  prove: async (tx, tenant, { role: wanted }, checked, { source }): Promise<Proof> => {
    const name = typeof wanted === 'string' ? wanted : await defaultRole(tx, tenant, wanted.defaultOf);
    if (name === undefined) return { refused: 'no_role', tell: noRole() };
    const role = await readRole(tx, tenant, name);
    if (!role) return { refused: 'unknown_role' };
    if ('refused' in checked) return { refused: checked.refused };
    const { issuer, claims } = checked;
    if (role.issuerId !== issuer.issuerId) return { refused: 'other_issuer' };
    if (role.issuerRevision !== issuer.revision) return { refused: 'changed_meanwhile' };
    const other = audienceProblem(claims, role.audiences);
    if (other) return { refused: other };
    if (claims.exp! <= role.nowSeconds - issuer.skewSeconds) return { refused: 'expired_token' };
    if (role.tokenCidrs !== null && !isFrom(role.tokenCidrs, source)) return { refused: 'other_network' };
    const policies = policiesFor(JSON.parse(role.rules) as ClaimRule[], claims);
    if (!policies) return { refused: 'no_rule' };
    return proofOf(role, checked, policies);
  },
};

const SUBJECT_LENGTH_MAX = 255;
const SHOWN_LENGTH_MAX = 256;

function proofOf(role: RoleRow, { issuer, claims }: Believed, policies: readonly string[]): Proof {
  const { subjectClaim: claim } = role;
  const subject = textAt(claims, claim, SUBJECT_LENGTH_MAX);
  if (subject === undefined || !SUBJECT.test(subject)) return { refused: 'strange_subject' };
  const shown: Record<string, string> = {};
  for (const [from, to] of Object.entries(JSON.parse(role.claimNames) as Record<string, string>)) {
    if (claimAt(claims, from) === undefined) continue;
    const text = textAt(claims, from, SHOWN_LENGTH_MAX);
    if (text === undefined) return { refused: 'strange_claim' };
    shown[to] = text;
  }
  if (Buffer.byteLength(JSON.stringify(shown)) > LIMITS.tokenMetadataBytesMax) return { refused: 'strange_claim' };
  return {
    account: { issuerId: issuer.issuerId, issuerName: issuer.name, claim, subject },
    token: { ...limitsOf(role), policies, loginRole: role.roleId, metadata: { ...shown, role: role.name } },
    details: { role: role.name, issuer: issuer.issuer, subject },
  };
}

type Believed = Exclude<Checked, { readonly refused: string }>;

const noRole = () =>
  new VaultError('invalid_request', 'role: the issuer has no role for who names none; name one.', {
    details: { reason: 'no_role' },
  });

async function defaultRole(tx: Tx, tenant: TenantId, issuer: string): Promise<string | undefined> {
  const [row] = await tx<{ name: string | null }[]>`
    SELECT default_role AS name FROM jwt_issuers WHERE tenant_id = ${tenant} AND name = ${issuer}`;
  return row?.name ?? undefined;
}

const SETTING_COLUMNS = tokenSettingColumns('r');

type RoleRow = TokenSettings & {
  readonly roleId: string;
  readonly name: string;
  readonly audiences: string[];
  readonly rules: string;
  readonly claimNames: string;
  readonly subjectClaim: string;
  readonly issuerId: string;
  readonly issuerRevision: number;
  readonly nowSeconds: number;
};

/** First logins of one subject come one after the other, and changes of role and issuer wait. */
async function readRole(tx: Tx, tenant: TenantId, name: string): Promise<RoleRow | undefined> {
  const [row] = await tx<RoleRow[]>`
    SELECT r.role_id AS "roleId", r.name, r.audiences, r.rules, ${tx.unsafe(SETTING_COLUMNS)},
           r.claim_names AS "claimNames", r.subject_claim AS "subjectClaim",
           i.issuer_id AS "issuerId", i.revision AS "issuerRevision",
           extract(epoch FROM bulla.now())::double precision AS "nowSeconds"
    FROM login_roles r JOIN jwt_issuers i USING (tenant_id, issuer_id)
    WHERE r.tenant_id = ${tenant} AND r.name = ${isName(name) ? name : ''} AND r.kind = 'jwt'
    FOR SHARE OF r FOR NO KEY UPDATE OF i`;
  return row;
}
