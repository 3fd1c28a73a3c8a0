/**
 * Named keys: making, looking at, configuring, rotating, trimming, exporting and deleting them. What they do is
 * transit.ts's.
 */
import { z } from '@hono/zod-openapi';
import { LIMITS } from '../../config.ts';
import { EXPORT_KINDS, exportKey } from '../../transit/export.ts';
import {
  configureKey,
  createKey,
  deleteKey,
  KEY_TYPE_NAMES,
  type KeyInfo,
  type ListedKey,
  listKeys,
  readKey,
  trimKey,
} from '../../transit/key.ts';
import { KEY_NAME_PATTERN, parseKeyName } from '../../transit/name.ts';
import { rotateKey } from '../../transit/rotate.ts';
import { BASE, endpoint, json, noContent, page } from './endpoint.ts';
import { duration, listOf, pageQuery, parsedBy, time, versionNumber } from './schema.ts';

export const keyName = z.string().openapi({ pattern: KEY_NAME_PATTERN, example: 'orders' });

const type = z.enum(KEY_TYPE_NAMES as [(typeof KEY_TYPE_NAMES)[number], ...typeof KEY_TYPE_NAMES]);

/** As `duration`, and 0 for never. */
const period = z
  .union([z.literal(0), z.literal('0'), duration])
  .transform(Number)
  .openapi({
    anyOf: [
      { type: 'string', pattern: '^[0-9]{1,10}[smhd]?$' },
      { type: 'integer', minimum: 0 },
    ],
    description: 'At least an hour; 0: never by itself.',
    example: '30d',
  });

const keyVersion = z.object({
  version: z.int(),
  created_at: time,
  public_key: z
    .string()
    .nullable()
    .openapi({ description: 'PEM of RSA and ECDSA keys, base64 of the 32 bytes of ed25519 and hpke keys.' }),
});

const namedKey = z
  .object({
    name: keyName,
    type,
    derived: z.boolean(),
    convergent_encryption: z.boolean(),
    exportable: z.boolean(),
    deletion_allowed: z.boolean(),
    latest_version: z.int(),
    min_available_version: z.int(),
    min_decryption_version: z.int(),
    min_encryption_version: z.int().openapi({ description: '0: as min_decryption_version.' }),
    auto_rotate_period: z.int().openapi({ description: 'Seconds; 0: never by itself.' }),
    created_at: time,
    versions: z.array(keyVersion).openapi({ description: `Newest first, at most ${LIMITS.transitVersionsShownMax}.` }),
  })
  .openapi('NamedKey');

const NOW = '2026-01-02T03:04:05.678901Z';
const KEY = {
  name: 'orders',
  type: 'aes256-gcm96' as const,
  derived: false,
  convergent_encryption: false,
  exportable: false,
  deletion_allowed: false,
  latest_version: 1,
  min_available_version: 1,
  min_decryption_version: 1,
  min_encryption_version: 0,
  auto_rotate_period: 2_592_000,
  created_at: NOW,
  versions: [{ version: 1, created_at: NOW, public_key: null }],
};

const shape = (key: KeyInfo) => ({
  name: key.name,
  type: key.type,
  derived: key.derived,
  convergent_encryption: key.convergent,
  exportable: key.exportable,
  deletion_allowed: key.deletionAllowed,
  latest_version: key.latestVersion,
  min_available_version: key.minAvailableVersion,
  min_decryption_version: key.minDecryptionVersion,
  min_encryption_version: key.minEncryptionVersion,
  auto_rotate_period: key.autoRotateSeconds,
  created_at: key.createdAt,
  versions: key.versions.map(({ version, createdAt, publicKey }) => ({
    version,
    created_at: createdAt,
    public_key: publicKey,
  })),
});

const common = { tag: 'transit' } as const;

const listedKey = z
  .object({ name: keyName, type, latest_version: z.int(), created_at: time })
  .openapi('ListedNamedKey');

const shapeListed = (key: ListedKey) => ({
  name: key.name,
  type: key.type,
  latest_version: key.latestVersion,
  created_at: key.createdAt,
});

export const list = endpoint(
  {
    ...common,
    method: 'get',
    path: '/transit/keys',
    id: 'listNamedKeys',
    summary: 'List named keys',
    query: pageQuery,
    answers: {
      200: {
        about: 'By name, those that the caller may list.',
        schema: listOf(listedKey),
        example: {
          items: [{ name: 'orders', type: 'aes256-gcm96', latest_version: 1, created_at: NOW }],
          next_cursor: null,
        },
      },
    },
    errors: ['not_found'],
  },
  async ({ vault, call, query }) => page(await listKeys(vault, call, query), shapeListed),
);

export const create = endpoint(
  {
    ...common,
    method: 'post',
    path: '/transit/keys',
    id: 'createNamedKey',
    summary: 'Make a named key',
    description:
      'The key stays in the vault: applications send what it is to encrypt, decrypt, sign or hash. A `derived` key needs a `context` with every call; one with `convergent_encryption` gives equal ciphertexts for equal plaintext, context and associated data.',
    body: z.strictObject({
      name: z.string().transform(parsedBy(parseKeyName)).openapi({ type: 'string', pattern: KEY_NAME_PATTERN }),
      type: type.optional().openapi({ description: 'aes256-gcm96 when absent.' }),
      derived: z.boolean().optional(),
      convergent_encryption: z.boolean().optional(),
      exportable: z.boolean().optional(),
      auto_rotate_period: period.optional(),
      key_size: z.int().optional().openapi({ description: 'Bytes of a key of type hmac, 32 to 512.' }),
    }),
    bodyExample: { name: 'orders', type: 'aes256-gcm96', auto_rotate_period: '30d' },
    answers: {
      201: { about: 'It is made.', schema: namedKey, example: KEY, headers: { Location: 'The key.' } },
    },
    errors: ['conflict', 'not_found'],
  },
  async ({ vault, call, body }) => {
    const { key } = await createKey(vault, call, body.name, {
      type: body.type,
      derived: body.derived,
      convergent: body.convergent_encryption,
      exportable: body.exportable,
      autoRotateSeconds: body.auto_rotate_period,
      macBytes: body.key_size,
    });
    const headers = { 'Content-Type': 'application/json', Location: `${BASE}/transit/keys/${key.name}` };
    return json(201, shape(key), headers);
  },
);

