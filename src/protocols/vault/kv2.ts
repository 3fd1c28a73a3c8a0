/**
 * KV version 2: secrets with versions, as a mount shows a part of the tree.
 *
 * A version that cannot be read any more is 404 with the whole envelope, because clients tell it from a secret that was
 * never there by what stands in it. What a secret holds that is no JSON object, since the native interface wrote it, is
 * shown as an object with the one member `text` or `bytes`.
 */
import { VaultError } from '../../errors.ts';
import type { OpenedVersion } from '../../policy/opened.ts';
import { readSecret } from '../../policy/read.ts';
import type { Written } from '../../secret/insert.ts';
import { listSecrets } from '../../secret/list.ts';
import {
  type Described,
  describeSecret,
  describeVersion,
  type MetadataChange,
  patchMetadata,
  removeSecret,
} from '../../secret/metadata.ts';
import { changeMount, type Mount, mountOver, readMount } from '../../secret/mount.ts';
import { parsePath, type SecretPath, type SecretPrefix } from '../../secret/path.ts';
import { deleteVersions, patchSecret, putSecret } from '../../secret/secret.ts';
import { readSubkeys } from '../../secret/subkeys.ts';
import { destroyVersions, undeleteVersions, type VersionInfo } from '../../secret/version.ts';
import { ignoreAbsent } from './absent.ts';
import { type Answer, asJson, data, EMPTY, type Json, json, keys, object } from './answer.ts';
import { badRequest, notFound, said, saying } from './error.ts';
import { type Fields, goDuration } from './field.ts';
import { itemsOf } from './paging.ts';
import { requireMergePatch } from './request.ts';
import type { Route, VaultRequest, Verb } from './route.ts';

const MOUNT_TYPE = 'kv';

export const pathIn = ({ prefix }: Mount, path: string): SecretPath =>
  parsePath(prefix === '' ? path : `${prefix}/${path}`);

const secretOf = (request: VaultRequest) => pathIn(request.mount, request.at.path!);

// ---- data ---------------------------------------------------------------------------------------------------------

/** The document of a secret as JSON text. */
export function documentOf({ kind, body, contentType }: OpenedVersion): Json {
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  if (kind === 'data') return asJson(bytes.toString('utf8'));
  if (kind === 'text') return json({ text: bytes.toString('utf8') });
  return json({ bytes: bytes.toString('base64'), content_type: contentType });
}

const customOf = (metadata: Uint8Array | undefined): Json =>
  asJson(metadata && metadata.length > 2 ? Buffer.from(metadata).toString('utf8') : 'null');

function openedMetadata({ createdAt, metadata, expiresAt, version }: Omit<OpenedVersion, 'body'>): Json {
  const times = `"created_time":${json(createdAt)},"custom_metadata":${customOf(metadata)},"deletion_time":${json(expiresAt ?? '')}`;
  return asJson(`{${times},"destroyed":false,"version":${version}}`);
}

const deletionOf = ({ deletedAt, expiresAt }: VersionInfo) => deletedAt ?? expiresAt ?? '';
const customOrNull = (metadata: Readonly<Record<string, string>>) =>
  Object.keys(metadata).length > 0 ? metadata : null;

/** A version that is there and cannot be read. Throws `not_found` when it is not there. */
async function goneMetadata({ vault, call }: VaultRequest, path: SecretPath, version: number): Promise<Json> {
  const info = await describeVersion(vault, call, path, version);
  return json({
    created_time: info.createdAt,
    custom_metadata: customOrNull(info.metadata),
    deletion_time: deletionOf(info),
    destroyed: info.state === 'destroyed',
    version: info.version,
  });
}

const gone = (members: Readonly<Record<string, Json>>): Answer =>
  data(object(members), { status: 404, mountType: MOUNT_TYPE });

const versionOf = (fields: Fields): number => {
  const version = fields.integer('version') ?? 0;
  if (version < 0) throw badRequest('Field validation failed: error converting input for field "version"');
  return version;
};

