/** transit/keys under /v1: named keys themselves, made, shown, configured, rotated, exported and deleted. */
import { EXPORT_KINDS, exportKey } from '../../transit/export.ts';
import {
  configureKey,
  createKey,
  deleteKey,
  KEY_TYPES,
  type KeyInfo,
  type KeyType,
  listKeys,
  type NewKey,
  readKey,
  trimKey,
} from '../../transit/key.ts';
import { parseKeyName } from '../../transit/name.ts';
import { rotateKey } from '../../transit/rotate.ts';
import { type Answer, data, EMPTY, json } from './answer.ts';
import { badRequest, saying } from './error.ts';
import type { Fields } from './field.ts';
import { listing } from './paging.ts';
import type { Route, VaultRequest } from './route.ts';

export const MOUNT_TYPE = 'transit';
export const nameOf = ({ at }: VaultRequest) => parseKeyName(at.name!);

/** What this API does not know: nothing is said of what such a key can do, and none is made here. */
const FOREIGN: ReadonlySet<string> = new Set(['hpke', 'password']);
const isOffered = (type: string): type is KeyType => Object.hasOwn(KEY_TYPES, type) && !FOREIGN.has(type);
const NOTHING = { encrypts: false, signs: false, derives: false };

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

const unix = (time: string) => Math.floor(Date.parse(time) / 1000);

function shapeKey(key: KeyInfo) {
  const can = isOffered(key.type) ? KEY_TYPES[key.type] : NOTHING;
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

export function newKeyIn(fields: Fields): NewKey {
  refuseBackup(fields);
  const type = fields.string('type') ?? 'aes256-gcm96';
  if (!isOffered(type)) throw badRequest(`unknown key type ${/^[a-z0-9-]{1,40}$/.test(type) ? type : ''}`);
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
  const kind = EXPORT_KINDS.find((one) => one === at.kind);
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

/** Where a key is, and what there is of it beside its use. */
export const KEY_ROUTES: readonly Route[] = [
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
  { pattern: 'export/{kind}/{name}', verbs: { GET: exported } },
  { pattern: 'export/{kind}/{name}/{version}', verbs: { GET: exported } },
];
