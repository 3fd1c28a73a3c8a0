/**
 * From a request on the wire to what a handler is given: the verb, the path, the token and the fields.
 *
 * Bodies are JSON whatever their content type says, because clients say anything; a form is taken only when it is not
 * JSON. The text of the body is kept, so that what is stored is what was sent.
 */
import type { IncomingMessage } from 'node:http';
import { parseBearerOf, parseTokenOf } from '../../auth/bearer.ts';
import { VaultError } from '../../errors.ts';
import { parseStrictJson } from '../native/json.ts';
import type { Exchange, Host } from '../protocol.ts';
import { badRequest, notFound, said, unsupportedOperation } from './error.ts';
import { durationSeconds, type Fields, fieldsOf, NO_FIELDS } from './field.ts';
import type { Verb } from './route.ts';

export const BASE = '/v1/';
export const BODY_BYTES_MAX = 32 * 1024 * 1024;

export const tokenOf = ({ headers, socket }: IncomingMessage) => {
  const token = headers['x-vault-token'];
  if (typeof token === 'string' && token !== '') return parseTokenOf(socket, token);
  return parseBearerOf(socket, headers.authorization);
};

export type Target = { readonly verb: Verb; readonly path: string; readonly query: Fields };

const VERBS: Readonly<Record<string, Verb>> = {
  ...{ GET: 'GET', HEAD: 'HEAD', POST: 'POST', PUT: 'POST', DELETE: 'DELETE', PATCH: 'PATCH', LIST: 'LIST' },
};

/** The path is without the slash at its end, which only lists may have, and reads of the system. */
export function parseTarget(method: string, url: string): Target {
  const question = url.indexOf('?');
  const full = question === -1 ? url.slice(BASE.length) : url.slice(BASE.length, question);
  const query = question === -1 ? NO_FIELDS : parametersOf(url.slice(question + 1));
  const known = VERBS[method];
  // `?help=1` asks about a path and does nothing there, whatever the verb: there is no help to give.
  if (!known || (query.string('help') ?? '') !== '') throw unsupportedOperation();
  const list = query.boolean('list');
  const verb = known === 'GET' && list ? 'LIST' : known;
  if (!full.endsWith('/')) return { verb, path: full, query };
  if (verb === 'POST' || verb === 'PATCH') throw badRequest("cannot write to a path ending in '/'");
  // No secret has a name that ends so; what is asked of the system is asked either way.
  if (verb !== 'LIST' && !full.startsWith('sys/')) throw notFound();
  return { verb, path: full.slice(0, -1), query };
}

/** Of parameters that came more than once, a list. */
function parametersOf(query: string): Fields {
  const values: Record<string, string> = Object.create(null);
  for (const [name, value] of new URLSearchParams(query)) {
    if (value.includes('\ufffd')) throw badRequest('the query is not UTF-8 in percent-encoding');
    values[name] = Object.hasOwn(values, name) ? `${values[name]},${value}` : value;
  }
  return fieldsOf(values, () => undefined);
}

const FORM = 'application/x-www-form-urlencoded';

/** Other verbs say what they have to say in the query. */
export const hasBody = ({ verb }: Target): boolean => verb === 'POST' || verb === 'PATCH';

/** The members of the body. */
export async function readFields(exchange: Exchange, host: Host): Promise<Fields> {
  const bytes = await host.readBody(exchange);
  if (bytes.length === 0) return NO_FIELDS;
  const { headers } = exchange.incoming;
  const isForm = headers['content-type']?.split(';', 1).join().trim().toLowerCase() === FORM;
  const first = Buffer.from(bytes.subarray(0, 64)).toString('latin1').trimStart()[0];
  if (isForm && first !== '{' && first !== '[') return parametersOf(Buffer.from(bytes).toString('utf8'));
  const json = parseStrictJson(bytes);
  // What the Go client sends of no fields.
  if (json.value === null) return NO_FIELDS;
  if (typeof json.value !== 'object' || Array.isArray(json.value)) {
    throw new VaultError('invalid_json', 'the body is not a JSON object');
  }
  return fieldsOf(json.value, (name) => json.raw(name), Buffer.from(bytes).toString('utf8').trim());
}

/** RFC 7396 patches say so; anything else might have been meant as a whole. */
export function requireMergePatch({ incoming }: Exchange): void {
  const type = incoming.headers['content-type']?.split(';', 1).join().trim().toLowerCase();
  if (type === 'application/merge-patch+json') return;
  throw said('unsupported_media_type', 'PATCH requires Content-Type of application/merge-patch+json');
}

/** The tenant's name; undefined where the header is absent or says the root. */
export function namespaceOf({ incoming }: Exchange): string | undefined {
  const header = incoming.headers['x-vault-namespace'];
  const name = typeof header === 'string' ? header.trim().replace(/^\/|\/$/g, '') : '';
  return name === '' || name === 'root' ? undefined : name;
}

/** The seconds for which the answer is to be wrapped; undefined when it is not. */
export function wrapSecondsOf({ incoming }: Exchange): number | undefined {
  const header = incoming.headers['x-vault-wrap-ttl'];
  if (typeof header !== 'string' || header === '') return undefined;
  const seconds = durationSeconds(header);
  if (seconds === undefined) throw badRequest('error parsing X-Vault-Wrap-TTL header: invalid duration');
  if (seconds < 0) throw badRequest('error parsing X-Vault-Wrap-TTL header: requested wrap ttl cannot be negative');
  const format = incoming.headers['x-vault-wrap-format'];
  if (seconds > 0 && typeof format === 'string' && format !== '') {
    throw badRequest('the wrapping format jwt is not supported; leave X-Vault-Wrap-Format out');
  }
  return seconds === 0 ? undefined : seconds;
}
