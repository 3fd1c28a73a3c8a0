/**
 * The two-person rule: asking for an approval, giving it, refusing it. Owns the tables approvals and approval_votes.
 *
 *     open ─▶ used        the act was done (redeem.ts, in the transaction of the act)
 *          ─▶ denied      somebody who could have approved said no
 *          ─▶ cancelled   by whoever asked
 *
 * No policy says who may ask and who may answer, the rule that wants the approval does: whoever it keeps waiting may
 * ask, whoever holds the policy that it names may answer, and nobody answers themselves. A request is seen by whoever
 * made it, whoever may answer it, and whoever may list approvals.
 */
import { LIMITS } from '../config.ts';
import { randomId } from '../crypto/token.ts';
import type { TenantId, Timestamp, Tx } from '../db/database.ts';
import { notOurs, type Page, type PageAsk, pageOf, parsePage } from '../db/page.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import { ACTION_NAMES, ACTIONS, type Action, type AuthAction } from '../policy/action.ts';
import type { Requirement } from '../policy/approval-rule.ts';
import { type Permit, permit } from '../policy/permit.ts';
import { parsePath } from '../secret/path.ts';
import type { Vault } from '../vault.ts';
import { countApprovers } from './redeem.ts';

export type ApprovalState = 'open' | 'approved' | 'used' | 'denied' | 'cancelled' | 'expired';

export type Approval = {
  readonly id: string;
  readonly requestedBy: string;
  readonly action: string;
  readonly resource: string;
  /** A version, `1,2`, `all`, or nothing more. */
  readonly subject: string;
  readonly reason: string;
  readonly state: ApprovalState;
  readonly requirements: readonly Requirement[];
  readonly approvedBy: readonly string[];
  readonly deniedBy: readonly string[];
  readonly createdAt: Timestamp;
  readonly expiresAt: Timestamp;
  readonly endedAt: Timestamp | null;
};

export type ApprovalAsk = {
  readonly action: string;
  readonly resource: string;
  /** For reading: the current one when absent. For destroying a key: needed. */
  readonly version?: number | undefined;
  /** For destroying versions of a secret; the whole secret when absent. */
  readonly versions?: readonly number[] | undefined;
  readonly reason?: string | undefined;
};

type ApprovalRow = Omit<Approval, 'requirements' | 'state'> & {
  readonly userId: string;
  readonly state: string;
  readonly requirements: string;
  readonly approvers: readonly string[];
  readonly expired: boolean;
};

const SUBJECT_LENGTH_MAX = 512;

/**
 * Asks. Throws `forbidden` for what no approval would allow, `conflict` for what needs none, `not_found` for a secret
 * that is not there, `invalid_request`.
 */
export async function requestApproval(vault: Vault, call: Call, wanted: ApprovalAsk): Promise<Approval> {
  const action = parseAction(wanted.action);
  const resource = parseResource(action, wanted.resource);
  return permit(vault, call, { action: 'approval.request', resource }, async (tx, granted) => {
    const { tenant, userId } = granted;
    const requirements = granted.requirements({ action, resource });
    if (requirements === 'refused') {
      const message = `No policy allows ${action} on ${resource}, with an approval or without, or one denies it.`;
      throw new VaultError('forbidden', message, { details: { action, resource } });
    }
    if (requirements.length === 0)
      throw new VaultError('conflict', `${action} on ${resource} waits for no approval: do it.`);
    const subject = await subjectOf(tx, tenant, action, resource, wanted);
    await makeRoom(tx, tenant, userId);
    const id = randomId();
    await tx`
      INSERT INTO approvals (tenant_id, approval_id, user_id, action, resource, subject, reason, requirements, approvers,
                             state, created_at, expires_at)
      SELECT ${tenant}, ${id}, ${userId}, ${action}, ${resource}, ${subject}, ${wanted.reason ?? ''},
             ${JSON.stringify(requirements)}, ${[...new Set(requirements.map(({ by }) => by))]}, 'open', now,
             now + make_interval(secs => ${Math.min(...requirements.map((one) => one.withinSeconds))})
      FROM (SELECT bulla.now() AS now) clock`;
    const value = await approvalOf(tx, (await rowOf(tx, tenant, id))!, tenant);
    return { value, notes: [{ details: { approval: id, action, ...(subject === '' ? {} : { subject }) } }] };
  });
}