async function readData(request: VaultRequest): Promise<Answer> {
  const { vault, call, fields } = request;
  const path = secretOf(request);
  const version = versionOf(fields);
  try {
    const opened = await readSecret(vault, call, path, version);
    const members = asJson(`{"data":${documentOf(opened)},"metadata":${openedMetadata(opened)}}`);
    return data(members, { mountType: MOUNT_TYPE });
  } catch (error) {
    if (!(error instanceof VaultError) || error.code !== 'not_found') throw error;
    return gone({ data: json(null), metadata: await goneMetadata(request, path, version) });
  }
}

/** `options.cas`; undefined when none is given. */
function casOf(fields: Fields): number | undefined {
  const options = fields.value('options');
  if (options === undefined) return undefined;
  if (typeof options !== 'object')
    throw badRequest('Field validation failed: error converting input for field "options"');
  const { cas } = options as { cas?: unknown };
  if (cas === undefined || cas === null) return undefined;
  const number = typeof cas === 'string' && /^\d{1,10}$/.test(cas) ? Number(cas) : cas;
  if (!Number.isSafeInteger(number) || (number as number) < 0) {
    throw badRequest('error parsing check-and-set parameter');
  }
  return number as number;
}

function dataOf(fields: Fields): string {
  const value = fields.value('data');
  if (value === undefined) throw badRequest('no data provided');
  if (typeof value !== 'object' || Array.isArray(value)) {
    throw badRequest('Field validation failed: error converting input for field "data"');
  }
  return fields.raw('data') ?? JSON.stringify(value);
}

const written = ({ version, createdAt, expiresAt, metadata }: Written): Answer =>
  data(
    json({
      created_time: createdAt,
      custom_metadata: customOrNull(metadata ?? {}),
      deletion_time: expiresAt ?? '',
      destroyed: false,
      version,
    }),
    { mountType: MOUNT_TYPE },
  );

async function writeData(request: VaultRequest): Promise<Answer> {
  const { vault, call, fields } = request;
  const path = secretOf(request);
  const body = Buffer.from(dataOf(fields));
  return written(await putSecret(vault, call, path, { kind: 'data', body, expect: casOf(fields), tellMetadata: true }));
}

async function patchData(request: VaultRequest): Promise<Answer> {
  const { vault, call, fields, exchange } = request;
  requireMergePatch(exchange);
  const path = secretOf(request);
  const [patch, expect] = [dataOf(fields), casOf(fields)];
  try {
    return written(await patchSecret(vault, call, path, { patch, expect, tellMetadata: true }));
  } catch (error) {
    if (!(error instanceof VaultError) || error.code !== 'not_found') throw error;
    return data(await goneMetadata(request, path, 0), { status: 404, mountType: MOUNT_TYPE });
  }
}

const deleteData = (request: VaultRequest): Promise<Answer> =>
  ignoreAbsent(deleteVersions(request.vault, request.call, secretOf(request), undefined));

function versionsOf({ fields }: VaultRequest, none: string): number[] {
  const versions = fields.integers('versions') ?? [];
  if (versions.length === 0) throw badRequest(none);
  return versions.filter((version) => version > 0 && version < 2 ** 31);
}

type OnVersions = typeof destroyVersions;

const onVersions = (act: OnVersions, none: string) => async (request: VaultRequest) => {
  const path = secretOf(request);
  const versions = versionsOf(request, none);
  return versions.length === 0 ? EMPTY : ignoreAbsent(act(request.vault, request.call, path, versions, 'skip'));
};

async function subkeys(request: VaultRequest): Promise<Answer> {
  const { vault, call, fields } = request;
  const path = secretOf(request);
  const version = versionOf(fields);
  const depth = Math.max(0, fields.integer('depth') ?? 0);
  try {
    const shape = await readSubkeys(vault, call, path, version, depth);
    return data(object({ metadata: openedMetadata(shape), subkeys: asJson(shape.subkeys) }), { mountType: MOUNT_TYPE });
  } catch (error) {
    if (!(error instanceof VaultError) || error.code !== 'not_found') throw error;
    return gone({ metadata: await goneMetadata(request, path, version), subkeys: json(null) });
  }
}

