/**
 * A workload that shows a token which somebody else has signed: GitHub Actions, GitLab, Kubernetes, any OpenID provider.
 *
 * The token is checked before the transaction (signed-token.ts). Which role is meant, that it is for tokens of this
 * issuer, that the issuer is still as it was, and that the token has not expired, is decided in it.
 */
import type { TenantId, Tx } from '../../db/database.ts';
import { isName } from '../../db/name.ts';
import { isFrom } from '../../policy/cidr.ts';
import { type ClaimRule, policiesFor } from '../claim.ts';
import type { LoginMethod, Proof } from '../method.ts';
import { audienceProblem, type Checked, checkSignedToken } from '../signed-token.ts';

export type JwtCredentials = { readonly tenant: string; readonly role: string; readonly jwt: string };

export const jwt: LoginMethod<JwtCredentials, Checked> = {
  name: 'jwt',
  tenantOf: ({ tenant }) => ({ name: tenant }),
  prepare: async (vault, tenant, { jwt: token }) =>
    tenant === undefined ? { refused: 'unknown_tenant' } : checkSignedToken(vault, tenant, token),
  prove: async (tx, tenant, { role: name }, checked, { source }): Promise<Proof> => {
    const role = await readRole(tx, tenant, name);
    if (!role) return { refused: 'unknown_role' };
    if ('refused' in checked) return { refused: checked.refused };
    const { issuer, claims } = checked;
    if (role.issuerId !== issuer.issuerId) return { refused: 'other_issuer' };
    if (role.issuerRevision !== issuer.revision) return { refused: 'changed_meanwhile' };
    const other = audienceProblem(claims, role.audiences);
    if (other) return { refused: other };
    if (claims.exp! <= role.nowSeconds - issuer.skewSeconds) return { refused: 'expired_token' };
    if (role.cidrs !== null && !isFrom(role.cidrs, source)) return { refused: 'other_network' };
    const policies = policiesFor(JSON.parse(role.rules) as ClaimRule[], claims);
    if (!policies) return { refused: 'no_rule' };
    return {
      account: { issuerId: issuer.issuerId, issuerName: issuer.name, subject: claims.sub! },
      token: {
        ttlSeconds: role.tokenTtlSeconds ?? undefined,
        policies,
        cidrs: role.cidrs ?? undefined,
        loginRole: role.roleId,
        metadata: { role: role.name },
      },
      details: { role: role.name, issuer: issuer.issuer, subject: claims.sub! },
    };
  },
};

type RoleRow = {
  readonly roleId: string;
  readonly name: string;
  readonly audiences: string[];
  readonly rules: string;
  readonly tokenTtlSeconds: number | null;
  readonly cidrs: string[] | null;
  readonly issuerId: string;
  readonly issuerRevision: number;
  readonly nowSeconds: number;
};

/** First logins of one subject come one after the other, and changes of role and issuer wait. */
async function readRole(tx: Tx, tenant: TenantId, name: string): Promise<RoleRow | undefined> {
  const [row] = await tx<RoleRow[]>`
    SELECT r.role_id AS "roleId", r.name, r.audiences, r.rules, r.token_ttl_seconds AS "tokenTtlSeconds", r.cidrs,
           i.issuer_id AS "issuerId", i.revision AS "issuerRevision",
           extract(epoch FROM bulla.now())::double precision AS "nowSeconds"
    FROM login_roles r JOIN jwt_issuers i USING (tenant_id, issuer_id)
    WHERE r.tenant_id = ${tenant} AND r.name = ${isName(name) ? name : ''} AND r.kind = 'jwt'
    FOR SHARE OF r FOR NO KEY UPDATE OF i`;
  return row;
}
