/**
 * Where a secret lives: the one definition of a canonical path.
 *
 * Router, policy, audit and storage all see the bytes that came in, so there is no normalising here, ever: a text is
 * canonical or it is refused with the rule that it breaks. Two different texts are two different secrets. The message
 * never repeats the text, because it may be a secret sent to the wrong place.
 *
 *     path    = segment *15( "/" segment )            at most 512 bytes, case-sensitive
 *     segment = 1*128( A-Z a-z 0-9 . _ ~ @ + = - )    not "." and not ".."
 */
import { VaultError } from '../errors.ts';

declare const secretPath: unique symbol;

/** A canonical path. Only `parsePath` makes one. */
export type SecretPath = string & { readonly [secretPath]: true };

/** Where a listing starts: the root, or a canonical path without a trailing slash. */
export type SecretPrefix = SecretPath | '';

const PATH_SEGMENTS_MAX = 16;
const PATH_SEGMENT_LENGTH_MAX = 128;
const PATH_BYTES_MAX = 512;

const SLASH = 0x2f;
const DOT = 0x2e;

/** Throws `invalid_path` with the rule that the text breaks. */
export function parsePath(text: string): SecretPath {
  // Every allowed character is one byte, so the length in characters is the length in bytes of whatever passes.
  if (text.length > PATH_BYTES_MAX) {
    throw refused(`has ${text.length} characters; at most ${PATH_BYTES_MAX} are allowed`);
  }
  if (text.length === 0) throw refused('is empty; name at least one segment');
  let segments = 0;
  let start = 0;
  for (let at = 0; at <= text.length; at++) {
    const code = at === text.length ? SLASH : text.charCodeAt(at);
    if (code === SLASH) {
      checkSegment(text, start, at);
      segments++;
      start = at + 1;
    } else if (!isPathCharacter(code)) {
      throw refused(`has a character at position ${at} that is not one of A-Z a-z 0-9 . _ ~ @ + = - /`);
    }
  }
  if (segments > PATH_SEGMENTS_MAX) throw refused(`has ${segments} segments; at most ${PATH_SEGMENTS_MAX} are allowed`);
  return text as SecretPath;
}

/** A prefix for listing: `''` is the root, anything else is a path. */
export function parsePrefix(text: string): SecretPrefix {
  return text === '' ? '' : parsePath(text);
}

/** Whether a UTF-16 code unit may stand in a segment: A-Z a-z 0-9 . _ ~ @ + = - */
function isPathCharacter(code: number): boolean {
  return (
    (code >= 0x61 && code <= 0x7a) ||
    (code >= 0x40 && code <= 0x5a) || // @ and A-Z
    (code >= 0x30 && code <= 0x39) ||
    code === 0x2d ||
    code === DOT ||
    code === 0x5f ||
    code === 0x7e ||
    code === 0x2b ||
    code === 0x3d
  );
}

function checkSegment(text: string, start: number, end: number): void {
  const length = end - start;
  if (length === 0) {
    if (start === 0) throw refused('starts with a slash; leave it out');
    if (end === text.length) throw refused('ends with a slash; leave it out');
    throw refused(`has an empty segment at position ${start}`);
  }
  if (length > PATH_SEGMENT_LENGTH_MAX) {
    throw refused(`has a segment of ${length} characters; at most ${PATH_SEGMENT_LENGTH_MAX} are allowed`);
  }
  if (text.charCodeAt(start) !== DOT) return;
  if (length === 1 || (length === 2 && text.charCodeAt(start + 1) === DOT)) {
    throw refused('has a "." or ".." segment; write the path in full');
  }
}

function refused(rule: string): VaultError {
  return new VaultError('invalid_path', `the path ${rule}`);
}
