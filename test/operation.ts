/**
 * Every operation that is served: those of the app's own OpenAPI document, and those of the tables that /v1 routes by.
 * A test that goes through them meets a new route by itself.
 */
import { KV1_ROUTES } from '../src/protocols/vault/kv1.ts';
import { KV2_ROUTES } from '../src/protocols/vault/kv2.ts';
import { FIXED } from '../src/protocols/vault/vault.ts';
import { type DocumentedParameter, documentedOperations } from './document.ts';

export type Parameter = { readonly name: string; readonly required: boolean; readonly example: unknown };

export type Operation = {
  /** Method and pattern. */
  readonly name: string;
  readonly protocol: 'native' | 'vault' | 'oauth' | 'plain';
  readonly method: string;
  /** With `{…}` where a name stands. */
  readonly path: string;
  /** Answers without a token. */
  readonly open: boolean;
  readonly query: readonly Parameter[];
  readonly headers: readonly Parameter[];
  /** The document's example of a body, and its media type. */
  readonly body: unknown;
  readonly type: string | undefined;
  /** An example for each name in the path. */
  readonly at: Readonly<Record<string, string>>;
};

function documented(): Operation[] {
  const exampleOf = ({ example, schema }: DocumentedParameter) => example ?? schema.example ?? schema.default ?? 1;
  return documentedOperations().map(({ method, path, operation }): Operation => {
    const those = (place: string): Parameter[] =>
      (operation.parameters ?? [])
        .filter((one) => one.in === place)
        .map((one) => ({ name: one.name, required: one.required === true, example: exampleOf(one) }));
    const [typed] = Object.entries(operation.requestBody?.content ?? {});
    return {
      name: `${method.toUpperCase()} ${path}`,
      protocol: path.startsWith('/api/') ? 'native' : path.startsWith('/oauth/') ? 'oauth' : 'plain',
      ...{ method: method.toUpperCase(), path, open: operation.security?.length === 0 },
      ...{ query: those('query'), headers: those('header') },
      ...{ type: typed?.[0], body: typed?.[1].example },
      at: Object.fromEntries(those('path').map(({ name, example }) => [name, String(example)])),
    };
  });
}

/** What the patterns of /v1 hold that is no name of a thing. */
const FIXED_WORDS: Readonly<Record<string, string>> = {
  ...{
    algorithm: 'sha2-256',
    source: 'platform',
    type: 'secret',
    bytes: '16',
    a: '16',
    b: '16',
    version: '1',
    kind: 'encryption-key',
  },
};

/** Where somebody logs in is called as its method is. */
const METHODS = '/v1/sys/auth/';

/** A tree of secrets may be mounted anywhere: the first kind where one has been, the second where every tenant has one. */
const PLACES = [...FIXED, { at: '{mount}', routes: KV1_ROUTES }, { at: 'secret', routes: KV2_ROUTES }];

function tabled(): Operation[] {
  return PLACES.flatMap(({ at, routes }) =>
    routes.flatMap(({ pattern, verbs, open = false }) =>
      Object.keys(verbs).map((method): Operation => {
        const path = `/v1/${pattern === '' ? at : `${at}/${pattern}`}`;
        const names = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name!);
        const word = (name: string) =>
          path.startsWith(METHODS)
            ? 'userpass'
            : /datakey/.test(path) && name === 'kind'
              ? 'plaintext'
              : FIXED_WORDS[name];
        return {
          ...{ name: `${method} ${path}`, protocol: 'vault', method, path, open, query: [], headers: [] },
          ...{ body: method === 'POST' || method === 'PATCH' ? {} : undefined, type: 'application/json' },
          at: Object.fromEntries(names.map((name) => [name, word(name) ?? 'example'])),
        };
      }),
    ),
  );
}

export const operations = (): Operation[] => [...documented(), ...tabled()];

/** Whether what stands for `name` is a word of the protocol or a place in one's own log, and nobody's name. */
export const isWord = ({ protocol, path }: Operation, name: string) =>
  name === 'tile' || (protocol === 'vault' && (name in FIXED_WORDS || path.startsWith(METHODS)));

export type Asked = {
  readonly token?: string | undefined;
  /** In the place of the examples. */
  readonly at?: Readonly<Record<string, string>>;
  readonly query?: Readonly<Record<string, string>>;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
};

export type Said = { readonly status: number; readonly headers: Headers; readonly text: string };

function targetOf({ path, query: known, at }: Operation, asked: Asked): string {
  const filled = path.replace(/\{(\w+)\}/g, (_, name: string) => asked.at?.[name] ?? at[name]!);
  const required = known.filter(({ required }) => required).map(({ name, example }) => [name, String(example)]);
  const query = new URLSearchParams({ ...Object.fromEntries(required), ...asked.query }).toString();
  return query === '' ? filled : `${filled}?${query}`;
}

/** Sends it, with the document's example for what is not said. Of an answer without an end only the head is read. */
export async function send(address: string, operation: Operation, asked: Asked = {}): Promise<Said> {
  const { method, protocol, type } = operation;
  const body = 'body' in asked ? asked.body : operation.body;
  const headers = new Headers({ ...(body === undefined ? {} : { 'content-type': type! }), ...asked.headers });
  if (asked.token !== undefined && protocol === 'vault') headers.set('x-vault-token', asked.token);
  else if (asked.token !== undefined) headers.set('authorization', `Bearer ${asked.token}`);
  const text = typeof body === 'string' ? body : isForm(type, body) ? formOf(body) : JSON.stringify(body);
  const answer = await fetch(`${address}${targetOf(operation, asked)}`, {
    ...{ method, headers, redirect: 'manual' },
    ...(body === undefined ? {} : { body: text }),
  });
  if (operation.path.endsWith('/audit/tail') && answer.status === 200) await answer.body?.cancel();
  const read = answer.bodyUsed || answer.body?.locked ? '' : await answer.text().catch(() => '');
  return { status: answer.status, headers: answer.headers, text: read };
}

const isForm = (type: string | undefined, body: unknown): body is object =>
  type === 'application/x-www-form-urlencoded' && typeof body === 'object' && body !== null;
const formOf = (body: object) =>
  new URLSearchParams(Object.entries(body).map(([name, value]): [string, string] => [name, String(value)])).toString();