export const read = endpoint(
  {
    ...common,
    method: 'get',
    path: '/transit/keys/{key}',
    id: 'readNamedKey',
    summary: 'Read a named key: its settings and public halves, never the key',
    answers: { 200: { about: 'The key.', schema: namedKey, example: KEY } },
    errors: ['not_found'],
  },
  async ({ vault, call, param }) => json(200, shape(await readKey(vault, call, parseKeyName(param)))),
);

export const configure = endpoint(
  {
    ...common,
    method: 'patch',
    path: '/transit/keys/{key}',
    id: 'configureNamedKey',
    summary: 'Change the settings of a named key',
    description: '`exportable` can be set, and not taken back.',
    body: z.strictObject({
      min_decryption_version: versionNumber.optional(),
      min_encryption_version: z.int().min(0).max(LIMITS.versionMax).optional(),
      deletion_allowed: z.boolean().optional(),
      exportable: z.boolean().optional(),
      auto_rotate_period: period.optional(),
    }),
    bodyExample: { min_decryption_version: 1, auto_rotate_period: '90d' },
    answers: {
      200: { about: 'The key as it is now.', schema: namedKey, example: { ...KEY, auto_rotate_period: 7_776_000 } },
    },
    errors: ['not_found'],
  },
  async ({ vault, call, param, body }) => {
    const key = await configureKey(vault, call, parseKeyName(param), {
      minDecryptionVersion: body.min_decryption_version,
      minEncryptionVersion: body.min_encryption_version,
      deletionAllowed: body.deletion_allowed,
      exportable: body.exportable,
      autoRotateSeconds: body.auto_rotate_period,
    });
    return json(200, shape(key));
  },
);

export const remove = endpoint(
  {
    ...common,
    method: 'delete',
    path: '/transit/keys/{key}',
    id: 'deleteNamedKey',
    summary: 'Delete a named key with all its versions',
    description: 'Nothing that it encrypted ever opens again. Refused until `deletion_allowed` is set.',
    answers: { 204: { about: 'It is gone.' } },
    errors: ['not_found', 'conflict'],
  },
  async ({ vault, call, param }) => {
    await deleteKey(vault, call, parseKeyName(param));
    return noContent();
  },
);

export const rotate = endpoint(
  {
    ...common,
    method: 'post',
    path: '/transit/keys/{key}/rotate',
    id: 'rotateNamedKey',
    summary: 'Make a new version of a named key',
    description: 'It is what encrypts and signs from here on; what older versions made still opens and verifies.',
    body: z.strictObject({}),
    bodyExample: {},
    bodyOptional: true,
    answers: { 200: { about: 'The key.', schema: namedKey, example: KEY } },
    errors: ['not_found', 'conflict', 'integrity'],
  },
  async ({ vault, call, param }) => json(200, shape(await rotateKey(vault, call, parseKeyName(param)))),
);

export const trim = endpoint(
  {
    ...common,
    method: 'post',
    path: '/transit/keys/{key}/trim',
    id: 'trimNamedKey',
    summary: 'Destroy the versions of a named key below one',
    description: 'Not beyond `min_decryption_version`, which says what still opens and can be moved.',
    body: z.strictObject({ min_available_version: versionNumber }),
    bodyExample: { min_available_version: 1 },
    answers: { 200: { about: 'The key.', schema: namedKey, example: KEY } },
    errors: ['not_found'],
  },
  async ({ vault, call, param, body }) => {
    const wanted = { minAvailableVersion: body.min_available_version };
    return json(200, shape(await trimKey(vault, call, parseKeyName(param), wanted)));
  },
);

const exported = z
  .object({ name: keyName, type, keys: z.array(z.object({ version: z.int(), key: z.string() })) })
  .openapi('ExportedKey');

export const exportIt = endpoint(
  {
    ...common,
    method: 'post',
    path: '/transit/keys/{key}/export',
    id: 'exportNamedKey',
    summary: 'Export versions of an exportable named key, or its public halves',
    description:
      'Public halves are given to whoever may read the key. Base64, or PEM of RSA (PKCS #1) and ECDSA (SEC 1) keys.',
    body: z.strictObject({
      kind: z.enum(EXPORT_KINDS),
      version: z.union([z.literal('latest'), versionNumber]).optional(),
    }),
    bodyExample: { kind: 'encryption-key', version: 'latest' },
    answers: {
      200: {
        about: 'Oldest first; every version from min_decryption_version when none is asked for.',
        schema: exported,
        example: {
          name: 'orders',
          type: 'aes256-gcm96',
          keys: [{ version: 1, key: 'AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=' }],
        },
      },
    },
    errors: ['not_found', 'integrity'],
  },
  async ({ vault, call, param, body }) => json(200, await exportKey(vault, call, parseKeyName(param), body)),
);
