/** transit/ under /v1: what named keys do, encrypt, sign and hash, and all routes of it. */
import { VaultError } from '../../errors.ts';
import {
  type DataKeyAsk,
  type DecryptItem,
  decrypt,
  type Encrypted,
  type EncryptItem,
  encrypt,
  makeDataKey,
  makeWrappedDataKey,
  type RewrapItem,
  rewrap,
} from '../../transit/cipher.ts';
import { createKey } from '../../transit/key.ts';
import { computeHash, makeRandom } from '../../transit/keyless.ts';
import {
  HASHES,
  type HashName,
  hmac,
  SCHEME_DEFAULT,
  type SignatureScheme,
  sign,
  verify,
  verifyHmac,
} from '../../transit/sign.ts';
import type { Result } from '../../transit/use.ts';
import { type Answer, data, json } from './answer.ts';
import { badRequest, saying } from './error.ts';
import type { Fields } from './field.ts';
import type { Handler, Route, VaultRequest } from './route.ts';
import { bytesOf, formatOf } from './tool.ts';
import { answerItems, base64Of, isRejected } from './transit-item.ts';
import { KEY_ROUTES, MOUNT_TYPE, nameOf, newKeyIn } from './transit-key.ts';

// ---- ciphertexts --------------------------------------------------------------------------------------------------

type Bytes = Uint8Array | undefined;

/** The members of an item that are base64; the first that is not rejects the item. */
function boundIn(
  fields: Fields,
): { context: Bytes; associatedData: Bytes; keyVersion: number | undefined } | { rejected: string } {
  if ((fields.string('nonce') ?? '') !== '') return { rejected: 'provided nonce not allowed for this key' };
  const [context, associatedData] = [base64Of(fields, 'context'), base64Of(fields, 'associated_data')];
  if (isRejected(context)) return context;
  if (isRejected(associatedData)) return associatedData;
  const keyVersion = fields.integer('key_version');
  return { context: context?.length ? context : undefined, associatedData, keyVersion };
}

function encryptItemIn(fields: Fields): EncryptItem | { rejected: string } {
  const bound = boundIn(fields);
  if ('rejected' in bound) return bound;
  const plaintext = base64Of(fields, 'plaintext');
  if (plaintext === undefined) return { rejected: 'missing plaintext to encrypt' };
  return isRejected(plaintext) ? plaintext : { ...bound, plaintext };
}

function ciphertextIn(fields: Fields): RewrapItem | { rejected: string } {
  const bound = boundIn(fields);
  if ('rejected' in bound) return bound;
  const ciphertext = fields.string('ciphertext') ?? '';
  return ciphertext === '' ? { rejected: 'missing ciphertext to decrypt' } : { ...bound, ciphertext };
}

const shapeEncrypted = ({ ciphertext, keyVersion }: Encrypted) => ({ ciphertext, key_version: keyVersion });
const KEYS_ABSENT = { not_found: 'encryption key not found' } as const;

/** Whoever may create keys has one made by its first use, as clients expect of this call alone. */
async function encryptHere(request: VaultRequest): Promise<Answer> {
  const { vault, call, fields } = request;
  const name = nameOf(request);
  const act = async (items: Parameters<typeof encrypt>[3]) => {
    try {
      return await encrypt(vault, call, name, items);
    } catch (error) {
      if (!(error instanceof VaultError) || error.code !== 'not_found') throw error;
      const type = { ...newKeyIn(fields), exportable: undefined };
      await saying(createKey(vault, call, name, type, { ifExists: 'keep' }), { forbidden: 'encryption key not found' });
      return encrypt(vault, call, name, items);
    }
  };
  return answerItems(request, encryptItemIn, act, shapeEncrypted);
}

const decryptHere: Handler = (request) =>
  answerItems<DecryptItem, { plaintext: Uint8Array }>(
    request,
    ciphertextIn,
    (items) => saying(decrypt(request.vault, request.call, nameOf(request), items), KEYS_ABSENT),
    ({ plaintext }) => ({ plaintext: Buffer.from(plaintext).toString('base64') }),
  );

