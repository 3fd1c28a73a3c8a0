/**
 * Named keys: the vault encrypts, signs and hashes with keys that it never gives away. Bytes go in and come out as bytes
 * (a string in their place is its UTF-8); ciphertexts, signatures and hashes are texts to be kept as they are.
 */
import { API, listAll, part, sendForJson } from './answer.ts';
import type { CallOptions, Connection } from './connection.ts';
import type { ExportedKey, ListedNamedKey, NamedKey, PasswordVerdict } from './types.ts';

export type Bytes = Uint8Array | string;

/** What a ciphertext is bound to, and needed again to open it. */
export type Bound = { readonly context?: Bytes | undefined; readonly associatedData?: Bytes | undefined };

export type NamedKeyInput = {
  readonly type?: NamedKey['type'] | undefined;
  readonly derived?: boolean | undefined;
  readonly convergentEncryption?: boolean | undefined;
  readonly exportable?: boolean | undefined;
  readonly autoRotatePeriod?: string | number | undefined;
  readonly keySize?: number | undefined;
};

export type NamedKeyChange = {
  readonly minDecryptionVersion?: number | undefined;
  readonly minEncryptionVersion?: number | undefined;
  readonly deletionAllowed?: boolean | undefined;
  readonly exportable?: boolean | undefined;
  readonly autoRotatePeriod?: string | number | undefined;
};

export type HashAlgorithm = `sha${2 | 3}-${224 | 256 | 384 | 512}`;

export type SignatureOptions = {
  readonly hashAlgorithm?: HashAlgorithm | undefined;
  readonly signatureAlgorithm?: 'pss' | 'pkcs1v15' | undefined;
  readonly marshalingAlgorithm?: 'asn1' | 'jws' | undefined;
  readonly saltLength?: 'auto' | 'hash' | number | undefined;
  readonly prehashed?: boolean | undefined;
  readonly context?: Bytes | undefined;
};

export type Ciphertext = { readonly ciphertext: string; readonly key_version: number };
/** Of a batch: what the item gave, or why it gave nothing. */
export type BatchItem<T> = (T | { readonly error: string }) & { readonly reference?: string };

export type Transit = ReturnType<typeof createTransit>;

