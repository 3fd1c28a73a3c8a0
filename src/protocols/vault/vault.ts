/**
 * The HTTP API of HashiCorp Vault and OpenBao under /v1, as their clients use it.
 *
 * Paths are not a fixed table there: engines are mounted under names of the tenant's choosing. So this protocol routes
 * by itself: the fixed parts by their first segment, the rest by the mount that the path belongs to, each by the table
 * of its engine. What a handler does is one domain verb of ours, decided and recorded by the gate as for any other
 * protocol; nothing here holds SQL, a key or a policy of its own.
 */

import { parseTokenText } from '../../auth/bearer.ts';
import { wrap } from '../../auth/wrapping.ts';
import type { Call } from '../../policy/access.ts';
import { type Mount, mountOver, WHOLE_TREE } from '../../secret/mount.ts';
import { isOwnTenant } from '../../tenant/tenant.ts';
import type { Vault } from '../../vault.ts';
import type { Dialect, Exchange, Host, Protocol, WireAnswer } from '../protocol.ts';
import { type Answer, envelopeText, wireAnswer } from './answer.ts';
import { APPROLE_ROUTES } from './approle.ts';
import { CERT_ROUTES } from './cert.ts';
import { CUBBYHOLE_ROUTES } from './cubbyhole.ts';
import { DATABASE_ROUTES } from './database.ts';
import { errorAnswer, noHandler, said, unsupportedOperation, unsupportedPath } from './error.ts';
import { JWT_ROUTES, OIDC_ROUTES } from './jwt.ts';
import { KV1_ROUTES } from './kv1.ts';
import { KV2_ROUTES } from './kv2.ts';
import {
  BASE,
  BODY_BYTES_MAX,
  hasBody,
  namespaceOf,
  parseTarget,
  readFields,
  type Target,
  tokenOf,
  wrapSecondsOf,
} from './request.ts';
import { matchRoute, type Route, type VaultRequest } from './route.ts';
import { SYS_ROUTES } from './sys.ts';
import { TOKEN_ROUTES } from './token.ts';
import { TOKEN_CREATE_ROUTES } from './token-create.ts';
import { TOKEN_ROLE_ROUTES } from './token-role.ts';
import { TRANSIT_ROUTES } from './transit.ts';
import { USERPASS_ROUTES } from './userpass.ts';
import { wrapInfoOf } from './wrapping.ts';

/** What is served at a fixed place. The first that fits the beginning of a path has it. */
export const FIXED: readonly { readonly at: string; readonly routes: readonly Route[] }[] = [
  { at: 'sys', routes: SYS_ROUTES },
  { at: 'auth/token', routes: [...TOKEN_ROUTES, ...TOKEN_CREATE_ROUTES, ...TOKEN_ROLE_ROUTES] },
  { at: 'auth/userpass', routes: USERPASS_ROUTES },
  { at: 'auth/approle', routes: APPROLE_ROUTES },
  { at: 'auth/jwt', routes: JWT_ROUTES },
  { at: 'auth/oidc', routes: OIDC_ROUTES },
  { at: 'auth/cert', routes: CERT_ROUTES },
  { at: 'auth', routes: [] },
  { at: 'identity', routes: [] },
  { at: 'cubbyhole', routes: CUBBYHOLE_ROUTES },
  { at: 'transit', routes: TRANSIT_ROUTES },
  { at: 'database', routes: DATABASE_ROUTES },
];

const under = (place: string, path: string) =>
  path.startsWith(place) && (path.length === place.length || path[place.length] === '/');

/** Where a path leads: the table, the rest of the path, and what the log may say of where it was. */
type Place = {
  readonly routes: readonly Route[];
  readonly rest: string;
  readonly label: string;
  readonly mount: Mount;
};

/** Where a path leads without a question to the database; undefined where a mount may be. */
function fixedPlaceOf(path: string): Place | undefined {
  if (under(WHOLE_TREE.path, path)) return placeIn(WHOLE_TREE, path);
  const fixed = FIXED.find(({ at }) => under(at, path));
  return fixed && { routes: fixed.routes, rest: path.slice(fixed.at.length + 1), label: fixed.at, mount: WHOLE_TREE };
}

async function mountedPlaceOf(vault: Vault, call: Call, path: string): Promise<Place> {
  const mount = await mountOver(vault, call, path);
  if (!mount) throw noHandler(path);
  return placeIn(mount, path);
}

function placeIn(mount: Mount, path: string): Place {
  const routes = mount.version === 1 ? KV1_ROUTES : KV2_ROUTES;
  return { routes, rest: path.slice(mount.path.length + 1), label: '{mount}', mount };
}

