/**
 * One call on a named key: a single item in the fields of the request, or many in `batch_input`.
 *
 * A batch answers in the order of its items, each with its result or its error; when one has an error the whole answer is
 * 400 with the envelope, unless the client names another status for a batch that succeeded in part. An item that cannot
 * be read takes its place as an error and never stops the others.
 */
import type { Fault, Reason } from '../../transit/fault.ts';
import type { Item, Result } from '../../transit/use.ts';
import { type Answer, data, json } from './answer.ts';
import { badRequest } from './error.ts';
import { type Fields, fieldsOf } from './field.ts';
import type { VaultRequest } from './route.ts';

const MOUNT_TYPE = 'transit';

const DERIVES =
  "missing 'context' for key derivation; the key was created using a derived key, which means additional, per-request " +
  'information must be included in order to perform operations with the key';

const AUTHENTICATION = 'cipher: message authentication failed';

/** What clients know each fault by. */
const TEXTS: Partial<Record<Reason, string>> = {
  no_prefix: 'invalid ciphertext: no prefix',
  bad_fields: 'invalid ciphertext: wrong number of fields',
  bad_version: 'invalid ciphertext: version number could not be decoded',
  bad_base64: 'invalid ciphertext: could not decode base64',
  version_unknown: 'invalid ciphertext: version is too new',
  version_too_old: 'ciphertext or signature version is disallowed by policy (too old)',
  version_refused: 'requested version for encryption is not allowed',
  bad_length: 'invalid ciphertext length',
  does_not_open: AUTHENTICATION,
  context_missing: DERIVES,
  context_unexpected: 'provided nonce or context not allowed for this key',
  aad_unsupported: '[associated_data] not supported for this key type',
};

const textOf = ({ reason, message }: Fault): string => TEXTS[reason] ?? message;

/** Standard base64 with padding, or the text that says it is not. */
export function base64Of(fields: Fields, name: string): Uint8Array | undefined | { readonly rejected: string } {
  const text = fields.string(name);
  if (text === undefined) return undefined;
  const bytes = Buffer.from(text, 'base64');
  if (bytes.toString('base64') === text) return bytes;
  const at = text.search(/[^A-Za-z0-9+/]/);
  return { rejected: `illegal base64 data at input byte ${at === -1 ? text.length : at}` };
}

export const isRejected = (value: unknown): value is { readonly rejected: string } =>
  typeof value === 'object' && value !== null && 'rejected' in value;

/** Runs the call. `shape` writes one result as its members. */
export async function answerItems<I extends object, T>(
  { fields }: VaultRequest,
  read: (fields: Fields) => I | { readonly rejected: string },
  act: (items: readonly Item<I>[]) => Promise<Result<T>[]>,
  shape: (result: T) => Record<string, unknown>,
): Promise<Answer> {
  const batch = fields.value('batch_input');
  if (batch === undefined) {
    const item = read(fields);
    if (isRejected(item)) throw badRequest(item.rejected);
    const [result] = await act([item]);
    if ('fault' in result!) throw badRequest(textOf(result.fault));
    return data(json(shape(result!.ok)), { mountType: MOUNT_TYPE });
  }
  const items = batchItems(batch).map((one) => {
    const own = fieldsOf(one, () => undefined);
    const reference = own.string('reference');
    return { ...read(own), ...(reference === undefined ? {} : { reference }) };
  });
  requireContexts(batch as object[]);
  const results = await act(items);
  const failed = results.filter((result) => 'fault' in result).length;
  const shaped = results.map((result) => ({
    ...('fault' in result ? { error: textOf(result.fault) } : shape(result.ok)),
    ...(result.reference === undefined ? {} : { reference: result.reference }),
  }));
  return data(json({ batch_results: shaped }), {
    mountType: MOUNT_TYPE,
    status: failed === 0 ? 200 : statusOf(fields, failed < results.length),
  });
}

function statusOf(fields: Fields, partly: boolean): number {
  const wanted = fields.integer('partial_failure_response_code');
  return partly && wanted !== undefined && wanted >= 200 && wanted <= 599 ? wanted : 400;
}

function batchItems(batch: unknown): object[] {
  const isItem = (one: unknown) => typeof one === 'object' && one !== null && !Array.isArray(one);
  if (!Array.isArray(batch) || !batch.every(isItem)) throw badRequest('failed to parse batch input');
  if (batch.length === 0) throw badRequest('missing batch input to process');
  return batch as object[];
}

function requireContexts(items: readonly object[]): void {
  const set = items.filter((item) => ((item as { context?: unknown }).context ?? '') !== '').length;
  if (set === 0 || set === items.length) return;
  throw badRequest('context should be set either in all the request blocks or in none');
}
