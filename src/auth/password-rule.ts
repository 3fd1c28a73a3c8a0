/**
 * What a new password must be: NIST SP 800-63B-4 §3.1.1.2 and ASVS 5.0 §6.2.
 *
 *     form     well-formed Unicode, compared and counted in NFC, at most 1,024 bytes of UTF-8, never cut off
 *     length   15 code points, or 8 where a second factor is asked for too
 *     known    not, as a whole, a common password; not made of nothing but the user's, tenant's and product's names
 *
 * There is no other rule: no kinds of characters, no end of its time. The reason is always told, and is in
 * `details.reason` for programs: `too_short`, `common`, `names`.
 */
import { normalisePassword } from '../crypto/password.ts';
import { isCommonPassword } from '../crypto/wordlist.ts';
import { VaultError } from '../errors.ts';

const PASSWORD_CHARACTERS_MIN = 15;
const PASSWORD_CHARACTERS_MIN_WITH_SECOND_FACTOR = 8;

/** Whose password it is to be. */
export type PasswordSubject = {
  readonly username: string;
  readonly tenant: string;
  readonly secondFactor: boolean;
};

export type CheckedPassword = {
  /** The bytes to hash; whoever hashes them wipes them. */
  readonly bytes: Uint8Array;
  /** Too short to stand alone. */
  readonly short: boolean;
};

const PRODUCT = 'bulla';

/** Throws `invalid_request` with the reason. `field` is what the caller calls it. */
export async function checkNewPassword(
  password: string,
  subject: PasswordSubject,
  field: string,
): Promise<CheckedPassword> {
  const bytes = normalisePassword(password);
  const characters = Array.from(password.normalize('NFC')).length;
  const least = subject.secondFactor ? PASSWORD_CHARACTERS_MIN_WITH_SECOND_FACTOR : PASSWORD_CHARACTERS_MIN;
  try {
    if (characters < least) throw tooShort(field, subject.secondFactor);
    if (await isCommonPassword(password)) {
      throw refusal(field, 'common', 'this one is on every list of common passwords; take another');
    }
    if (isMadeOfNames(password, [subject.username, subject.tenant, PRODUCT])) {
      throw refusal(
        field,
        'names',
        'this one is made of the names of the user, the tenant or the product; take another',
      );
    }
  } catch (error) {
    bytes.fill(0);
    throw error;
  }
  return { bytes, short: characters < PASSWORD_CHARACTERS_MIN };
}

export function tooShort(field: string, secondFactor: boolean): VaultError {
  const least = secondFactor ? PASSWORD_CHARACTERS_MIN_WITH_SECOND_FACTOR : PASSWORD_CHARACTERS_MIN;
  return refusal(field, 'too_short', `expected at least ${least} characters; a few random words are good`);
}

function refusal(field: string, reason: 'too_short' | 'common' | 'names', expectation: string): VaultError {
  return new VaultError('invalid_request', `${field}: ${expectation}.`, { details: { field, reason } });
}

/** Whether nothing is left but digits and signs once the names are taken out. A password without letters names nobody. */
function isMadeOfNames(password: string, names: readonly string[]): boolean {
  const folded = lettersOf(password);
  if (folded === '') return false;
  const longestFirst = names
    .map(lettersOf)
    .filter((name) => name !== '')
    .sort((a, b) => b.length - a.length);
  const rest = longestFirst.reduce((text, name) => text.replaceAll(name, ' '), folded);
  return rest.trim() === '';
}

/** Case, width, digits and signs do not make another name of one. */
function lettersOf(text: string): string {
  return text.normalize('NFKC').toLowerCase().replace(/\P{L}/gu, '');
}
