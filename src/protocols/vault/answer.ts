/**
 * What an endpoint answers: the envelope that every client reads, a bare body, or nothing.
 *
 * The envelope is put together as text, so that the document of a secret stands in it exactly as it was written:
 * integers beyond 2^53, `1.0` and the order of keys survive. `Json` is a text that is JSON already.
 */
import type { WireAnswer } from '../protocol.ts';

declare const jsonBrand: unique symbol;
export type Json = string & { readonly [jsonBrand]: true };

export const json = (value: unknown): Json => JSON.stringify(value) as Json;

/** A text that came in as JSON and was checked: spliced as it is. */
export const asJson = (text: string): Json => text as Json;

/** An object of which some members are texts already. */
export const object = (members: Readonly<Record<string, Json>>): Json => `{${membersOf(members)}}` as Json;

function membersOf(members: Readonly<Record<string, Json>>): string {
  let written = '';
  for (const key in members) written += `${written === '' ? '' : ','}${JSON.stringify(key)}:${members[key]}`;
  return written;
}

export type Auth = {
  readonly client_token: string;
  readonly accessor: string;
  readonly policies: readonly string[];
  readonly token_policies: readonly string[];
  readonly metadata: Readonly<Record<string, string>> | null;
  readonly lease_duration: number;
  readonly renewable: boolean;
  readonly entity_id: string;
  readonly token_type: string;
  readonly orphan: boolean;
  readonly mfa_requirement: null;
  readonly num_uses: number;
};

export type WrapInfo = {
  readonly token: string;
  readonly accessor: string;
  readonly ttl: number;
  readonly creation_time: string;
  readonly creation_path: string;
  readonly wrapped_accessor?: string;
};

export type Envelope = {
  readonly kind: 'envelope';
  /** 200 unless said. */
  readonly status?: number;
  readonly data?: Json;
  readonly auth?: Auth;
  readonly leaseId?: string;
  readonly renewable?: boolean;
  readonly leaseSeconds?: number;
  readonly warnings?: readonly string[];
  readonly mountType?: string;
  readonly wrapInfo?: WrapInfo;
  /** The members of `data` stand at the top level too: older clients of some system endpoints look there. */
  readonly alsoOnTop?: Readonly<Record<string, Json>>;
};

export type Answer =
  | Envelope
  | { readonly kind: 'bare'; readonly status?: number; readonly body: Json }
  | { readonly kind: 'empty'; readonly status?: number };

export const EMPTY: Answer = { kind: 'empty' };

/** What there is to tidy up is tidied without being asked. */
export const TIDY_STARTED =
  'Tidy operation successfully started. Any information from the operation will be printed to the server logs.';

export const data = (text: Json, more: Omit<Envelope, 'kind' | 'data'> = {}): Envelope => ({
  kind: 'envelope',
  data: text,
  ...more,
});

/** The keys of a list. */
export const keys = (names: readonly string[], mountType: string): Envelope =>
  data(json({ keys: names }), { mountType });

export function envelopeText(requestId: string, envelope: Envelope): string {
  const {
    data,
    auth,
    wrapInfo,
    leaseId = '',
    renewable = false,
    leaseSeconds = 0,
    warnings,
    mountType,
    alsoOnTop,
  } = envelope;
  // Written out, because it is a part of every answer.
  const head = `{"request_id":${json(requestId)},"lease_id":${json(leaseId)},"renewable":${renewable}`;
  const middle = `,"lease_duration":${leaseSeconds},"data":${data ?? 'null'},"wrap_info":${json(wrapInfo ?? null)}`;
  const last = `,"warnings":${json(warnings ?? null)},"auth":${json(auth ?? null)}`;
  const mount = mountType === undefined ? '' : `,"mount_type":${json(mountType)}`;
  return `${head}${middle}${last}${mount}${alsoOnTop ? onTopOf(alsoOnTop) : ''}}`;
}

const OWN_MEMBERS: ReadonlySet<string> = new Set([
  ...['request_id', 'lease_id', 'renewable', 'lease_duration', 'data'],
  ...['wrap_info', 'warnings', 'auth', 'mount_type'],
]);

/** No name stands twice: a caller may have chosen it, as the path whose capabilities were asked for. */
function onTopOf(members: Readonly<Record<string, Json>>): string {
  const others = Object.entries(members).filter(([name]) => !OWN_MEMBERS.has(name));
  return others.length === 0 ? '' : `,${membersOf(Object.fromEntries(others))}`;
}

const JSON_HEADERS = { 'Content-Type': 'application/json' };

export function wireAnswer(requestId: string, answer: Answer): WireAnswer {
  if (answer.kind === 'empty') return { status: answer.status ?? 204, headers: {}, body: '' };
  const body = answer.kind === 'bare' ? answer.body : envelopeText(requestId, answer);
  return { status: answer.status ?? 200, headers: JSON_HEADERS, body };
}