const rewrapHere: Handler = (request) =>
  answerItems<RewrapItem, Encrypted>(
    request,
    ciphertextIn,
    (items) => saying(rewrap(request.vault, request.call, nameOf(request), items), KEYS_ABSENT),
    shapeEncrypted,
  );

async function dataKeyHere(request: VaultRequest): Promise<Answer> {
  const { vault, call, at, fields } = request;
  const readable = at.kind === 'plaintext';
  if (!readable && at.kind !== 'wrapped') throw badRequest("Invalid path, must be 'plaintext' or 'wrapped'");
  const bits = fields.integer('bits') ?? 256;
  if (bits !== 128 && bits !== 256 && bits !== 512) throw badRequest('invalid bit length');
  return answerItems<DataKeyAsk, Encrypted & { plaintext?: Uint8Array }>(
    request,
    (own) => {
      const bound = boundIn(own);
      return 'rejected' in bound ? bound : { ...bound, bits };
    },
    async ([item]): Promise<Result<Encrypted & { plaintext?: Uint8Array }>[]> => {
      const make = readable ? makeDataKey : makeWrappedDataKey;
      return [await saying(make(vault, call, nameOf(request), item as DataKeyAsk), KEYS_ABSENT)];
    },
    ({ plaintext, ...encrypted }) => ({
      ...shapeEncrypted(encrypted),
      ...(plaintext ? { plaintext: Buffer.from(plaintext).toString('base64') } : {}),
    }),
  );
}

// ---- signatures ---------------------------------------------------------------------------------------------------

const hashNamed = (text: string): HashName => {
  const found = HASHES.find((one) => one === text);
  if (!found) throw badRequest(`unsupported hash algorithm`);
  return found;
};

function schemeOf({ fields, at }: VaultRequest): SignatureScheme {
  const hash = hashNamed(at.algorithm ?? fields.string('hash_algorithm') ?? fields.string('algorithm') ?? 'sha2-256');
  const padding = fields.string('signature_algorithm') ?? SCHEME_DEFAULT.padding;
  if (padding !== 'pss' && padding !== 'pkcs1v15') throw badRequest('invalid signature algorithm');
  const marshaling = fields.string('marshaling_algorithm') ?? SCHEME_DEFAULT.marshaling;
  if (marshaling !== 'asn1' && marshaling !== 'jws') throw badRequest('invalid marshaling type');
  const salt = fields.string('salt_length') ?? 'auto';
  const saltLength = salt === 'auto' || salt === 'hash' ? salt : Number(salt);
  if (typeof saltLength === 'number' && !Number.isSafeInteger(saltLength)) throw badRequest('invalid salt length');
  return { hash, padding, marshaling, saltLength, prehashed: fields.boolean('prehashed') ?? false };
}

function inputIn(
  fields: Fields,
): { input: Uint8Array; context: Bytes; keyVersion: number | undefined } | { rejected: string } {
  const bound = boundIn(fields);
  if ('rejected' in bound) return bound;
  const input = base64Of(fields, 'input');
  if (input === undefined) return { rejected: 'missing input to process' };
  return isRejected(input) ? input : { input, context: bound.context, keyVersion: bound.keyVersion };
}

const SIGNING_ABSENT = { not_found: 'signing key not found' } as const;

const signHere: Handler = (request) => {
  const scheme = schemeOf(request);
  return answerItems(
    request,
    inputIn,
    (items) => saying(sign(request.vault, request.call, nameOf(request), scheme, items), SIGNING_ABSENT),
    ({ signature, keyVersion, publicKey }) => ({
      signature,
      key_version: keyVersion,
      ...(publicKey === undefined ? {} : { public_key: publicKey }),
    }),
  );
};

