/**
 * sys/wrapping: an answer that is handed on as a token, and opened once.
 *
 * The token comes in the body, or as the client's own. What is opened is the first answer verbatim, its request id and
 * all. Used, unknown and expired are one text.
 */
import { parseTokenText } from '../../auth/bearer.ts';
import { readWrapping, rewrap, unwrap, type Wrapping, wrap } from '../../auth/wrapping.ts';
import type { ErrorCode } from '../../errors.ts';
import type { Call } from '../../policy/access.ts';
import { type Answer, asJson, data, envelopeText, json, type WrapInfo } from './answer.ts';
import { badRequest, saying } from './error.ts';
import { wrapSecondsOf } from './request.ts';
import type { Route, VaultRequest } from './route.ts';

export function wrapInfoOf(made: Wrapping, wrappedAccessor?: string): WrapInfo {
  return {
    token: made.token,
    accessor: made.accessor,
    ttl: made.ttlSeconds,
    creation_time: made.createdAt,
    creation_path: made.creationPath,
    ...(wrappedAccessor === undefined ? {} : { wrapped_accessor: wrappedAccessor }),
  };
}

const GONE = 'wrapping token is not valid or does not exist';
const TEXTS: Partial<Record<ErrorCode, string>> = { unauthenticated: GONE, invalid_request: GONE };

/** The request as whoever holds the wrapping token makes it: that token is the actor. */
function byWrapping({ call, fields, exchange }: VaultRequest): Call {
  const text = fields.string('token');
  if (text === undefined || text === '') {
    if (!call.token) throw badRequest('missing "token" value in input');
    return call;
  }
  const by: Call = { ...call, token: parseTokenText(text) };
  exchange.call = by;
  exchange.tenant = by.token?.tenantId;
  return by;
}

async function lookup(request: VaultRequest): Promise<Answer> {
  const found = await saying(readWrapping(request.vault, byWrapping(request)), TEXTS);
  const about = {
    creation_path: found.creationPath,
    creation_time: found.createdAt,
    creation_ttl: found.ttlSeconds,
  };
  return data(json(about), { mountType: 'system' });
}

const unwrapIt = async (request: VaultRequest): Promise<Answer> => ({
  kind: 'bare',
  body: asJson(await saying(unwrap(request.vault, byWrapping(request)), TEXTS)),
});

const rewrapIt = async (request: VaultRequest): Promise<Answer> => ({
  kind: 'envelope',
  wrapInfo: wrapInfoOf(await saying(rewrap(request.vault, byWrapping(request)), TEXTS)),
});

async function wrapIt({ vault, call, exchange, fields, path }: VaultRequest): Promise<Answer> {
  const ttlSeconds = wrapSecondsOf(exchange);
  if (ttlSeconds === undefined) throw badRequest('endpoint requires response wrapping to be used');
  const text = envelopeText(exchange.requestId, data(asJson(fields.text)));
  return { kind: 'envelope', wrapInfo: wrapInfoOf(await wrap(vault, call, { text, creationPath: path, ttlSeconds })) };
}

export const WRAPPING_ROUTES: readonly Route[] = [
  { pattern: 'wrapping/wrap', verbs: { POST: wrapIt } },
  { pattern: 'wrapping/lookup', verbs: { GET: lookup, POST: lookup }, open: true },
  { pattern: 'wrapping/unwrap', verbs: { POST: unwrapIt }, open: true },
  { pattern: 'wrapping/rewrap', verbs: { POST: rewrapIt } },
];