// ---- metadata -----------------------------------------------------------------------------------------------------

function shapeMetadata(found: Described): Json {
  const oldest = found.versions.at(-1)?.version ?? 0;
  const versions = Object.fromEntries(
    [...found.versions]
      .reverse()
      .map((one) => [
        one.version,
        { created_time: one.createdAt, deletion_time: deletionOf(one), destroyed: one.state === 'destroyed' },
      ]),
  );
  return json({
    cas_required: found.casRequired,
    created_time: found.createdAt,
    current_version: found.currentVersion,
    custom_metadata: customOrNull(found.metadata),
    delete_version_after: goDuration(found.own.deleteAfterSeconds ?? 0),
    max_versions: found.own.versionsKept ?? 0,
    oldest_version: oldest > 1 ? oldest : 0,
    updated_time: found.updatedAt,
    versions,
  });
}

const readMetadataOf = async (request: VaultRequest): Promise<Answer> =>
  data(shapeMetadata(await describeSecret(request.vault, request.call, secretOf(request))), { mountType: MOUNT_TYPE });

const CUSTOM_KEYS_MAX = 64;
const CUSTOM_KEY_LENGTH_MAX = 128;
const CUSTOM_VALUE_LENGTH_MAX = 512;

function customMetadataIn(fields: Fields): Record<string, string | null> | undefined {
  const value = fields.value('custom_metadata');
  if (value === undefined) return undefined;
  const refuse = (what: string) => badRequest(`custom_metadata validation failed: ${what}`);
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw refuse('expected an object of strings');
  const entries = Object.entries(value);
  if (entries.length > CUSTOM_KEYS_MAX) {
    throw refuse(`payload must contain at most ${CUSTOM_KEYS_MAX} keys, provided ${entries.length}`);
  }
  for (const [key, text] of entries) {
    if (key.length === 0 || key.length > CUSTOM_KEY_LENGTH_MAX) {
      throw refuse(`length of a key is ${key.length} but must be 0 < len(key) <= ${CUSTOM_KEY_LENGTH_MAX}`);
    }
    if (text === null) continue;
    if (typeof text !== 'string') throw refuse('expected an object of strings');
    if (text.length === 0 || text.length > CUSTOM_VALUE_LENGTH_MAX) {
      throw refuse(`length of a value is ${text.length} but must be 0 < len(value) <= ${CUSTOM_VALUE_LENGTH_MAX}`);
    }
  }
  return Object.fromEntries(entries) as Record<string, string | null>;
}

/** The settings in a request: absent leaves, 0 unsets. */
function settingsIn(fields: Fields): Pick<MetadataChange, 'versionsKept' | 'casRequired' | 'deleteAfterSeconds'> {
  const kept = fields.integer('max_versions');
  const after = fields.duration('delete_version_after');
  if (kept !== undefined && kept < 0)
    throw badRequest('Field validation failed: error converting input for field "max_versions"');
  return {
    versionsKept: kept === 0 ? null : kept,
    casRequired: fields.boolean('cas_required'),
    deleteAfterSeconds: after === undefined ? undefined : after <= 0 ? null : after,
  };
}

const CAS_IGNORED = '"cas_required" set to false, but is mandated by backend config. This value will be ignored.';

async function writeMetadata(request: VaultRequest): Promise<Answer> {
  const { vault, call, fields, mount } = request;
  const path = secretOf(request);
  const metadata = customMetadataIn(fields);
  const change = { ...settingsIn(fields), create: true, ...(metadata ? { metadata, replace: true } : {}) } as const;
  await saying(patchMetadata(vault, call, path, change), { too_large: 'custom_metadata validation failed: too large' });
  const contradicts = change.casRequired === false && (await mountOver(vault, call, mount.path))?.casRequired;
  return contradicts ? { kind: 'envelope', warnings: [CAS_IGNORED], mountType: MOUNT_TYPE } : EMPTY;
}

async function patchMetadataOf(request: VaultRequest): Promise<Answer> {
  const { vault, call, fields, exchange } = request;
  requireMergePatch(exchange);
  const change = { ...settingsIn(fields), metadata: customMetadataIn(fields) };
  await patchMetadata(vault, call, secretOf(request), change);
  return EMPTY;
}