/** The latest first. `state` is what the row says: open ones may be approved or expired. */
export async function listApprovals(
  vault: Vault,
  call: Call,
  { open, ...page }: PageAsk & { readonly open?: boolean | undefined },
): Promise<Page<Approval>> {
  const { limit, after } = parsePage(page);
  const [before = '9999-01-01T00:00:00Z', id = ''] = after === '' ? [] : after.split('/');
  if (!/^\d{4}-\d\d-\d\dT[\d:.]{8,15}Z$/.test(before)) throw notOurs();
  return permit(vault, call, { action: 'approval.read', resource: 'approval:' }, async (tx, granted) => {
    const { tenant, userId } = granted;
    const held = await granted.namesHeld(tx);
    const mayListSome = granted.allows({ action: 'approval.list', resource: 'approval:', anywhere: true });
    const seen: ApprovalRow[] = [];
    for (let from = [before, id] as const; seen.length <= limit; ) {
      const rows = await tx<ApprovalRow[]>`
        SELECT ${tx.unsafe(APPROVAL_COLUMNS)} FROM approvals a JOIN users u USING (tenant_id, user_id)
        WHERE a.tenant_id = ${tenant} AND (a.created_at, a.approval_id) < (${from[0]}::timestamptz, ${from[1]})
          AND (${open !== true} OR (a.state = 'open' AND a.expires_at > bulla.now()))
          AND (${mayListSome} OR a.user_id = ${userId} OR a.approvers && ${[...held]}::text[])
        ORDER BY a.created_at DESC, a.approval_id DESC LIMIT ${limit + 1}`;
      seen.push(...rows.filter((row) => isSeenBy(granted, held, row)));
      if (rows.length <= limit) break;
      from = [rows.at(-1)!.createdAt, rows.at(-1)!.id];
    }
    const { items, nextCursor } = pageOf(seen, limit, (row) => `${row.createdAt}/${row.id}`);
    const approvals: Approval[] = [];
    for (const row of items) approvals.push(await approvalOf(tx, row, tenant));
    return { value: { items: approvals, nextCursor } };
  });
}

export async function readApproval(vault: Vault, call: Call, id: string): Promise<Approval> {
  return permit(vault, call, ask('approval.read', id), async (tx, granted) => ({
    value: await approvalOf(tx, await approvalSeen(tx, granted, id), granted.tenant),
  }));
}

/**
 * Says yes, or no, which ends it. Throws `not_found` for what the caller does not see, `forbidden` for one's own request
 * and for whoever holds none of its policies, `conflict` when it has ended.
 */
export async function answerApproval(vault: Vault, call: Call, id: string, approves: boolean): Promise<Approval> {
  const action = approves ? 'approval.approve' : 'approval.deny';
  return permit(vault, call, ask(action, id), async (tx, granted) => {
    const { tenant, userId } = granted;
    const row = await approvalSeen(tx, granted, id, 'lock');
    if (row.userId === userId) throw new VaultError('forbidden', 'Nobody approves what they asked for themselves.');
    if (!mayAnswer(await granted.namesHeld(tx), row)) {
      throw new VaultError('forbidden', `Only holders of ${row.approvers.join(' or ')} answer this request.`);
    }
    if (row.state !== 'open' || row.expired)
      throw new VaultError('conflict', 'The request has ended: it is to be made again.');
    await tx`
      DELETE FROM approval_votes WHERE tenant_id = ${tenant} AND approval_id = ${id} AND user_id = ${userId}`;
    await tx`
      INSERT INTO approval_votes (tenant_id, approval_id, user_id, approves, voted_at)
      VALUES (${tenant}, ${id}, ${userId}, ${approves}, bulla.now())`;
    if (!approves) await end(tx, tenant, id, 'denied');
    return { value: await approvalOf(tx, (await rowOf(tx, tenant, id))!, tenant), notes: [{ details: about(row) }] };
  });
}