async function serve(vault: Vault, host: Host, exchange: Exchange): Promise<WireAnswer> {
  const { incoming, requestId, source, clientCertificate } = exchange;
  const certificate = clientCertificate?.thumbprint;
  exchange.route = `${BASE}none`;
  const token = tokenOf(incoming);
  exchange.tenant = token?.tenantId;
  const call: Call = { requestId, source, protocol: 'vault', token, certificate };
  exchange.call = call;
  const target = parseTarget(incoming.method!, incoming.url!);
  const place = fixedPlaceOf(target.path) ?? (await mountedPlaceOf(vault, call, target.path));
  const match = matchRoute(place.routes, place.rest);
  // A method that does not stand there is a mount that is not there.
  if (!match) throw place.label === 'auth' ? noHandler(target.path) : unsupportedPath();
  exchange.route = `${BASE}${place.label}${match.route.pattern === '' ? '' : `/${match.route.pattern}`}`;
  const handler = match.route.verbs[target.verb];
  if (!handler) throw unsupportedOperation();
  const namespace = namespaceOf(exchange);
  if (!match.route.open && namespace !== undefined) await requireNamespace(vault, call, namespace, target);
  const wrapSeconds = wrapSecondsOf(exchange);
  const fields = hasBody(target) ? await readFields(exchange, host) : target.query;
  const { verb, path, query } = target;
  const request: VaultRequest = {
    ...{ vault, host, exchange, call, verb, path, at: match.at, fields, query, mount: place.mount, namespace },
  };
  const answer = warned(request, await handler(request));
  const made = wrapSeconds === undefined ? wireAnswer(requestId, answer) : await wrapped(request, answer, wrapSeconds);
  if (namespace === undefined) return made;
  return { ...made, headers: { ...made.headers, 'X-Vault-Namespace': namespace } };
}

/** What this API calls the part of a path that a pattern here calls otherwise. */
const CALLED: Readonly<Record<string, string>> = { role_name: 'role', url_lease_id: 'path' };
const WARNED_NAMES_MAX = 20;

/** What was sent and not asked for, said as clients know it: fields that the path has said already, and unknown ones. */
function warned({ verb, at, fields }: VaultRequest, answer: Answer): Answer {
  const done =
    answer.kind === 'empty' ? (answer.status ?? 204) === 204 : answer.kind === 'envelope' && !answer.wrapInfo;
  if ((verb !== 'POST' && verb !== 'PATCH') || !done || answer.kind === 'bare') return answer;
  const unread = fields.unread().filter((name) => /^[\w.-]{1,64}$/.test(name));
  if (unread.length === 0 || (answer.status ?? 200) >= 400) return answer;
  const names = unread.sort().slice(0, WARNED_NAMES_MAX);
  const replaced = names.filter((name) => Object.hasOwn(at, CALLED[name] ?? name));
  const ignored = names.filter((name) => !replaced.includes(name));
  const warnings = [
    ...(answer.kind === 'envelope' ? (answer.warnings ?? []) : []),
    ...(ignored.length === 0 ? [] : [`Endpoint ignored these unrecognized parameters: [${ignored.join(' ')}]`]),
    ...(replaced.length === 0
      ? []
      : [
          "Endpoint replaced the value of these parameters with the values captured from the endpoint's path: " +
            `[${replaced.join(' ')}]`,
        ]),
  ];
  return answer.kind === 'envelope' ? { ...answer, warnings } : { kind: 'envelope', warnings };
}

/** A namespace is a tenant, and the token is of one: another's name leads nowhere, whether it exists or not. */
async function requireNamespace(vault: Vault, call: Call, name: string, { path }: Target): Promise<void> {
  if (!call.token) throw said('unauthenticated', 'permission denied');
  if (!(await isOwnTenant(vault, call.token.tenantId, name))) throw noHandler(path);
}

/** What has nothing to hide passes as it is: an empty answer, an error, and what is a wrapping already. */
async function wrapped(request: VaultRequest, answer: Answer, ttlSeconds: number): Promise<WireAnswer> {
  const { vault, call, exchange, path } = request;
  const { requestId } = exchange;
  if (answer.kind !== 'envelope' || (answer.status ?? 200) >= 400) return wireAnswer(requestId, answer);
  if (answer.wrapInfo) return wireAnswer('', answer);
  // A login has no token but the one that it answers.
  const by = answer.auth ? { ...call, token: parseTokenText(answer.auth.client_token) } : call;
  const text = envelopeText(requestId, answer);
  const made = await wrap(vault, by, { text, creationPath: path, ttlSeconds });
  return wireAnswer('', { kind: 'envelope', wrapInfo: wrapInfoOf(made, answer.auth?.accessor) });
}

const OPEN_WHILE_SEALED = new Set(
  ['sys/health', 'sys/seal-status', 'sys/leader', 'sys/init', 'sys/unseal'].map((path) => BASE + path),
);

export const vault: Protocol = {
  name: 'vault',
  mount: () => undefined,
  describe: () => undefined,
  dialect: (vault, host): Dialect => ({
    ...{ base: BASE, tokenOf, bodyBytesMax: BODY_BYTES_MAX, trailingSlash: true, openWhileSealed: OPEN_WHILE_SEALED },
    errorAnswer,
    serve: (exchange) => serve(vault, host, exchange),
  }),
};
