/**
 * A running Vault or OpenBao as a source: its secrets with all versions, and its policies. It is only ever read.
 *
 * Answers are kept as texts where a secret's document is in them, so that it is copied to the letter. The token of the
 * source is held here and leaves as a header to the one address that it was given for; redirects are not followed.
 */
import { VaultError } from '../errors.ts';
import { sourceOf } from './json-source.ts';

export type VaultSource = {
  /** Throws `forbidden` where the token sees no such mount, `invalid_request` where it is no KV engine of version 2. */
  readonly checkMount: (mount: string) => Promise<void>;
  /** Every path under a mount, folders walked in order. One that ends in a slash is too deep, and was not walked. */
  readonly paths: (mount: string) => AsyncGenerator<string>;
  readonly metadata: (mount: string, path: string) => Promise<SourceMetadata>;
  /** The JSON text of a version's data; undefined when it cannot be read. */
  readonly read: (mount: string, path: string, version: number) => Promise<string | undefined>;
  readonly policies: () => Promise<string[]>;
  readonly policy: (name: string) => Promise<string>;
};

export type SourceVersion = { readonly deletion_time: string; readonly destroyed: boolean };

export type SourceMetadata = {
  readonly current_version: number;
  readonly max_versions: number;
  readonly cas_required: boolean;
  readonly delete_version_after: string;
  readonly custom_metadata: Readonly<Record<string, string>> | null;
  readonly versions: Readonly<Record<string, SourceVersion>>;
};

export type SourceOptions = {
  readonly address: string;
  readonly token: string;
  readonly namespace?: string | undefined;
};

const TIMEOUT_MS = 30_000;
/** More than our own paths have. */
const DEPTH_MAX = 16;

export function vaultSource(options: SourceOptions): VaultSource {
  const base = options.address.replace(/\/{1,16}$/, '');
  const get = reader(base, options);
  const parsed = async <T>(path: string): Promise<T | undefined> => {
    const text = await get(path);
    return text === undefined ? undefined : (JSON.parse(text) as { data: T }).data;
  };
  const keys = async (path: string) => (await parsed<{ keys: string[] }>(`${path}?list=true`))?.keys ?? [];

  async function* walk(mount: string, under: string, depth: number): AsyncGenerator<string> {
    if (depth > DEPTH_MAX) return void (yield under);
    for (const key of await keys(`${mount}/metadata/${encoded(under)}`)) {
      if (key.endsWith('/')) yield* walk(mount, under + key, depth + 1);
      else yield under + key;
    }
  }

  /** What the source says of a mount; it answers 403 for one that is not there, too. */
  const mountInfo = async (mount: string) => {
    try {
      return await parsed<{ type?: string; options?: { version?: string } | null }>(
        `sys/internal/ui/mounts/${encoded(mount)}`,
      );
    } catch (error) {
      if (error instanceof VaultError && error.code === 'forbidden') return undefined;
      throw error;
    }
  };

  return {
    checkMount: async (mount) => {
      const info = await mountInfo(mount);
      if (!info) {
        throw new VaultError('forbidden', `${base} shows no mount ${mount}/ to this token: see that both are right.`);
      }
      if (info.type === 'kv' && info.options?.version === '2') return;
      throw new VaultError(
        'invalid_request',
        `${mount}/ at ${base} is no KV engine of version 2. One of version 1 becomes it there with: vault kv enable-versioning ${mount}/`,
      );
    },
    paths: (mount) => walk(mount, '', 0),
    metadata: async (mount, path) => {
      const found = await parsed<SourceMetadata>(`${mount}/metadata/${encoded(path)}`);
      if (!found) throw new VaultError('not_found', `${path} is gone at the source.`);
      return found;
    },
    read: async (mount, path, version) => {
      const text = await get(`${mount}/data/${encoded(path)}?version=${version}`);
      return text === undefined ? undefined : sourceOf(text, ['data', 'data']);
    },
    policies: async () => {
      try {
        return (await keys('sys/policies/acl')).filter((name) => name !== 'root' && name !== 'default');
      } catch (error) {
        if (!(error instanceof VaultError) || error.code !== 'forbidden') throw error;
        throw new VaultError('forbidden', `${error.message} --no-policies leaves the policies out.`);
      }
    },
    policy: async (name) =>
      (await parsed<{ policy: string }>(`sys/policies/acl/${encodeURIComponent(name)}`))?.policy ?? '',
  };
}

const encoded = (path: string) => path.split('/').map(encodeURIComponent).join('/').replaceAll('%40', '@');

/** Gives the body of an answer; undefined for what is not there. */
function reader(base: string, { token, namespace }: SourceOptions): (path: string) => Promise<string | undefined> {
  const headers = {
    'X-Vault-Token': token,
    'X-Vault-Request': 'true',
    ...(namespace ? { 'X-Vault-Namespace': namespace } : {}),
  };
  return async (path) => {
    let answer: Response;
    try {
      answer = await fetch(`${base}/v1/${path}`, {
        headers,
        redirect: 'manual',
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
    } catch {
      throw new VaultError(
        'unavailable',
        `${base} does not answer: see that it runs, and that its certificate is trusted.`,
      );
    }
    const text = await answer.text();
    if (answer.ok) return text;
    if (answer.status === 404) return undefined;
    if (answer.status >= 300 && answer.status < 400) {
      throw new VaultError('unavailable', `${base} sends elsewhere: give the address of the node that is active.`);
    }
    throw new VaultError(
      answer.status === 403 ? 'forbidden' : 'unavailable',
      `${base} answered ${answer.status} to the reading of ${path.split('?')[0]}.`,
    );
  };
}
