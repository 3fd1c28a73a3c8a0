/**
 * Requests to addresses that people of a tenant have configured: webhooks, issuers of tokens.
 *
 * Whoever may name a URL could otherwise have the vault look into networks that only the vault reaches: the host's own
 * services, a cloud's metadata service, the machines beside it. So the address that a name resolves to is checked, and
 * that address is connected to: only public ones, and those in networks that the installation names
 * (BULLA_OUTBOUND_NETWORKS). Redirects are not followed, and nothing of a caller's request is sent on.
 */
import { lookup as resolveName } from 'node:dns';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { isIP, type LookupFunction } from 'node:net';
import { VaultError } from './errors.ts';
import { type Cidr, contains, parseAddress, parseCidr } from './policy/cidr.ts';

export type OutboundRequest = {
  readonly method: 'GET' | 'POST';
  readonly url: URL;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  /** PEM of the authorities to trust instead of the system's. */
  readonly ca?: string | undefined;
  /** Networks beside the public ones. */
  readonly networks: readonly Cidr[];
  readonly signal: AbortSignal;
  /** Of the answer; a longer one is refused. */
  readonly bytesMax: number;
};

export type OutboundAnswer = {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly body: Buffer;
};

/**
 * The answer, whatever its status. Throws `invalid_request` for an address that may not be connected to and for plain
 * HTTP to another machine; anything else that is thrown is what Node says of the connection. `onSent` is called once the
 * connection stands: from then on the other side may have heard of it.
 */
export async function fetchOutbound(
  wanted: OutboundRequest,
  onSent: () => void = () => undefined,
): Promise<OutboundAnswer> {
  const { method, url, body, ca, networks, signal, bytesMax } = wanted;
  const secure = url.protocol === 'https:';
  if (!secure && url.protocol !== 'http:') throw unsupported();
  const reach = (address: string) => mayReach(address, networks) && (secure || isLoopback(address));
  const host = url.hostname.replace(/^\[|\]$/g, '');
  // A literal address is never looked up: it is checked here.
  if (isIP(host) && !reach(host)) throw mayReach(host, networks) ? unsupported() : forbidden(host);
  const options = {
    ...{ method, signal, lookup: guardedLookup(reach), agent: false as const },
    headers: { ...wanted.headers, ...(body === undefined ? {} : { 'content-length': Buffer.byteLength(body) }) },
    ...(ca === undefined ? {} : { ca }),
  };
  const answer = await new Promise<IncomingMessage>((resolve, reject) => {
    const request = secure ? httpsRequest(url, options) : httpRequest(url, options);
    request.once('socket', (socket) => socket.once(secure ? 'secureConnect' : 'connect', onSent));
    request.once('response', resolve).once('error', reject).end(body);
  });
  return { status: answer.statusCode ?? 0, headers: answer.headers, body: await readWhole(answer, bytesMax) };
}

async function readWhole(answer: IncomingMessage, bytesMax: number): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let length = 0;
  for await (const piece of answer as AsyncIterable<Buffer>) {
    length += piece.length;
    if (length > bytesMax) throw new VaultError('invalid_request', `The answer has more than ${bytesMax} bytes.`);
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}

/** Resolves a name and gives on only addresses that may be reached; none at all is an error. */
function guardedLookup(reach: (address: string) => boolean): LookupFunction {
  return (host, options, callback) => {
    resolveName(host, { ...options, all: true }, (error, addresses) => {
      if (error) return callback(error, '', 0);
      const open = addresses.filter(({ address }) => reach(address));
      if (open.length === 0) return callback(forbidden(host), '', 0);
      if (options.all) return callback(null, open as never);
      callback(null, open[0]!.address, open[0]!.family);
    });
  };
}

/** Whether an address is public, or in one of these networks. */
function mayReach(text: string, networks: readonly Cidr[]): boolean {
  const address = parseAddress(text);
  if (address === undefined) return false;
  return networks.some((cidr) => contains(cidr, address)) || !NOT_PUBLIC.some((cidr) => contains(cidr, address));
}

const isLoopback = (text: string) => {
  const address = parseAddress(text);
  return address !== undefined && LOOPBACK.some((cidr) => contains(cidr, address));
};

const cidrs = (...texts: string[]) => texts.map((text) => parseCidr(text)!);
const LOOPBACK = cidrs('127.0.0.0/8', '::1/128');

/** A public address by its number, and the host's own service to every machine in Azure. */
const HOST_SERVICES = cidrs('168.63.129.16/32');

/** IANA's special-purpose registries (RFC 6890 and later); IPv4-mapped IPv6 addresses count as IPv4. */
const NOT_PUBLIC = [
  ...LOOPBACK,
  ...HOST_SERVICES,
  ...cidrs('0.0.0.0/8', '10.0.0.0/8', '100.64.0.0/10', '169.254.0.0/16', '172.16.0.0/12', '192.0.0.0/24'),
  ...cidrs('192.0.2.0/24', '192.88.99.0/24', '192.168.0.0/16', '198.18.0.0/15', '198.51.100.0/24', '203.0.113.0/24'),
  ...cidrs('224.0.0.0/4', '240.0.0.0/4'),
  // Of old ways to write IPv4 in IPv6 (RFC 4291 §2.5.5.1, RFC 2765) too; whoever routes them, routes to those addresses.
  ...cidrs(
    '::/96',
    '::ffff:0:0:0/96',
    '64:ff9b::/96',
    '64:ff9b:1::/48',
    '100::/64',
    '2001::/23',
    '2001:db8::/32',
    '2002::/16',
  ),
  ...cidrs('3fff::/20', '5f00::/16', 'fc00::/7', 'fe80::/10', 'fec0::/10', 'ff00::/8'),
];

function forbidden(host: string): VaultError {
  return new VaultError(
    'invalid_request',
    `${host} is no public address, or not one for plain HTTP: an operator allows its network with BULLA_OUTBOUND_NETWORKS.`,
  );
}

function unsupported(): VaultError {
  return new VaultError('invalid_request', 'The URL has to begin with https://; http:// is for loopback addresses.');
}