/** Whoever asked takes it back. */
export async function cancelApproval(vault: Vault, call: Call, id: string): Promise<void> {
  await permit(vault, call, ask('approval.cancel', id), async (tx, granted) => {
    const row = await approvalSeen(tx, granted, id, 'lock');
    if (!isOwn(granted, row)) throw new VaultError('forbidden', 'Only whoever asked takes a request back; deny it.');
    if (row.state !== 'open') throw new VaultError('conflict', 'The request has ended already.');
    await end(tx, granted.tenant, id, 'cancelled');
    return { value: undefined, notes: [{ details: about(row) }] };
  });
}

/** Removes every request of a tenant that is being deleted. */
export async function removeApprovals(tx: Tx, tenant: TenantId): Promise<void> {
  await tx`DELETE FROM approvals WHERE tenant_id = ${tenant}`;
}

const about = (row: ApprovalRow) => ({
  action: row.action,
  about: row.resource,
  requested_by: row.requestedBy,
  ...(row.subject === '' ? {} : { subject: row.subject }),
});

function ask(action: AuthAction, id: string) {
  if (/^[a-z2-7]{16}$/.test(id)) return { action, resource: `approval:${id}` } as const;
  throw new VaultError('invalid_request', 'id: expected the 16 characters that the request was answered with.');
}

function parseAction(text: string): Action {
  const action = ACTION_NAMES.find((name) => name === text && ACTIONS[name].approvable);
  if (action) return action;
  const names = ACTION_NAMES.filter((name) => ACTIONS[name].approvable);
  throw new VaultError('invalid_request', `action: expected one of ${names.join(', ')}.`);
}

/** The one spelling that the gate will be asked about. */
function parseResource(action: Action, text: string): string {
  const { noun } = ACTIONS[action];
  if (noun === 'secret' && text.startsWith('secret:')) return `secret:${parsePath(text.slice('secret:'.length))}`;
  const only = action.startsWith('root-key.') ? 'key:root' : 'key:data';
  if (noun === 'key' && text === only) return only;
  throw new VaultError(
    'invalid_request',
    `resource: expected ${noun === 'secret' ? 'secret:<path>' : only} for ${action}.`,
  );
}

async function subjectOf(
  tx: Tx,
  tenant: TenantId,
  action: Action,
  resource: string,
  { version, versions }: ApprovalAsk,
): Promise<string> {
  const isRead = action === 'secret.read';
  if (version !== undefined && !isRead && action !== 'key.destroy') throw unfit('version', action);
  if (versions !== undefined && action !== 'secret.destroy') throw unfit('versions', action);
  if (action === 'key.destroy' && version === undefined) {
    throw new VaultError('invalid_request', `version: expected the version of the key that is to be destroyed.`);
  }
  if (versions !== undefined) {
    const subject = [...new Set(versions)].sort((a, b) => a - b).join(',');
    if (subject !== '' && subject.length <= SUBJECT_LENGTH_MAX) return subject;
    throw new VaultError(
      'invalid_request',
      `versions: expected from one version to ${SUBJECT_LENGTH_MAX} characters of them.`,
    );
  }
  if (version !== undefined) return String(version);
  if (action === 'secret.destroy') return 'all';
  return isRead ? String(await currentVersion(tx, tenant, resource.slice('secret:'.length))) : '';
}

const unfit = (field: string, action: Action) =>
  new VaultError('invalid_request', `${field}: ${action} has none; leave it out.`);

async function currentVersion(tx: Tx, tenant: TenantId, path: string): Promise<number> {
  const [row] = await tx<{ version: number }[]>`
    SELECT current_version AS version FROM secrets WHERE tenant_id = ${tenant} AND path = ${path}`;
  if (row) return row.version;
  throw new VaultError('not_found', `There is no secret ${path}.`);
}

const KEPT_DAYS = 90;

