/**
 * What a named key is called: the text of policies, routes and audit entries. Two spellings are two keys.
 *
 *     name = 1*128( A-Z a-z 0-9 _ . - ), beginning and ending with a letter, a digit or _
 */
import { VaultError } from '../errors.ts';
import type { Action } from '../policy/action.ts';

declare const keyName: unique symbol;

/** Only `parseKeyName` makes one. */
export type KeyName = string & { readonly [keyName]: true };

export const KEY_NAME_PATTERN = '^[A-Za-z0-9_]([A-Za-z0-9_.-]{0,126}[A-Za-z0-9_])?$';

const FORM = new RegExp(KEY_NAME_PATTERN);

/** Throws `invalid_request`. The message never repeats the text. */
export function parseKeyName(text: string): KeyName {
  if (FORM.test(text)) return text as KeyName;
  throw new VaultError(
    'invalid_request',
    'key: expected 1 to 128 letters, digits, "_", "." or "-", with neither "." nor "-" at an end.',
  );
}

export const keyAsk = (action: Action, key: KeyName) => ({ action, resource: `transit:${key}` }) as const;
