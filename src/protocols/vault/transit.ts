/** transit/: named keys that encrypt, sign and hash, and never leave. */
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
import { EXPORT_KINDS, type ExportKind, exportKey } from '../../transit/export.ts';
import {
  configureKey,
  createKey,
  deleteKey,
  type KeyInfo,
  listKeys,
  type NewKey,
  readKey,
  trimKey,
} from '../../transit/key.ts';
import { computeHash, makeRandom } from '../../transit/keyless.ts';
import { parseKeyName } from '../../transit/name.ts';
import { rotateKey } from '../../transit/rotate.ts';
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
import { type Answer, data, EMPTY, json } from './answer.ts';
import { badRequest, saying } from './error.ts';
import type { Fields } from './field.ts';
import { listing } from './paging.ts';
import type { Handler, Route, VaultRequest } from './route.ts';
import { bytesOf, formatOf } from './tool.ts';
import { answerItems, base64Of, isRejected } from './transit-item.ts';

const MOUNT_TYPE = 'transit';
const nameOf = ({ at }: VaultRequest) => parseKeyName(at.name!);

type Type = NonNullable<NewKey['type']>;

/** What this API offers, and what each can do. */
const TYPES: Partial<Record<Type, { encrypts: boolean; signs: boolean; derives: boolean }>> = {
  ...Object.fromEntries(
    ['aes256-gcm96', 'aes128-gcm96', 'chacha20-poly1305', 'xchacha20-poly1305'].map((type) => [
      type,
      { encrypts: true, signs: false, derives: true },
    ]),
  ),
  ed25519: { encrypts: false, signs: true, derives: true },
  ...Object.fromEntries(
    ['ecdsa-p256', 'ecdsa-p384', 'ecdsa-p521'].map((type) => [type, { encrypts: false, signs: true, derives: false }]),
  ),
  ...Object.fromEntries(
    ['rsa-2048', 'rsa-3072', 'rsa-4096'].map((type) => [type, { encrypts: true, signs: true, derives: false }]),
  ),
  hmac: { encrypts: false, signs: false, derives: false },
};

const STAYS =
  'the keys are in the backup of the database, and leave the vault only by export, where a key is exportable';

async function refuseToBackUp(): Promise<Answer> {
  throw badRequest(`backup and restore of a single key are not supported: ${STAYS}`);
}

async function refuseToImport(): Promise<Answer> {
  throw badRequest(
    'import is not supported: a key is made here, so that nobody else has it; rewrap what another key made',
  );
}

// ---- keys ---------------------------------------------------------------------------------------------------------

const unix = (time: string) => Math.floor(Date.parse(time) / 1000);

function shapeKey(key: KeyInfo) {
  const can = TYPES[key.type] ?? { encrypts: false, signs: false, derives: false };
  const versions = [...key.versions]
    .reverse()
    .map((one) => [
      one.version,
      one.publicKey === null
        ? unix(one.createdAt)
        : { name: key.type, public_key: one.publicKey, creation_time: one.createdAt, certificate_chain: '' },
    ]);
  return {
    allow_plaintext_backup: false,
    auto_rotate_period: key.autoRotateSeconds,
    deletion_allowed: key.deletionAllowed,
    derived: key.derived,
    ...(key.derived ? { convergent_encryption: key.convergent, kdf: 'hkdf_sha256' } : {}),
    exportable: key.exportable,
    imported_key: false,
    keys: Object.fromEntries(versions),
    latest_version: key.latestVersion,
    min_available_version: key.minAvailableVersion > 1 ? key.minAvailableVersion : 0,
    min_decryption_version: key.minDecryptionVersion,
    min_encryption_version: key.minEncryptionVersion,
    name: key.name,
    supports_decryption: can.encrypts,
    supports_derivation: can.derives,
    supports_encryption: can.encrypts,
    supports_signing: can.signs,
    type: key.type,
  };
}

const keyAnswer = (key: KeyInfo, more: { warnings?: readonly string[] } = {}): Answer =>
  data(json(shapeKey(key)), { mountType: MOUNT_TYPE, ...more });

/** There is no backup, so nothing is kept of a leave to make one. */
function refuseBackup(fields: Fields): void {
  if (fields.boolean('allow_plaintext_backup')) throw badRequest(`allow_plaintext_backup is not supported: ${STAYS}`);
}

