/**
 * application/x-www-form-urlencoded as RFC 6749 uses it: in the body (appendix B), and for the two halves of HTTP Basic
 * (§2.3.1). What could be read in two ways is refused: a parameter that comes twice, bytes that are not UTF-8.
 */
import { VaultError } from '../../errors.ts';

const FORM_BYTES_MAX = 8 * 1024;
const PARAMETERS_MAX = 20;

/** §3.1 and §3.2: no parameter twice; one without a value counts as left out. Throws `invalid_request`, `too_large`. */
export function readForm(body: Uint8Array): ReadonlyMap<string, string> {
  if (body.length > FORM_BYTES_MAX)
    throw new VaultError('too_large', `the form is larger than ${FORM_BYTES_MAX} bytes`);
  const form = new Map<string, string>();
  const seen = new Set<string>();
  for (const [name, value] of new URLSearchParams(Buffer.from(body).toString('utf8'))) {
    if (seen.has(name) || seen.size >= PARAMETERS_MAX) {
      throw new VaultError('invalid_request', 'a parameter came twice, or there are too many');
    }
    if (name.includes('\ufffd') || value.includes('\ufffd')) {
      throw new VaultError('invalid_request', 'the form is not UTF-8');
    }
    seen.add(name);
    if (value !== '') form.set(name, value);
  }
  return form;
}

/** Undefined when it is not Basic, or not in its one canonical form. */
export function readBasic(header: string): { clientId: string; clientSecret: string } | undefined {
  const match = /^Basic +([A-Za-z0-9+/]{1,4096}={0,2})$/i.exec(header);
  if (!match) return undefined;
  const bytes = Buffer.from(match[1]!, 'base64');
  const text = bytes.toString('utf8');
  if (bytes.toString('base64') !== match[1] || !Buffer.from(text).equals(bytes)) return undefined;
  const colon = text.indexOf(':');
  if (colon === -1) return undefined;
  const [clientId, clientSecret] = [text.slice(0, colon), text.slice(colon + 1)].map(decoded);
  return clientId && clientSecret ? { clientId, clientSecret } : undefined;
}

/** One value of a form. Clients that skip the encoding send the same, because ours have nothing to encode. */
function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text.replace(/\+/g, ' '));
  } catch {
    return undefined;
  }
}
