/**
 * Secrets: put, get, fetch, their versions and their metadata. Bodies and answers have the wire's names; bytes are
 * bytes here and base64 only on the wire.
 */
import { API, jsonOf, listAll, part, sendForJson } from './answer.ts';
import type { Answer, Call, CallOptions, Connection } from './connection.ts';
import { BullaError } from './error.ts';
import type {
  Fetch,
  History,
  ListedSecret,
  Metadata,
  NewVersion,
  PatchMetadataBody,
  PatchSecretBody,
  Secret as WireSecret,
  WrittenVersion,
} from './types.ts';

/** A secret as read: exactly one of data, text and bytes is there, and `kind` says which. */
export type Secret = Omit<WireSecret, 'bytes'> & { readonly bytes?: Buffer };

/**
 * What to store: exactly one of data, text and bytes. `data` given as a string is the JSON text of an object and is
 * stored as it is, so numbers beyond 2^53 and the order of keys survive.
 */
export type SecretInput = Omit<NewVersion, 'data' | 'bytes'> & {
  readonly data?: Readonly<Record<string, unknown>> | string;
  readonly bytes?: Uint8Array;
};

export type SecretPatchInput = Omit<PatchSecretBody, 'data'> & {
  readonly data: Readonly<Record<string, unknown>> | string;
};

/** Which secrets to fetch: `paths`, of which none may be missing, or `prefixes`, of which the permitted ones come. */
export type Selection =
  | { readonly paths: readonly string[]; readonly prefixes?: never }
  | { readonly prefixes: readonly string[]; readonly paths?: never };

export type Secrets = ReturnType<typeof createSecrets>;

export function createSecrets(connection: Connection) {
  return {
    /** Writes a new version. With `cas` (0: it must not exist yet) a lost answer cannot make it happen twice. */
    put: (path: string, secret: SecretInput, options: CallOptions = {}): Promise<WrittenVersion> =>
      sendForJson(connection, {
        method: 'PUT',
        path: `${API}/secrets/${part(path)}`,
        effect: secret.cas === undefined ? 'more' : 'same',
        json: bodyText(secret),
        ...options,
      }),

    /** The current version, or another. */
    get: async (path: string, options: CallOptions & { readonly version?: number } = {}): Promise<Secret> =>
      decode(jsonOf(await get(connection, path, options))),

    /** The answer's text as it came: `data` in it is the stored text to the letter. */
    getText: async (path: string, options: CallOptions & { readonly version?: number } = {}): Promise<string> =>
      (await get(connection, path, options)).body.toString('utf8'),

    /** Merges into the current version (RFC 7396; null removes a key) and writes the result as a new one. */
    patch: (path: string, patch: SecretPatchInput, options: CallOptions = {}): Promise<WrittenVersion> =>
      sendForJson(connection, {
        method: 'PATCH',
        path: `${API}/secrets/${part(path)}`,
        effect: patch.cas === undefined ? 'more' : 'same',
        json: bodyText(patch),
        ...options,
      }),

    /** Deletes versions, by default the current one, so that they can be undeleted. */
    delete: async (
      path: string,
      options: CallOptions & { readonly versions?: readonly number[] } = {},
    ): Promise<void> => {
      const { versions, ...rest } = options;
      await connection.send({
        method: 'DELETE',
        path: `${API}/secrets/${part(path)}`,
        effect: versions === undefined ? 'more' : 'same',
        query: { versions: versions?.join(',') },
        ...rest,
      });
    },

    /** What lies under a prefix, by default one level of it. */
    list: (
      options: CallOptions & { readonly prefix?: string; readonly recursive?: boolean } = {},
    ): AsyncGenerator<ListedSecret, void, undefined> => {
      const { prefix, recursive, ...rest } = options;
      return listAll(connection, `${API}/secrets`, { prefix, recursive }, rest);
    },

    /** Many secrets in one request. */
    fetch: async (selection: Selection, options: CallOptions = {}): Promise<Secret[]> =>
      jsonOf<{ items: WireSecret[] }>(await fetchAs(connection, selection, 'json', options)).items.map(decode),

    /** Many secrets as variables: `{"DB_PASSWORD": "…"}`, named by the path below the prefix and the key. */
    fetchFlat: async (selection: Selection, options: CallOptions = {}): Promise<Record<string, string>> =>
      jsonOf(await fetchAs(connection, selection, 'flat', options)),

    /** The same as the text of an .env file. */
    fetchEnv: async (selection: Selection, options: CallOptions = {}): Promise<string> =>
      (await fetchAs(connection, selection, 'env', options)).body.toString('utf8'),

    versions: (path: string, options: CallOptions = {}): Promise<History> =>
      sendForJson(connection, { method: 'GET', path: `${API}/versions/${part(path)}`, effect: 'none', ...options }),

    undelete: (path: string, versions: readonly number[], options: CallOptions = {}): Promise<void> =>
      onVersions(connection, path, 'undelete', versions, options),

    /** The ciphertext of these versions is gone for good. */
    destroy: (path: string, versions: readonly number[], options: CallOptions = {}): Promise<void> =>
      onVersions(connection, path, 'destroy', versions, options),

    metadata: (path: string, options: CallOptions = {}): Promise<Metadata> =>
      sendForJson(connection, { method: 'GET', path: `${API}/metadata/${part(path)}`, effect: 'none', ...options }),

    patchMetadata: (path: string, patch: PatchMetadataBody, options: CallOptions = {}): Promise<Metadata> =>
      sendForJson(connection, {
        method: 'PATCH',
        path: `${API}/metadata/${part(path)}`,
        effect: 'same',
        json: patch,
        ...options,
      }),

    /** The secret is gone with all its versions and its metadata. */
    remove: async (path: string, options: CallOptions = {}): Promise<void> => {
      await connection.send({ method: 'DELETE', path: `${API}/metadata/${part(path)}`, effect: 'same', ...options });
    },

    move: (from: string, to: string, options: CallOptions = {}): Promise<{ path: string; version: number }> =>
      sendForJson(connection, { method: 'POST', path: `${API}/move`, effect: 'same', json: { from, to }, ...options }),
  };
}