export function createTransit(connection: Connection) {
  const post = <T>(path: string, json: object, options: CallOptions, effect: 'none' | 'more' = 'none') =>
    sendForJson<T>(connection, { method: 'POST', path: `${API}/transit/${path}`, effect, json, ...options });
  const one = async <T>(path: string, item: object, rest: object, options: CallOptions): Promise<T> => {
    const { items } = await post<{ items: T[] }>(path, { items: [item], ...rest }, options);
    return items[0]!;
  };
  return {
    keys: createNamedKeys(connection),

    encrypt: (
      key: string,
      plaintext: Bytes,
      { context, associatedData, keyVersion, ...options }: Bound & { keyVersion?: number } & CallOptions = {},
    ): Promise<Ciphertext> =>
      one(
        `encrypt/${part(key)}`,
        { plaintext: base64(plaintext), ...bound({ context, associatedData }), key_version: keyVersion },
        {},
        options,
      ),

    decrypt: async (
      key: string,
      ciphertext: string,
      { context, associatedData, ...options }: Bound & CallOptions = {},
    ): Promise<Buffer> => {
      const item = { ciphertext, ...bound({ context, associatedData }) };
      const { plaintext } = await one<{ plaintext: string }>(`decrypt/${part(key)}`, item, {}, options);
      return Buffer.from(plaintext, 'base64');
    },

    /** Many at once, in order; an item that fails does not keep the others from it. */
    encryptMany: async (
      key: string,
      items: readonly (Bound & { readonly plaintext: Bytes; readonly reference?: string })[],
      options: CallOptions = {},
    ): Promise<BatchItem<Ciphertext>[]> => {
      const sent = items.map(({ plaintext, reference, ...rest }) => ({
        plaintext: base64(plaintext),
        ...bound(rest),
        reference,
      }));
      return (await post<{ items: BatchItem<Ciphertext>[] }>(`encrypt/${part(key)}`, { items: sent }, options)).items;
    },

    decryptMany: async (
      key: string,
      items: readonly (Bound & { readonly ciphertext: string; readonly reference?: string })[],
      options: CallOptions = {},
    ): Promise<BatchItem<{ readonly plaintext: Buffer; readonly key_version: number }>[]> => {
      type Sent = BatchItem<{ plaintext: string; key_version: number }>;
      const sent = items.map(({ ciphertext, reference, ...rest }) => ({ ciphertext, ...bound(rest), reference }));
      const answer = await post<{ items: Sent[] }>(`decrypt/${part(key)}`, { items: sent }, options);
      return answer.items.map((item) =>
        'error' in item ? item : { ...item, plaintext: Buffer.from(item.plaintext, 'base64') },
      );
    },

    /** Under the latest version; the plaintext stays in the vault. */
    rewrap: (
      key: string,
      ciphertext: string,
      { context, associatedData, ...options }: Bound & CallOptions = {},
    ): Promise<Ciphertext> =>
      one(`rewrap/${part(key)}`, { ciphertext, ...bound({ context, associatedData }) }, {}, options),

    /** A new key for large data: to use and forget, and to keep. */
    dataKey: async (
      key: string,
      { bits = 256, context, associatedData, ...options }: Bound & { bits?: 128 | 256 | 512 } & CallOptions = {},
    ): Promise<Ciphertext & { readonly plaintext: Buffer }> => {
      const ask = { bits, ...bound({ context, associatedData }) };
      const made = await post<Ciphertext & { plaintext: string }>(`datakey/${part(key)}`, ask, options, 'more');
      return { ...made, plaintext: Buffer.from(made.plaintext, 'base64') };
    },

    wrappedDataKey: (
      key: string,
      { bits = 256, context, associatedData, ...options }: Bound & { bits?: 128 | 256 | 512 } & CallOptions = {},
    ): Promise<Ciphertext> =>
      post(`wrapped-datakey/${part(key)}`, { bits, ...bound({ context, associatedData }) }, options, 'more'),

    sign: async (
      key: string,
      input: Bytes,
      { context, ...rest }: SignatureOptions & CallOptions = {},
    ): Promise<{ readonly signature: string; readonly key_version: number; readonly public_key?: string }> => {
      const { scheme, options } = split(rest);
      return one(`sign/${part(key)}`, { input: base64(input), ...bound({ context }) }, scheme, options);
    },

    verify: async (
      key: string,
      input: Bytes,
      signature: string,
      { context, ...rest }: SignatureOptions & CallOptions = {},
    ): Promise<boolean> => {
      const { scheme, options } = split(rest);
      const item = { input: base64(input), signature, ...bound({ context }) };
      return (await one<{ valid: boolean }>(`verify/${part(key)}`, item, scheme, options)).valid;
    },

    hmac: (
      key: string,
      input: Bytes,
      { hashAlgorithm, ...options }: { hashAlgorithm?: HashAlgorithm } & CallOptions = {},
    ): Promise<{ readonly hmac: string; readonly key_version: number }> =>
      one(`hmac/${part(key)}`, { input: base64(input) }, { hash_algorithm: hashAlgorithm }, options),

    verifyHmac: async (
      key: string,
      input: Bytes,
      hmac: string,
      { hashAlgorithm, ...options }: { hashAlgorithm?: HashAlgorithm } & CallOptions = {},
    ): Promise<boolean> => {
      const item = { input: base64(input), hmac };
      const rest = { hash_algorithm: hashAlgorithm };
      return (await one<{ valid: boolean }>(`verify-hmac/${part(key)}`, item, rest, options)).valid;
    },

    /** For the passwords of an application's own users; the key is of type password. */
    hashPassword: async (key: string, password: string, options: CallOptions = {}): Promise<string> =>
      (await post<{ hash: string }>(`password-hash/${part(key)}`, { password }, options)).hash,

    verifyPassword: (
      key: string,
      password: string,
      hash: string,
      options: CallOptions = {},
    ): Promise<PasswordVerdict> => post(`password-verify/${part(key)}`, { password, hash }, options),

    hash: async (
      input: Bytes,
      { algorithm = 'sha2-256', ...options }: { algorithm?: HashAlgorithm } & CallOptions = {},
    ): Promise<Buffer> => {
      const { hash } = await post<{ hash: string }>('hash', { input: base64(input), algorithm }, options);
      return Buffer.from(hash, 'base64');
    },

    random: async (bytes: number, options: CallOptions = {}): Promise<Buffer> => {
      const answer = await post<{ random_bytes: string }>('random', { bytes }, options);
      return Buffer.from(answer.random_bytes, 'base64');
    },

    /** HPKE to an X25519 public key of 32 bytes. */
    sealTo: async (
      publicKey: Uint8Array,
      plaintext: Bytes,
      { info, associatedData, ...options }: { info?: Bytes; associatedData?: Bytes } & CallOptions = {},
    ): Promise<Buffer> => {
      const ask = {
        public_key: base64(publicKey),
        plaintext: base64(plaintext),
        info: info === undefined ? undefined : base64(info),
        associated_data: associatedData === undefined ? undefined : base64(associatedData),
      };
      return Buffer.from((await post<{ sealed: string }>('seal', ask, options)).sealed, 'base64');
    },
  };
}

