/**
 * Which roles and static accounts a backend serves: all, or those on its list. Whoever may write roles then still makes
 * none on a backend that is not meant for them.
 */
import { VaultError } from '../errors.ts';

/** Names, in which `*` is any characters; null: every one. */
export type AllowedRoles = readonly string[] | null;

const PATTERN = /^[a-z0-9*][a-z0-9._*-]{0,62}$/;
const PATTERNS_MAX = 1000;

/** Throws `invalid_request`. */
export function checkPatterns(patterns: AllowedRoles): void {
  if (patterns === null || (patterns.length <= PATTERNS_MAX && patterns.every((one) => PATTERN.test(one)))) return;
  throw new VaultError(
    'invalid_request',
    `allowed_roles: expected at most ${PATTERNS_MAX} names of roles, in which * is any characters.`,
  );
}

export const isAllowed = (patterns: AllowedRoles, name: string): boolean =>
  patterns === null || patterns.some((pattern) => fits(pattern, name));

/** Throws `conflict`: not a matter of who asks. */
export function requireAllowed(patterns: AllowedRoles, backend: string, name: string): void {
  if (isAllowed(patterns, name)) return;
  throw new VaultError('conflict', `The backend ${backend} does not serve ${name}: its allowed_roles leave it out.`, {
    details: { reason: 'role_not_allowed' },
  });
}

/** The first part at the start, the last at the end, the others in their order, each as early as it comes. */
function fits(pattern: string, name: string): boolean {
  const parts = pattern.split('*');
  if (parts.length === 1) return pattern === name;
  const [first, last] = [parts.shift()!, parts.pop()!];
  if (name.length < first.length + last.length || !name.startsWith(first) || !name.endsWith(last)) return false;
  let rest = name.slice(first.length, name.length - last.length);
  for (const part of parts) {
    const at = rest.indexOf(part);
    if (at === -1) return false;
    rest = rest.slice(at + part.length);
  }
  return true;
}
