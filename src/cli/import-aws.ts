/**
 * AWS Secrets Manager as a source of `bulla import`: names under a prefix first, then the current version of each.
 *
 * The official client is loaded only when this is used, and takes its credentials from where AWS programs do. A name of
 * AWS is a path of ours but for a slash at its beginning; a description and tags become metadata, which is no secret there
 * either. Older versions are not copied.
 */
import { VaultError } from '../errors.ts';
import { type Incoming, type Source, under } from './import-source.ts';

export type AwsOptions = {
  readonly prefix?: string;
  readonly to: string;
  readonly region?: string;
  readonly endpoint?: string;
};

type Listed = { readonly name: string; readonly metadata: Readonly<Record<string, string>> };

const PAGE_ITEMS = 100;
const TAG_TEXT_MAX = 1024;

export async function awsSource({ prefix, to, region, endpoint }: AwsOptions): Promise<Source> {
  const aws = await import('@aws-sdk/client-secrets-manager');
  const client = new aws.SecretsManagerClient({
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(region === undefined ? {} : { region }),
  });
  const listed: Listed[] = [];
  const filters = prefix === undefined ? {} : { Filters: [{ Key: 'name' as const, Values: [prefix] }] };
  for (let token: string | undefined; ; ) {
    const page = await asking('list secrets', () =>
      client.send(new aws.ListSecretsCommand({ MaxResults: PAGE_ITEMS, NextToken: token, ...filters })),
    );
    for (const { Name: name, Description: about, Tags: tags } of page.SecretList ?? []) {
      // The filter of AWS does not tell upper from lower case.
      if (name === undefined || !name.startsWith(prefix ?? '')) continue;
      listed.push({ name, metadata: metadataOf(about, tags ?? []) });
    }
    token = page.NextToken;
    if (token === undefined) break;
  }
  async function* items(): AsyncGenerator<Incoming, void, undefined> {
    for (const { name, metadata } of listed) {
      const path = under(to, name.replace(/^\//, ''));
      const value = await asking(`read ${name}`, () => client.send(new aws.GetSecretValueCommand({ SecretId: name })));
      yield { path, ...secretOf(value.SecretString, value.SecretBinary), metadata };
    }
  }
  return { total: listed.length, items: items() };
}

/** A text that is a JSON object is one: so the console of AWS stores keys and values. */
function secretOf(text: string | undefined, bytes: Uint8Array | undefined) {
  if (text !== undefined) return isObject(text) ? { data: text } : { text };
  return bytes === undefined ? { refused: 'it has no current value' } : { bytes };
}

function isObject(text: string): boolean {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value);
  } catch {
    return false;
  }
}

function metadataOf(
  about: string | undefined,
  tags: readonly { readonly Key?: string | undefined; readonly Value?: string | undefined }[],
): Record<string, string> {
  const entries = tags.flatMap(({ Key, Value }) => (Key === undefined ? [] : [[`tag:${Key}`, Value ?? ''] as const]));
  const all = [...(about ? [['description', about] as const] : []), ...entries];
  return Object.fromEntries(all.map(([key, value]) => [key, value.slice(0, TAG_TEXT_MAX)]));
}

/** What the client of AWS throws is named by its kind: its text may hold more than we know of. */
async function asking<T>(what: string, ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (error) {
    const kind = error instanceof Error ? error.name : 'an unknown error';
    throw new VaultError('unavailable', `AWS did not ${what}: ${kind}. Check its credentials, region and policy.`, {
      cause: error,
    });
  }
}
