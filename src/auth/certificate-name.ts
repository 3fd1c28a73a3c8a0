/**
 * Patterns of the names in a client's certificate: `dns:*.web.example`, `uri:spiffe://corp/ns/*`, `email:*@example.com`,
 * `ip:10.0.0.7`. A `*` stands for one label, one segment or one local part, never for more and never for nothing.
 */
import { VaultError } from '../errors.ts';

const KINDS = ['dns', 'uri', 'email', 'ip'] as const;
type Kind = (typeof KINDS)[number];

/** What separates the parts that a `*` stands for one of. */
const SEPARATOR: Readonly<Record<Kind, string>> = { dns: '.', uri: '/', email: '@', ip: '' };
const PATTERN = /^(dns|uri|email|ip):([!-~]{1,512})$/;

/** Throws `invalid_request`. */
export function parsePattern(text: string): string {
  const [, kind, rest = ''] = PATTERN.exec(text) ?? [];
  const separator = SEPARATOR[kind as Kind];
  const parts = separator ? rest.split(separator) : [rest];
  // Scheme and host of a URI are named, and so are the last two labels of a host and the domain of an address.
  const named =
    kind === 'uri' ? parts.slice(0, 3) : kind === 'dns' ? parts.slice(-2) : kind === 'email' ? parts.slice(1) : parts;
  const whole = parts.every((part) => part === '*' || !part.includes('*'));
  if (kind === undefined || !whole || named.some((part) => part.includes('*'))) {
    throw new VaultError(
      'invalid_request',
      'names: expected dns:, uri:, email: or ip: and a name, where * stands for one whole label, segment or local part, ' +
        'such as dns:*.web.example.com or uri:spiffe://corp/ns/*.',
    );
  }
  return kind === 'dns' ? text.toLowerCase() : text;
}

/** Both are canonical. */
export function matchesName(pattern: string, name: string): boolean {
  const kind = KINDS.find((one) => pattern.startsWith(`${one}:`) && name.startsWith(`${one}:`));
  if (kind === undefined) return false;
  if (!pattern.includes('*')) return pattern === name;
  const [wanted, given] = [pattern, name].map((text) => text.slice(kind.length + 1).split(SEPARATOR[kind]));
  return (
    wanted!.length === given!.length &&
    wanted!.every((part, i) => (part === '*' ? given![i] !== '' : part === given![i]))
  );
}
