/**
 * Network addresses as numbers, so that two spellings of one address are equal.
 *
 * An address is 4 bytes (IPv4) or 16 (IPv6); an IPv4-mapped IPv6 address (`::ffff:10.0.0.1`, RFC 4291 §2.5.5.2) IS the
 * IPv4 address, because a dual-stack socket shows the same client either way. The families never match each other:
 * `::/0` is every IPv6 address and no IPv4 one. Nothing here does I/O or resolves names.
 */
import { isIPv4, isIPv6 } from 'node:net';

export type Address = Uint8Array;

export type Cidr = {
  readonly network: Address;
  /** Leading bits that an address must share with the network: 0–32 or 0–128. */
  readonly bits: number;
};

/** The longest text form of an IPv6 address with a scope; longer texts are refused before anything looks at them. */
const ADDRESS_LENGTH_MAX = 64;
const MAPPED_PREFIX_BITS = 96;

/** The address, or undefined when the text is none. A scope (`fe80::1%eth0`) is dropped. */
export function parseAddress(text: string): Address | undefined {
  if (text.length > ADDRESS_LENGTH_MAX) return undefined;
  if (isIPv4(text)) return bytesOfV4(text);
  if (!isIPv6(text)) return undefined;
  const scope = text.indexOf('%');
  const bytes = bytesOfV6(scope === -1 ? text : text.slice(0, scope));
  return isMapped(bytes) ? bytes.subarray(12) : bytes;
}

/** The one text of an address: dotted, or as RFC 5952 §4 writes IPv6. */
export function formatAddress(address: Address): string {
  if (address.length === 4) return address.join('.');
  const groups = Array.from({ length: 8 }, (_, i) => ((address[2 * i]! << 8) | address[2 * i + 1]!).toString(16));
  const { start, length } = longestZeros(groups);
  if (length < 2) return groups.join(':');
  return `${groups.slice(0, start).join(':')}::${groups.slice(start + length).join(':')}`;
}

function longestZeros(groups: readonly string[]): { start: number; length: number } {
  let best = { start: 0, length: 0 };
  for (let start = 0; start < groups.length; start++) {
    let end = start;
    while (groups[end] === '0') end++;
    if (end - start > best.length) best = { start, length: end - start };
  }
  return best;
}

/** `10.0.0.0/8` or `2001:db8::/32`; undefined when the text is not one, or sets bits beyond its prefix. */
export function parseCidr(text: string): Cidr | undefined {
  const slash = text.indexOf('/');
  if (slash === -1 || text.includes('%')) return undefined;
  const addressText = text.slice(0, slash);
  const address = parseAddress(addressText);
  const written = parsePrefixLength(text.slice(slash + 1));
  if (address === undefined || written === undefined) return undefined;
  const wasMapped = address.length === 4 && addressText.includes(':');
  const bits = wasMapped ? written - MAPPED_PREFIX_BITS : written;
  if (bits < 0 || bits > address.length * 8) return undefined;
  return hasBitsBeyond(address, bits) ? undefined : { network: address, bits };
}

export function contains(cidr: Cidr, address: Address): boolean {
  const { network, bits } = cidr;
  if (network.length !== address.length) return false;
  const whole = bits >> 3;
  for (let at = 0; at < whole; at++) {
    if (network[at] !== address[at]) return false;
  }
  const rest = bits & 7;
  return rest === 0 || (network[whole]! ^ address[whole]!) >> (8 - rest) === 0;
}

/** Whether every address of the one lies in the other. */
export const isWithin = (inner: Cidr, outer: Cidr) => outer.bits <= inner.bits && contains(outer, inner.network);

/** Whether an address lies in one of the networks, which are texts as they are stored. What is no address is from nowhere. */
export function isFrom(cidrs: readonly string[], source: string): boolean {
  const address = parseAddress(source);
  if (address === undefined) return false;
  return cidrs.map(parseCidr).some((cidr) => cidr !== undefined && contains(cidr, address));
}

/** Whether a network lies in one of others. */
export function isAmong(text: string, others: readonly string[]): boolean {
  const inner = parseCidr(text);
  if (inner === undefined) return false;
  return others.map(parseCidr).some((outer) => outer !== undefined && isWithin(inner, outer));
}

const NETWORK_BYTES_V6 = 8;

/**
 * Who a client is by its address, as one text: an IPv4 address, or the /64 of an IPv6 one, all of which is one
 * customer's (RFC 6177), who could take another address for every request. What is no address stays as it is.
 */
export function networkOf(text: string): string {
  const address = parseAddress(text);
  if (address === undefined) return text.slice(0, ADDRESS_LENGTH_MAX);
  if (address.length === 4) return address.join('.');
  const groups = Array.from({ length: NETWORK_BYTES_V6 / 2 }, (_, i) =>
    ((address[2 * i]! << 8) | address[2 * i + 1]!).toString(16),
  );
  return `${groups.join(':')}::/64`;
}

function parsePrefixLength(text: string): number | undefined {
  if (text.length === 0 || text.length > 3) return undefined;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code < 0x30 || code > 0x39) return undefined;
  }
  // `/08` is another spelling of `/8`, and there is one way to write a thing.
  if (text.length > 1 && text[0] === '0') return undefined;
  return Number(text);
}

function bytesOfV4(text: string): Uint8Array {
  return Uint8Array.from(text.split('.'), Number);
}

/** `text` has passed `isIPv6` and has no scope. */
function bytesOfV6(text: string): Uint8Array {
  const [head = '', tail] = text.split('::');
  const bytes = new Uint8Array(16);
  bytes.set(bytesOfGroups(head));
  if (tail !== undefined) {
    const end = bytesOfGroups(tail);
    bytes.set(end, 16 - end.length);
  }
  return bytes;
}

/** Colon-separated groups of hex digits, the last of which may be a dotted IPv4 address. */
function bytesOfGroups(text: string): number[] {
  if (text === '') return [];
  return text.split(':').flatMap((group) => {
    if (group.includes('.')) return [...bytesOfV4(group)];
    const value = Number.parseInt(group, 16);
    return [value >> 8, value & 0xff];
  });
}

function isMapped(bytes: Uint8Array): boolean {
  return bytes.subarray(0, 10).every((byte) => byte === 0) && bytes[10] === 0xff && bytes[11] === 0xff;
}

function hasBitsBeyond(address: Address, bits: number): boolean {
  return address.some((byte, at) => {
    const kept = Math.min(8, Math.max(0, bits - at * 8));
    return (byte & (0xff >> kept)) !== 0;
  });
}

/** The networks that lie in both lists of canonical texts; null: in every one. */
export function common(a: readonly string[] | null, b: readonly string[] | null): string[] | null {
  if (a === null || b === null) return a === null ? b && [...b] : [...a];
  return [...new Set([...a.filter((text) => isAmong(text, b)), ...b.filter((text) => isAmong(text, a))])];
}
