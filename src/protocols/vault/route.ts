/**
 * The routes of one engine, relative to where it is mounted, as a table: pattern and verb to handler.
 *
 *     pattern = segment *( "/" segment )      segment = literal / "{name}" one segment / "{path}" one or more
 *
 * A pattern has at most one `{path}`; the first pattern that fits decides, so an exact one stands before a wide one.
 */
import type { Call } from '../../policy/access.ts';
import type { Mount } from '../../secret/mount.ts';
import type { Vault } from '../../vault.ts';
import type { Exchange, Host } from '../protocol.ts';
import type { Answer } from './answer.ts';
import type { Fields } from './field.ts';

/** PUT is POST, and GET ?list=true is LIST. */
export type Verb = 'GET' | 'POST' | 'DELETE' | 'PATCH' | 'LIST' | 'HEAD';

export type VaultRequest = {
  readonly vault: Vault;
  readonly host: Host;
  readonly exchange: Exchange;
  readonly call: Call;
  readonly verb: Verb;
  /** Behind /v1/, as it came. */
  readonly path: string;
  /** What stands in the places of the pattern. */
  readonly at: Readonly<Record<string, string>>;
  readonly fields: Fields;
  readonly query: Fields;
  /** Where the request goes, when that is a part of the tree of secrets. */
  readonly mount: Mount;
  /** The name in X-Vault-Namespace; undefined when there is none. */
  readonly namespace: string | undefined;
};

export type Handler = (request: VaultRequest) => Promise<Answer>;

export type Route = {
  readonly pattern: string;
  readonly verbs: Partial<Record<Verb, Handler>>;
  /** Answers without a token: a login, or what anybody may know. */
  readonly open?: true;
};

export type Match = { readonly route: Route; readonly at: Readonly<Record<string, string>> };

export function matchRoute(routes: readonly Route[], path: string): Match | undefined {
  const segments = path === '' ? [] : path.split('/');
  for (const route of routes) {
    const at = matchPattern(patternOf(route), segments);
    if (at) return { route, at };
  }
  return undefined;
}

const patterns = new WeakMap<Route, readonly string[]>();

function patternOf(route: Route): readonly string[] {
  const known = patterns.get(route) ?? (route.pattern === '' ? [] : route.pattern.split('/'));
  patterns.set(route, known);
  return known;
}

function matchPattern(pattern: readonly string[], segments: readonly string[]): Record<string, string> | undefined {
  const rest = pattern.indexOf('{path}');
  const extra = segments.length - pattern.length;
  if (rest === -1 ? extra !== 0 : extra < 0) return undefined;
  const at: Record<string, string> = {};
  for (let i = 0; i < pattern.length; i++) {
    const wanted = pattern[i]!;
    if (i === rest) {
      at.path = segments.slice(i, i + extra + 1).join('/');
      continue;
    }
    const segment = segments[rest !== -1 && i > rest ? i + extra : i]!;
    if (wanted.startsWith('{')) at[wanted.slice(1, -1)] = segment;
    else if (wanted !== segment) return undefined;
  }
  return at;
}