function newKeyIn(fields: Fields): NewKey {
  refuseBackup(fields);
  const type = (fields.string('type') ?? 'aes256-gcm96') as Type;
  if (!Object.hasOwn(TYPES, type)) throw badRequest(`unknown key type ${/^[a-z0-9-]{1,40}$/.test(type) ? type : ''}`);
  const size = fields.integer('key_size') ?? 0;
  return {
    type,
    derived: fields.boolean('derived'),
    convergent: fields.boolean('convergent_encryption'),
    exportable: fields.boolean('exportable'),
    autoRotateSeconds: fields.duration('auto_rotate_period'),
    macBytes: size > 0 ? size : undefined,
  };
}

async function create(request: VaultRequest): Promise<Answer> {
  const { vault, call, fields } = request;
  const made = await createKey(vault, call, nameOf(request), newKeyIn(fields), { ifExists: 'keep' });
  return keyAnswer(made.key, made.created ? {} : { warnings: [`key ${made.key.name} already existed`] });
}

const read = async (request: VaultRequest): Promise<Answer> =>
  keyAnswer(await readKey(request.vault, request.call, nameOf(request)));

const list = listing(
  ({ vault, call }, ask) => listKeys(vault, call, ask),
  ({ name }) => name,
  MOUNT_TYPE,
);

async function remove(request: VaultRequest): Promise<Answer> {
  const name = nameOf(request);
  const refused = (why: string) => () => badRequest(`error deleting policy ${name}: ${why}`);
  await saying(deleteKey(request.vault, request.call, name), {
    conflict: refused('deletion is not allowed for this key'),
    not_found: () => badRequest(`could not delete key; not found`),
  });
  return EMPTY;
}

async function configure(request: VaultRequest): Promise<Answer> {
  const { vault, call, fields } = request;
  refuseBackup(fields);
  const change = {
    minDecryptionVersion: fields.integer('min_decryption_version'),
    minEncryptionVersion: fields.integer('min_encryption_version'),
    deletionAllowed: fields.boolean('deletion_allowed'),
    exportable: fields.boolean('exportable'),
    autoRotateSeconds: fields.duration('auto_rotate_period'),
  };
  const absent = { not_found: () => badRequest(`no existing key named ${nameOf(request)} could be found`) };
  return keyAnswer(await saying(configureKey(vault, call, nameOf(request), change), absent));
}

const KEY_ABSENT = { not_found: 'key not found' } as const;

const rotate = async (request: VaultRequest): Promise<Answer> =>
  keyAnswer(await saying(rotateKey(request.vault, request.call, nameOf(request)), KEY_ABSENT));

async function trim(request: VaultRequest): Promise<Answer> {
  const { vault, call, fields } = request;
  const minAvailableVersion = fields.integer('min_available_version');
  if (minAvailableVersion === undefined) throw badRequest('missing min_available_version');
  return keyAnswer(await saying(trimKey(vault, call, nameOf(request), { minAvailableVersion }), KEY_ABSENT));
}

async function exported(request: VaultRequest): Promise<Answer> {
  const { vault, call, at } = request;
  const kind = EXPORT_KINDS.find((one) => one === at.kind) as ExportKind | undefined;
  if (!kind) throw badRequest('invalid export type');
  const version = at.version === undefined || at.version === 'latest' ? at.version : Number(at.version);
  if (version !== undefined && version !== 'latest' && !Number.isSafeInteger(version))
    throw badRequest('invalid key version');
  const found = await saying(
    exportKey(vault, call, nameOf(request), { kind, version: version as number | 'latest' | undefined }),
    {
      invalid_request: 'private key material is not exportable',
    },
  );
  const texts = Object.fromEntries(found.keys.map((one) => [one.version, one.key]));
  return data(json({ name: found.name, keys: texts, type: found.type }), { mountType: MOUNT_TYPE });
}

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
  { pattern: 'keys', verbs: { LIST: list } },
  { pattern: 'keys/{name}', verbs: { GET: read, POST: create, DELETE: remove } },
  { pattern: 'keys/{name}/config', verbs: { POST: configure } },
  { pattern: 'keys/{name}/rotate', verbs: { POST: rotate } },
  { pattern: 'keys/{name}/trim', verbs: { POST: trim } },
  { pattern: 'keys/{name}/import', verbs: { POST: refuseToImport } },
  { pattern: 'keys/{name}/import_version', verbs: { POST: refuseToImport } },
  { pattern: 'wrapping_key', verbs: { GET: refuseToImport } },
  { pattern: 'backup/{name}', verbs: { GET: refuseToBackUp } },
  { pattern: 'restore', verbs: { POST: refuseToBackUp } },
  { pattern: 'restore/{name}', verbs: { POST: refuseToBackUp } },
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
  { pattern: 'export/{kind}/{name}', verbs: { GET: exported } },
  { pattern: 'export/{kind}/{name}/{version}', verbs: { GET: exported } },
];