/** A bounded number of open requests each; what ended long ago is in the audit log only. */
async function makeRoom(tx: Tx, tenant: TenantId, userId: string): Promise<void> {
  await tx`
    DELETE FROM approvals WHERE tenant_id = ${tenant} AND approval_id IN (
      SELECT approval_id FROM approvals WHERE tenant_id = ${tenant}
        AND created_at < (SELECT bulla.now()) - make_interval(days => ${KEPT_DAYS}) ORDER BY created_at LIMIT 100)`;
  const [row] = await tx<{ open: number }[]>`
    SELECT count(*) AS open FROM approvals
    WHERE tenant_id = ${tenant} AND user_id = ${userId} AND state = 'open' AND expires_at > bulla.now()`;
  if (row!.open < LIMITS.approvalsOpenMax) return;
  throw new VaultError(
    'conflict',
    `You have ${row!.open} open requests: cancel some, or wait until they are answered.`,
  );
}

const APPROVAL_COLUMNS = `a.approval_id AS id, a.user_id AS "userId", u.name AS "requestedBy", a.action, a.resource, a.subject,
  a.reason, a.state, a.requirements, a.approvers, a.created_at AS "createdAt", a.expires_at AS "expiresAt", a.ended_at AS "endedAt",
  a.expires_at <= bulla.now() AS expired,
  ARRAY(SELECT w.name FROM approval_votes v JOIN users w USING (tenant_id, user_id) WHERE v.tenant_id = a.tenant_id
        AND v.approval_id = a.approval_id AND v.approves ORDER BY w.name) AS "approvedBy",
  ARRAY(SELECT w.name FROM approval_votes v JOIN users w USING (tenant_id, user_id) WHERE v.tenant_id = a.tenant_id
        AND v.approval_id = a.approval_id AND NOT v.approves ORDER BY w.name) AS "deniedBy"`;

async function rowOf(tx: Tx, tenant: TenantId, id: string, lock?: 'lock'): Promise<ApprovalRow | undefined> {
  const [row] = await tx<ApprovalRow[]>`
    SELECT ${tx.unsafe(APPROVAL_COLUMNS)} FROM approvals a JOIN users u USING (tenant_id, user_id)
    WHERE a.tenant_id = ${tenant} AND a.approval_id = ${id} ${lock ? tx`FOR UPDATE OF a` : tx``}`;
  return row;
}

const requirementsIn = (row: ApprovalRow) => JSON.parse(row.requirements) as Requirement[];

async function approvalSeen(tx: Tx, granted: Permit, id: string, lock?: 'lock'): Promise<ApprovalRow> {
  const row = await rowOf(tx, granted.tenant, id, lock);
  if (row && isSeenBy(granted, await granted.namesHeld(tx), row)) return row;
  throw new VaultError('not_found', 'There is no such request.');
}

/** Whoever was handed access to one secret has a token of the account, and nothing to do with what that account asks. */
const isOwn = ({ userId, asker }: Permit, row: ApprovalRow) => row.userId === userId && asker.tokenKind !== 'lease';

function isSeenBy(granted: Permit, held: ReadonlySet<string>, row: ApprovalRow): boolean {
  if (isOwn(granted, row)) return true;
  if (granted.allows({ action: 'approval.list', resource: `approval:${row.id}` })) return true;
  return mayAnswer(held, row);
}

const mayAnswer = (held: ReadonlySet<string>, { approvers }: ApprovalRow) => approvers.some((one) => held.has(one));

async function approvalOf(tx: Tx, row: ApprovalRow, tenant: TenantId): Promise<Approval> {
  const { userId: _userId, approvers: _approvers, expired, ...said } = row;
  const requirements = requirementsIn(row);
  return { ...said, requirements, state: await stateOf(tx, row, requirements, tenant) };
}

async function stateOf(
  tx: Tx,
  { id, state, expired }: ApprovalRow,
  requirements: readonly Requirement[],
  tenant: TenantId,
): Promise<ApprovalState> {
  if (state !== 'open') return state as ApprovalState;
  if (expired) return 'expired';
  for (const { by, count } of requirements) if ((await countApprovers(tx, tenant, id, by)) < count) return 'open';
  return 'approved';
}

async function end(tx: Tx, tenant: TenantId, id: string, state: 'denied' | 'cancelled'): Promise<void> {
  await tx`
    UPDATE approvals SET state = ${state}, ended_at = bulla.now()
    WHERE tenant_id = ${tenant} AND approval_id = ${id} AND ended_at IS NULL`;
}
