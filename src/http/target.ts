/**
 * Refuses a request target that is not canonical, before anything parses or normalises it.
 *
 * URL parsers turn `/a/%2e%2e/b`, `/a/./b`, `/a\b` and `//a` into other paths, each in its own way, and a deny that was
 * written for one spelling is dodged by the other. Here the bytes of the request line are looked at first: a target
 * passes only if every URL parser leaves its path as it is, so router, policy, audit and storage see the same bytes.
 * It never repairs a target and never repeats it in a message.
 *
 *     target  = path [ "?" query ]                    origin-form only (RFC 9112 §3.2.1)
 *     path    = "/" / 1*( "/" segment )
 *     segment = 1*128( A-Z a-z 0-9 . _ ~ @ + = - )    not "." and not ".."
 *     query   = *( 0x21-0x7E except "#" )             its own decoding comes later
 *
 * A protocol whose clients list folders by a trailing slash may have one; nothing else changes for it.
 */
import { VaultError } from '../errors.ts';

const TARGET_SEGMENT_LENGTH_MAX = 128;

const SLASH = 0x2f;
const DOT = 0x2e;
const QUESTION = 0x3f;
const HASH = 0x23;

/** 1 for what may stand in a path segment; beyond its end there is nothing. A table, as this runs on every request. */
const IN_SEGMENT = new Uint8Array(128);
for (const character of 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~@+=-') {
  IN_SEGMENT[character.charCodeAt(0)] = 1;
}

/** `rawTarget` is the request target as received, such as `/api/v1/secrets/a/b?version=2`. Throws `invalid_path`. */
export function assertCanonicalTarget(rawTarget: string, trailingSlash = false): void {
  if (rawTarget.charCodeAt(0) !== SLASH) throw refused('does not start with a slash');
  let start = 1;
  let at = 1;
  for (; at < rawTarget.length; at++) {
    const code = rawTarget.charCodeAt(at);
    if (code === QUESTION) break;
    if (code === SLASH) {
      checkSegment(rawTarget, start, at);
      start = at + 1;
    } else if (IN_SEGMENT[code] !== 1) {
      throw refused(`has a character at position ${at} that is not one of A-Z a-z 0-9 . _ ~ @ + = - /`);
    }
  }
  if (at > 1 && !(trailingSlash && at === start)) checkSegment(rawTarget, start, at);
  checkQuery(rawTarget, at + 1);
}

function checkSegment(target: string, start: number, end: number): void {
  const length = end - start;
  if (length === 0) throw refused(`has an empty segment at position ${start}: a double or a trailing slash`);
  if (length > TARGET_SEGMENT_LENGTH_MAX) {
    throw refused(`has a segment of ${length} characters; at most ${TARGET_SEGMENT_LENGTH_MAX} are allowed`);
  }
  if (target.charCodeAt(start) !== DOT) return;
  if (length === 1 || (length === 2 && target.charCodeAt(start + 1) === DOT)) {
    throw refused('has a "." or ".." segment');
  }
}

function checkQuery(target: string, start: number): void {
  for (let at = start; at < target.length; at++) {
    const code = target.charCodeAt(at);
    if (code < 0x21 || code > 0x7e || code === HASH) {
      throw refused(`has a character at position ${at} of its query that must be percent-encoded`);
    }
  }
}

function refused(rule: string): VaultError {
  return new VaultError('invalid_path', `the path of the request ${rule}; send it in its canonical form`);
}