/** The names under a path, whole: clients of this API know no pages unless they ask for them. */
export async function listKeys(request: VaultRequest, mountType: string): Promise<Answer> {
  const { at, mount, fields } = request;
  const under = at.path === undefined ? mount.prefix : pathIn(mount, at.path);
  const after = fields.string('after') ?? '';
  const limit = fields.integer('limit') ?? 0;
  const names: string[] = [];
  for await (const name of namesUnder(request, under)) {
    if (name <= after && after !== '') continue;
    names.push(name);
    if (limit > 0 && names.length >= limit) break;
  }
  if (names.length === 0) throw notFound();
  return keys(names, mountType);
}

async function* namesUnder({ vault, call }: VaultRequest, prefix: SecretPrefix): AsyncGenerator<string> {
  const all = itemsOf((ask) => listSecrets(vault, call, { prefix, recursive: false, ...ask }));
  for await (const { path } of all) yield prefix === '' ? path : path.slice(prefix.length + 1);
}

// ---- the mount itself ---------------------------------------------------------------------------------------------

async function readConfig({ vault, call, mount }: VaultRequest): Promise<Answer> {
  const found = await readMount(vault, call, parsePath(mount.path));
  return data(
    json({
      cas_required: found.casRequired,
      delete_version_after: goDuration(found.deleteAfterSeconds ?? 0),
      max_versions: found.versionsKept ?? 0,
    }),
    { mountType: MOUNT_TYPE },
  );
}

async function writeConfig({ vault, call, mount, fields }: VaultRequest): Promise<Answer> {
  await changeMount(vault, call, parsePath(mount.path), settingsIn(fields));
  return EMPTY;
}

const COMMANDS: Readonly<Record<Verb, string>> = {
  ...{ GET: 'get', HEAD: 'get', POST: 'put', PATCH: 'patch', DELETE: 'delete', LIST: 'list' },
};

/** What was meant for a mount of version 1. */
async function invalidPath({ verb }: VaultRequest): Promise<Answer> {
  throw said('not_found', '', {
    warnings: [
      'Invalid path for a versioned K/V secrets engine. See the API docs for the appropriate API endpoints to use. ' +
        `If using the Vault CLI, use 'vault kv ${COMMANDS[verb]}' for this operation.`,
    ],
  });
}

async function root(): Promise<Answer> {
  throw said('not_found', '', {
    warnings: ['Non-listing operations on the root of a K/V v2 mount are not supported.'],
  });
}

const list = (request: VaultRequest) => listKeys(request, MOUNT_TYPE);

export const KV2_ROUTES: readonly Route[] = [
  { pattern: 'config', verbs: { GET: readConfig, POST: writeConfig } },
  { pattern: 'data/{path}', verbs: { GET: readData, POST: writeData, PATCH: patchData, DELETE: deleteData } },
  {
    pattern: 'delete/{path}',
    verbs: { POST: onVersions(deleteVersions as OnVersions, 'No version number provided') },
  },
  { pattern: 'undelete/{path}', verbs: { POST: onVersions(undeleteVersions, 'No version number provided') } },
  { pattern: 'destroy/{path}', verbs: { POST: onVersions(destroyVersions, 'no version number provided') } },
  { pattern: 'subkeys/{path}', verbs: { GET: subkeys } },
  { pattern: 'metadata', verbs: { LIST: list } },
  {
    pattern: 'metadata/{path}',
    verbs: {
      GET: readMetadataOf,
      POST: writeMetadata,
      PATCH: patchMetadataOf,
      LIST: list,
      DELETE: (request) => ignoreAbsent(removeSecret(request.vault, request.call, secretOf(request))),
    },
  },
  { pattern: '', verbs: { GET: root, POST: root, PATCH: root, DELETE: root, LIST: invalidPath } },
  {
    pattern: '{path}',
    verbs: { GET: invalidPath, POST: invalidPath, PATCH: invalidPath, DELETE: invalidPath, LIST: invalidPath },
  },
];
