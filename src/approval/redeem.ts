/**
 * Taking an approval for the act that it was given for: part of the gate, in the transaction of the act.
 *
 * What counts is what the rules ask for now, and who can say yes now: an approver who has lost the policy, is disabled or
 * gone does not count, nor does a policy of the same name that was made after the vote. An approval is for one account,
 * action, resource and subject. Its row is locked from here to the commit, so that it works once, also twice at once; an
 * act that is undone leaves it as it was.
 */
import type { TenantId, Tx } from '../db/database.ts';
import type { Requirement } from '../policy/approval-rule.ts';

/** `subject` is what of the resource was approved. */
export type Redeemed = { readonly id: string; readonly subject: string };

export type Wanted = {
  readonly tenant: TenantId;
  readonly userId: string;
  readonly action: string;
  readonly resource: string;
  /** `current` is whichever version was approved: the act sees to it that it is the current one. */
  readonly subject: string;
  readonly requirements: readonly Requirement[];
};

/** The oldest approval that lets this be done now, of the latest version, locked; undefined when there is none. */
export async function findApproval(tx: Tx, wanted: Wanted): Promise<Redeemed | undefined> {
  const { tenant, userId, action, resource, subject, requirements } = wanted;
  const withinSeconds = Math.min(...requirements.map((one) => one.withinSeconds));
  const candidates = await tx<Redeemed[]>`
    SELECT approval_id AS id, subject FROM approvals
    WHERE tenant_id = ${tenant} AND user_id = ${userId} AND action = ${action} AND resource = ${resource}
      AND (subject = ${subject} OR (${subject} = 'current' AND subject ~ '^[0-9]+$')) AND state = 'open'
      AND expires_at > bulla.now() AND created_at > bulla.now() - make_interval(secs => ${withinSeconds})
    ORDER BY length(subject) DESC, subject DESC, created_at, approval_id FOR UPDATE`;
  for (const candidate of candidates) {
    const counts = await Promise.all(requirements.map(({ by }) => countApprovers(tx, tenant, candidate.id, by)));
    if (requirements.every(({ count }, i) => counts[i]! >= count)) return candidate;
  }
  return undefined;
}

/** How many have approved who hold the policy now. Whoever asked is none of them. */
export async function countApprovers(tx: Tx, tenant: TenantId, approval: string, by: string): Promise<number> {
  const [row] = await tx<{ count: number }[]>`
    SELECT count(*) AS count
    FROM approvals a JOIN approval_votes v USING (tenant_id, approval_id)
    JOIN users u ON u.tenant_id = v.tenant_id AND u.user_id = v.user_id
    JOIN policies p ON p.tenant_id = v.tenant_id AND p.name = ${by}
    WHERE a.tenant_id = ${tenant} AND a.approval_id = ${approval} AND v.approves AND v.user_id <> a.user_id
      AND NOT u.disabled AND p.created_at <= v.voted_at
      AND (p.name = ANY (u.policies) OR EXISTS (
        SELECT 1 FROM group_members m JOIN groups g USING (tenant_id, group_id)
        WHERE m.tenant_id = u.tenant_id AND m.user_id = u.user_id AND p.name = ANY (g.policies)))`;
  return row!.count;
}

/** The act was done: nothing more is done by these approvals. Each by its key: together they may be planned as a walk through all. */
export async function markUsed(tx: Tx, tenant: TenantId, approvals: readonly string[]): Promise<void> {
  await Promise.all(
    approvals.map(
      (approval) => tx`
        UPDATE approvals SET state = 'used', ended_at = bulla.now()
        WHERE tenant_id = ${tenant} AND approval_id = ${approval} AND ended_at IS NULL`,
    ),
  );
}