/** A signature or an HMAC: each item, or the call, says which. */
const verifyHere: Handler = (request) => {
  const { vault, call, fields } = request;
  const name = nameOf(request);
  const scheme = schemeOf(request);
  const batch = fields.value('batch_input');
  const first = Array.isArray(batch) ? (batch[0] as Record<string, unknown> | undefined) : undefined;
  const isHmac = first ? first.hmac !== undefined : fields.has('hmac');
  if (isHmac) {
    return answerItems(
      request,
      (own) => shownIn(own, 'hmac', (item, text) => ({ ...item, hmac: text })),
      (items) => saying(verifyHmac(vault, call, name, scheme.hash, items), SIGNING_ABSENT),
      ({ valid }) => ({ valid }),
    );
  }
  return answerItems(
    request,
    (own) => shownIn(own, 'signature', (item, text) => ({ ...item, signature: text })),
    (items) => saying(verify(vault, call, name, scheme, items), SIGNING_ABSENT),
    ({ valid }) => ({ valid }),
  );
};

type Input = Exclude<ReturnType<typeof inputIn>, { rejected: string }>;

function shownIn<I>(own: Fields, member: string, make: (item: Input, text: string) => I): I | { rejected: string } {
  const item = inputIn(own);
  if ('rejected' in item) return item;
  const text = own.string(member) ?? '';
  return text === '' ? { rejected: `one of 'signature' or 'hmac' must be specified` } : make(item, text);
}

const hmacHere: Handler = (request) => {
  const { hash } = schemeOf(request);
  return answerItems(
    request,
    inputIn,
    (items) => saying(hmac(request.vault, request.call, nameOf(request), hash, items), KEYS_ABSENT),
    (made) => ({ hmac: made.hmac, key_version: made.keyVersion }),
  );
};

// ---- without a key ------------------------------------------------------------------------------------------------

async function hashHere({ vault, call, at, fields }: VaultRequest): Promise<Answer> {
  const hash = hashNamed(at.algorithm ?? fields.string('algorithm') ?? 'sha2-256');
  const format = formatOf(fields.string('format'), 'hex');
  const sum = await computeHash(vault, call, { hash, input: bytesOf(fields.string('input') ?? '') });
  return data(json({ sum: Buffer.from(sum).toString(format) }), { mountType: MOUNT_TYPE });
}

async function randomHere({ vault, call, at, fields }: VaultRequest): Promise<Answer> {
  // All of our randomness comes from one source, whatever is named.
  const [first, second] = [at.a, at.b];
  const text = second ?? (first !== undefined && /^\d+$/.test(first) ? first : undefined);
  const bytes = text === undefined ? (fields.integer('bytes') ?? 32) : Number(text);
  const format = formatOf(fields.string('format'), 'base64');
  const made = await makeRandom(vault, call, { bytes });
  return data(json({ random_bytes: Buffer.from(made).toString(format) }), { mountType: MOUNT_TYPE });
}

export const TRANSIT_ROUTES: readonly Route[] = [
  ...KEY_ROUTES,
  { pattern: 'encrypt/{name}', verbs: { POST: encryptHere } },
  { pattern: 'decrypt/{name}', verbs: { POST: decryptHere } },
  { pattern: 'rewrap/{name}', verbs: { POST: rewrapHere } },
  { pattern: 'datakey/{kind}/{name}', verbs: { POST: dataKeyHere } },
  { pattern: 'sign/{name}', verbs: { POST: signHere } },
  { pattern: 'sign/{name}/{algorithm}', verbs: { POST: signHere } },
  { pattern: 'verify/{name}', verbs: { POST: verifyHere } },
  { pattern: 'verify/{name}/{algorithm}', verbs: { POST: verifyHere } },
  { pattern: 'hmac/{name}', verbs: { POST: hmacHere } },
  { pattern: 'hmac/{name}/{algorithm}', verbs: { POST: hmacHere } },
  { pattern: 'hash', verbs: { POST: hashHere } },
  { pattern: 'hash/{algorithm}', verbs: { POST: hashHere } },
  { pattern: 'random', verbs: { POST: randomHere } },
  { pattern: 'random/{a}', verbs: { POST: randomHere } },
  { pattern: 'random/{a}/{b}', verbs: { POST: randomHere } },
];