function createNamedKeys(connection: Connection) {
  const at = (key: string, rest = '') => `${API}/transit/keys/${part(key)}${rest}`;
  return {
    list: (options: CallOptions = {}): AsyncGenerator<ListedNamedKey, void, undefined> =>
      listAll(connection, `${API}/transit/keys`, {}, options),

    create: (name: string, input: NamedKeyInput = {}, options: CallOptions = {}): Promise<NamedKey> => {
      const json = {
        name,
        type: input.type,
        derived: input.derived,
        convergent_encryption: input.convergentEncryption,
        exportable: input.exportable,
        auto_rotate_period: input.autoRotatePeriod,
        key_size: input.keySize,
      };
      return sendForJson(connection, { method: 'POST', path: `${API}/transit/keys`, effect: 'more', json, ...options });
    },

    get: (key: string, options: CallOptions = {}): Promise<NamedKey> =>
      sendForJson(connection, { method: 'GET', path: at(key), effect: 'none', ...options }),

    configure: (key: string, change: NamedKeyChange, options: CallOptions = {}): Promise<NamedKey> => {
      const json = {
        min_decryption_version: change.minDecryptionVersion,
        min_encryption_version: change.minEncryptionVersion,
        deletion_allowed: change.deletionAllowed,
        exportable: change.exportable,
        auto_rotate_period: change.autoRotatePeriod,
      };
      return sendForJson(connection, { method: 'PATCH', path: at(key), effect: 'same', json, ...options });
    },

    rotate: (key: string, options: CallOptions = {}): Promise<NamedKey> =>
      sendForJson(connection, { method: 'POST', path: at(key, '/rotate'), effect: 'more', json: {}, ...options }),

    /** Destroys every version below this one. */
    trim: (key: string, minAvailableVersion: number, options: CallOptions = {}): Promise<NamedKey> => {
      const json = { min_available_version: minAvailableVersion };
      return sendForJson(connection, { method: 'POST', path: at(key, '/trim'), effect: 'same', json, ...options });
    },

    export: (
      key: string,
      kind: 'encryption-key' | 'signing-key' | 'hmac-key' | 'public-key',
      { version, ...options }: { version?: number | 'latest' } & CallOptions = {},
    ): Promise<ExportedKey> => {
      const json = { kind, version };
      return sendForJson(connection, { method: 'POST', path: at(key, '/export'), effect: 'none', json, ...options });
    },

    delete: async (key: string, options: CallOptions = {}): Promise<void> => {
      await connection.send({ method: 'DELETE', path: at(key), effect: 'same', ...options });
    },
  };
}

const base64 = (bytes: Bytes): string => Buffer.from(bytes as Uint8Array).toString('base64');

function bound({ context, associatedData }: Bound): object {
  return {
    ...(context === undefined ? {} : { context: base64(context) }),
    ...(associatedData === undefined ? {} : { associated_data: base64(associatedData) }),
  };
}

function split(all: Omit<SignatureOptions, 'context'> & CallOptions): { scheme: object; options: CallOptions } {
  const { hashAlgorithm, signatureAlgorithm, marshalingAlgorithm, saltLength, prehashed, ...options } = all;
  const scheme = {
    hash_algorithm: hashAlgorithm,
    signature_algorithm: signatureAlgorithm,
    marshaling_algorithm: marshalingAlgorithm,
    salt_length: saltLength,
    prehashed,
  };
  return { scheme, options };
}
