/**
 * The two-person rule as a rule of a policy says it: who must approve, how many of them, and for how long it counts.
 *
 *     {"effect": "allow", "actions": ["secret.read"], "resources": ["secret:prod/root/**"],
 *      "approval": {"by": "custodians", "count": 2, "within": "4h"}}
 *
 * `by` is the name of a policy: whoever holds it may approve, but for the one who asked. `within` counts from the
 * request to the act. Nothing here does I/O.
 */
import { z } from 'zod';
import { parseDurationSeconds } from '../config.ts';
import { isName } from '../db/name.ts';
import { assert } from '../errors.ts';

const APPROVAL_COUNT_MAX = 10;
const APPROVAL_SECONDS_MAX = 7 * 24 * 3600;

export const approvalSchema = z
  .strictObject({
    by: z
      .string()
      .refine((text): boolean => isName(text), 'must be the name of a policy')
      .describe('The policy whose holders may approve.'),
    count: z.int().min(1).max(APPROVAL_COUNT_MAX).optional().describe('How many of them, 1 unless it says otherwise.'),
    within: z
      .string()
      .regex(/^\d{1,10}[smhd]?$/, 'must be a duration such as "4h"')
      .refine((text) => isFitting(parseDurationSeconds(text)), 'must be more than 0 and at most 7d')
      .describe('From the request to the act, such as 4h; at most 7d.'),
  })
  .describe('Allowed once these have approved. An approval that one rule asks for is needed, whatever others allow.');

export type ApprovalDocument = z.infer<typeof approvalSchema>;

export type Requirement = { readonly by: string; readonly count: number; readonly withinSeconds: number };

const isFitting = (seconds: number | undefined) =>
  seconds !== undefined && seconds > 0 && seconds <= APPROVAL_SECONDS_MAX;

/** `document` has passed the schema. */
export function compileApproval(document: ApprovalDocument | undefined): Requirement | undefined {
  if (document === undefined) return undefined;
  const withinSeconds = parseDurationSeconds(document.within);
  assert(isFitting(withinSeconds), 'the schema lets only good durations through');
  return { by: document.by, count: document.count ?? 1, withinSeconds: withinSeconds! };
}

/** Whether whoever satisfies `inner` satisfies `outer` too. */
export function impliesRequirement(inner: Requirement, outer: Requirement): boolean {
  return inner.by === outer.by && inner.count >= outer.count && inner.withinSeconds <= outer.withinSeconds;
}
