/** A quota that a commit found used up: what sql/0019_quotas.sql raises, as callers hear it. */
import { VaultError } from '../errors.ts';

export const QUOTA_USED_UP = 'BQ001';
/** Only an operator changes it, so programs are not to try again soon. */
const RETRY_SECONDS = 3600;

export function quotaExceeded(error: unknown): VaultError {
  const { constraint_name: kind = 'things' } = error as { constraint_name?: string };
  return new VaultError(
    'quota_exceeded',
    `The tenant has as many ${kind} as it may: remove some, or ask the operators of the vault for more.`,
    { retryAfterSeconds: RETRY_SECONDS, details: { quota: kind } },
  );
}
