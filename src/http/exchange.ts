/**
 * The beginning of every request: who sent it, what every answer carries, and what is refused before routing.
 *
 * The checks look at the request as it came over the wire (`incoming.url`, `rawHeaders`), because everything behind them
 * works on a parsed URL, and parsing repairs. They run before any body is read and before any token is looked at. A
 * header that could be read in two ways is refused; headers by which a proxy speaks for a client are source.ts's to read.
 */
import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Config } from '../config.ts';
import { VaultError } from '../errors.ts';
import type { Cidr } from '../policy/cidr.ts';
import type { Dialect, Exchange } from '../protocols/protocol.ts';
import { clientCertificateOf } from './client-certificate.ts';
import { HTTP_LIMITS } from './limit.ts';
import { sourceOf } from './source.ts';
import { assertCanonicalTarget } from './target.ts';

const REQUEST_ID = /^[A-Za-z0-9._-]{1,64}$/;

/** What every answer carries, errors and answers of the parser too. */
export const SECURITY_HEADERS: readonly (readonly [name: string, value: string])[] = [
  ['Cache-Control', 'no-store'],
  ['Content-Security-Policy', "default-src 'none'; frame-ancestors 'none'"],
  ['Referrer-Policy', 'no-referrer'],
  ['X-Content-Type-Options', 'nosniff'],
];

/** Beside them on every answer over TLS, and on none over plain HTTP (RFC 6797 §7.2). */
export const HSTS = ['Strict-Transport-Security', 'max-age=31536000; includeSubDomains'] as const;

export function isEncrypted(socket: Socket): boolean {
  return 'encrypted' in socket;
}

export function beginExchange(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  proxies: readonly Cidr[],
  dialect?: Dialect | undefined,
): Exchange {
  const offered = incoming.headers['x-request-id'];
  const requestId = typeof offered === 'string' && REQUEST_ID.test(offered) ? offered : randomUUID();
  const source = sourceOf(incoming, proxies);
  const clientCertificate = clientCertificateOf(incoming.socket);
  return {
    incoming,
    outgoing,
    requestId,
    source,
    clientCertificate,
    route: 'none',
    tenant: undefined,
    code: undefined,
    call: undefined,
    dialect,
    bodyBytes: 0,
  };
}

/** For answers that somebody else writes: they have what every answer carries. */
export function setCommonHeaders({ incoming, outgoing, requestId }: Exchange): void {
  for (const [name, value] of SECURITY_HEADERS) outgoing.setHeader(name, value);
  if (isEncrypted(incoming.socket)) outgoing.setHeader(...HSTS);
  outgoing.setHeader('X-Request-Id', requestId);
}

/** The same as names and values in turn, for an answer that is written in one go. */
export function commonHeaders({ incoming, requestId }: Exchange): string[] {
  const headers = [...FLAT_SECURITY_HEADERS, 'X-Request-Id', requestId];
  if (isEncrypted(incoming.socket)) headers.push(...HSTS);
  return headers;
}

const FLAT_SECURITY_HEADERS = SECURITY_HEADERS.flat();

/** In this order, before routing. Each throws a VaultError or lets the request pass. */
export const CHECKS: readonly ((incoming: IncomingMessage, config: Config, dialect?: Dialect) => void)[] = [
  refuseAmbiguousHeaders,
  refuseStrangeHosts,
  refuseStrangeTargets,
  refuseTokensInQuery,
];

/** Node keeps the first of two headers and drops the other; a proxy in front may have looked at the other one. */
const ONCE: readonly string[] = [
  'authorization',
  'content-encoding',
  'content-length',
  'content-type',
  'expect',
  'host',
  'idempotency-key',
  'if-match',
  'if-none-match',
  'transfer-encoding',
  'x-request-id',
  'x-vault-namespace',
  'x-vault-token',
  'x-vault-wrap-ttl',
];
/** A bit for each, by its name in the spellings that clients send. */
const ONCE_BIT: ReadonlyMap<string, number> = new Map(
  ONCE.flatMap((name, i) => [name, name.replace(/\b[a-z]/g, (letter) => letter.toUpperCase())].map((s) => [s, 1 << i])),
);

function refuseAmbiguousHeaders({ rawHeaders }: IncomingMessage, { http }: Config): void {
  if (rawHeaders.length / 2 > http.headersMax) throw invalid(`the request has more than ${http.headersMax} headers`);
  let seen = 0;
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at]!;
    const bit = ONCE_BIT.get(name) ?? ONCE_BIT.get(name.toLowerCase()) ?? 0;
    if (seen & bit) throw invalid(`the header ${name.toLowerCase()} came twice; send it once`);
    seen |= bit;
  }
}

const HOST = /^(?:[A-Za-z0-9][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?$/;
/** Those that need no second look. */
const PLAIN_HOST = /^[a-z0-9][a-z0-9.-]*(?::(?:[0-9]{1,4}|[1-5][0-9]{4}))?$/;

/** RFC 9112 §3.2: a missing, empty or malformed Host is 400. Nothing is decided by its value. */
function refuseStrangeHosts({ headers: { host }, httpVersion }: IncomingMessage): void {
  if (host === undefined && httpVersion === '1.0') return;
  const fits = host !== undefined && host.length <= HTTP_LIMITS.hostLengthMax;
  if (fits && PLAIN_HOST.test(host)) return;
  if (!fits || !HOST.test(host) || !URL.canParse(`http://${host}/`)) {
    throw invalid('the header Host is missing or is not a host name with an optional port');
  }
}

function refuseStrangeTargets({ url }: IncomingMessage, _config: Config, dialect?: Dialect): void {
  assertCanonicalTarget(url ?? '', dialect?.trailingSlash);
}

const TOKEN_PARAMETERS = new Set(['token', 'access_token']);

/** A token in an address ends up in histories and logs (RFC 6750 §2.3), so it is refused even where it would be ignored. */
function refuseTokensInQuery({ url = '' }: IncomingMessage): void {
  const question = url.indexOf('?');
  if (question === -1) return;
  for (const name of new URLSearchParams(url.slice(question + 1)).keys()) {
    if (!TOKEN_PARAMETERS.has(name.toLowerCase())) continue;
    throw invalid('a token must not stand in the query; send it as "Authorization: Bearer <token>" and end this one');
  }
}

function invalid(message: string): VaultError {
  return new VaultError('invalid_request', message);
}
