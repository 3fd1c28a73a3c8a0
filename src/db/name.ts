/** Names that people give to users, policies and tenants: one spelling each, so that two names never look alike. */
import { VaultError } from '../errors.ts';

declare const nameBrand: unique symbol;
export type Name = string & { readonly [nameBrand]: true };

const NAME = /^[a-z0-9][a-z0-9._-]{0,62}$/;

export function isName(text: string): text is Name {
  return NAME.test(text);
}

/** Throws `invalid_request`; `field` says which name. */
export function parseName(text: string, field: string): Name {
  if (isName(text)) return text;
  throw new VaultError(
    'invalid_request',
    `${field}: expected 1 to 63 of a–z, 0–9, dot, underscore and hyphen, starting with a letter or digit.`,
  );
}

const TYPED_MAX = 256;

/**
 * The name that somebody may have meant: without case, blanks, marks, invisible characters, other widths and percent
 * encoding. For counting attempts only; nobody is found, or let in, by another spelling than their own.
 */
export function foldName(text: string): string {
  const typed = text
    .slice(0, TYPED_MAX)
    .replace(/%([0-9A-Fa-f]{2})/g, (_, hex) => String.fromCharCode(Number(`0x${hex}`)));
  return typed
    .normalize('NFKD')
    .toLowerCase()
    .replace(/[\p{M}\p{Z}\p{C}\s]/gu, '');
}