/** A fetch that costs nothing when nothing changed: undefined, when the answer would be the one that `etag` names. */
export async function fetchIfChanged(
  connection: Connection,
  selection: Selection,
  etag: string | undefined,
  options: CallOptions,
): Promise<{ readonly etag: string | undefined; readonly secrets: readonly Secret[] } | undefined> {
  const answer = await fetchAs(connection, selection, 'json', options, etag);
  if (answer.status === 304) return undefined;
  return { etag: answer.headers.etag, secrets: jsonOf<{ items: WireSecret[] }>(answer).items.map(decode) };
}

function get(
  connection: Connection,
  path: string,
  { version, ...rest }: CallOptions & { readonly version?: number },
): Promise<Answer> {
  return connection.send({
    method: 'GET',
    path: `${API}/secrets/${part(path)}`,
    effect: 'none',
    query: { version },
    ...rest,
  });
}

function fetchAs(
  connection: Connection,
  { paths, prefixes }: Selection,
  format: NonNullable<Fetch['format']>,
  options: CallOptions,
  etag?: string,
): Promise<Answer> {
  const call: Call = {
    method: 'POST',
    path: `${API}/fetch`,
    effect: 'none',
    json: { paths, prefixes, format },
    ...options,
  };
  return connection.send(etag === undefined ? call : { ...call, headers: { 'if-none-match': etag } });
}

async function onVersions(
  connection: Connection,
  path: string,
  act: 'undelete' | 'destroy',
  versions: readonly number[],
  options: CallOptions,
): Promise<void> {
  await connection.send({
    method: 'POST',
    path: `${API}/versions/${part(path)}/${act}`,
    effect: 'same',
    json: { versions },
    ...options,
  });
}

function decode(secret: WireSecret): Secret {
  const { bytes, ...rest } = secret;
  return bytes === undefined ? rest : { ...rest, bytes: Buffer.from(bytes, 'base64') };
}

/** The body, with a `data` that is a text spliced in as it is. */
function bodyText({ data, ...rest }: SecretInput | SecretPatchInput): string {
  const bytes =
    'bytes' in rest && rest.bytes !== undefined ? { bytes: Buffer.from(rest.bytes).toString('base64') } : {};
  const others = JSON.stringify({ ...rest, ...bytes });
  if (data === undefined) return others;
  const text = typeof data === 'string' ? checkedObject(data) : JSON.stringify(data);
  return others === '{}' ? `{"data":${text}}` : `{"data":${text},${others.slice(1)}`;
}

/** One JSON object, so that what is spliced can not become anything else. Stays the text that it was. */
function checkedObject(text: string): string {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return text;
  } catch {
    // The parser's own error quotes the text.
  }
  throw new BullaError(
    'invalid_json',
    'The data of a secret is a JSON object, such as {"password": "…"}; this is not one.',
  );
}
