/**
 * database/config: a connection of this API as the configuration of a backend of ours, and back.
 *
 * What the vault would not do as it is asked is refused by its name. A connection is never protected less than is asked:
 * TLS is either off, where the URL says so, or verified.
 */
import { badRequest } from './error.ts';
import { type Fields, isEmpty } from './field.ts';

type Config = Readonly<Record<string, unknown>>;

const KIND_OF: Readonly<Record<string, string>> = {
  'postgresql-database-plugin': 'postgres',
  ...{ 'mysql-database-plugin': 'mysql', 'mysql-aurora-database-plugin': 'mysql' },
  ...{ 'mysql-rds-database-plugin': 'mysql', 'mysql-legacy-database-plugin': 'mysql' },
  ...{ 'redis-database-plugin': 'redis', 'valkey-database-plugin': 'redis' },
};

/** The first name of a kind is what it is shown as. */
export const pluginOf = (kind: string): string =>
  Object.keys(KIND_OF).find((plugin) => KIND_OF[plugin] === kind) ?? kind;

const NOT_KEPT = [
  ...['root_rotation_statements', 'root_credentials_rotate_statements', 'password_policy', 'username_template'],
  ...['tls_certificate', 'tls_certificate_key', 'private_key', 'tls_server_name', 'insecure_tls', 'disable_escaping'],
  ...['auth_type', 'service_account_json', 'self_managed', 'rotation_period', 'rotation_schedule', 'plugin_version'],
];

export type Connection = { readonly kind: string; readonly config: Config };

/** `before`: what is stored, of which stays what is not given. */
export function connectionIn(fields: Fields, before: Connection | undefined): Connection {
  for (const name of NOT_KEPT) if (!isEmpty(fields.value(name))) throw badRequest(`${name} is not supported`);
  const plugin = fields.string('plugin_name');
  const kind = plugin === undefined ? before?.kind : KIND_OF[plugin];
  if (plugin === undefined && kind === undefined) throw badRequest('empty plugin name');
  if (kind === undefined) {
    throw badRequest(`plugin not found in the catalog: expected one of ${Object.keys(KIND_OF).join(', ')}`);
  }
  return { kind, config: defined({ ...before?.config, ...configIn(kind, fields) }) };
}

const URL_CHARS_MAX = 4096;

function configIn(kind: string, fields: Fields): Config {
  const own = { username: fields.string('username'), password: fields.string('password') };
  if (kind === 'redis') return { ...redisPlace(fields), ...defined(own) };
  const url = fields.string('connection_url');
  if (url !== undefined && url.length > URL_CHARS_MAX) throw badUrl(`at most ${URL_CHARS_MAX} characters`);
  const ca = fields.string('tls_ca') || fields.string('ca_cert') || undefined;
  const place = url === undefined ? {} : kind === 'mysql' ? mysqlPlace(url, ca) : postgresPlace(url);
  return { ...place, ...defined({ ...own, ca }) };
}

const defined = (members: Readonly<Record<string, unknown>>): Record<string, unknown> =>
  Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined));

function redisPlace(fields: Fields): Config {
  const tls = fields.boolean('tls');
  return defined({
    host: fields.string('host'),
    port: fields.integer('port'),
    tls: tls === undefined ? (fields.has('host') ? 'off' : undefined) : tls ? 'verify' : 'off',
    ca: fields.string('ca_cert') || undefined,
  });
}

/** What a URL says of the user is text, or the placeholder of a field beside it. */
function userIn(name: string | undefined, password: string | undefined): Config {
  const given = (text: string | undefined) =>
    text === undefined || text === '' || /^\{\{/.test(text) ? undefined : text;
  return defined({ username: given(name), password: given(password) });
}

/** A mistake in a URL is never answered with the URL: it may hold a password. */
const badUrl = (expected: string) => badRequest(`connection_url: expected ${expected}`);

const POSTGRES_URL = 'postgresql://{{username}}:{{password}}@host:5432/database?sslmode=verify-full';

function postgresPlace(text: string): Config {
  // A placeholder is as good as nothing: a field beside it says what it stands for.
  const marked = text.replaceAll(/\{\{\s*(?:username|password)\s*\}\}/g, '');
  if (!/^postgres(ql)?:\/\//.test(marked) || !URL.canParse(marked)) throw badUrl(POSTGRES_URL);
  // Of a scheme that it does not know, a URL leaves out what it leaves in of http.
  const url = new URL(marked.replace(/^postgres(ql)?:/, 'http:'));
  const database = textOf(url.pathname.slice(1));
  if (url.hostname === '' || database === '' || database.includes('/')) throw badUrl(POSTGRES_URL);
  const other = [...url.searchParams.keys()].find((name) => name !== 'sslmode');
  if (other !== undefined) throw badUrl(`${POSTGRES_URL}, without other parameters`);
  const mode = url.searchParams.get('sslmode');
  if (mode !== null && !/^(disable|allow|prefer|require|verify-ca|verify-full)$/.test(mode)) throw badUrl(POSTGRES_URL);
  return {
    ...{ host: url.hostname.replace(/^\[|\]$/g, ''), port: portOf(url, marked), database },
    tls: mode === 'disable' ? 'off' : 'verify',
    ...userIn(textOf(url.username), textOf(url.password)),
  };
}

/** Port 80 is what a URL of http leaves out. */
const portOf = (url: URL, text: string): number =>
  url.port !== '' ? Number(url.port) : /:80(?:\/|$)/.test(text) ? 80 : 5432;

function textOf(encoded: string): string {
  try {
    return decodeURIComponent(encoded);
  } catch {
    throw badUrl(POSTGRES_URL);
  }
}

const MYSQL_URL = '{{username}}:{{password}}@tcp(host:3306)/database?tls=true';
const MYSQL_USER = /^(?<user>[^:@/]*)(?::(?<password>[\s\S]*))?$/;
const MYSQL_HOST =
  /^tcp\((?:\[(?<six>[0-9A-Fa-f:.]+)\]|(?<host>[A-Za-z0-9.-]+))(?::(?<port>\d{1,5}))?\)\/(?<database>[^/?]*)(?:\?(?<query>.*))?$/;

function mysqlPlace(text: string, ca: string | undefined): Config {
  // A password may have an @ in it: the last one counts.
  const at = text.lastIndexOf('@tcp(');
  const found = MYSQL_HOST.exec(text.slice(at + 1))?.groups;
  const who = MYSQL_USER.exec(text.slice(0, Math.max(at, 0)))?.groups;
  if (!found || !who) throw badUrl(MYSQL_URL);
  const query = new URLSearchParams(found.query ?? '');
  const other = [...query.keys()].find((name) => name !== 'tls' && name !== 'parseTime');
  if (other !== undefined) throw badUrl(`${MYSQL_URL}, without other parameters`);
  const mode = query.get('tls') ?? 'false';
  return {
    ...{ host: found.six ?? found.host, port: Number(found.port ?? 3306), database: found.database || undefined },
    tls: mode === 'false' && ca === undefined ? 'off' : 'verify',
    ...userIn(who.user, who.password),
  };
}

/** As it is shown: with the placeholders, and never with a password. */
export function detailsOf({ kind, config }: Connection): Record<string, unknown> {
  const { host, port, database, tls, ca, username } = config as Record<string, string | number | undefined>;
  const at = String(host).includes(':') ? `[${host}]` : host;
  const shown = defined({ username, ...(kind === 'redis' ? { ca_cert: ca } : { tls_ca: ca }) });
  if (kind === 'redis') return { ...shown, host, port, tls: tls !== 'off' };
  if (kind === 'postgres') {
    const name = encodeURIComponent(String(database));
    const mode = tls === 'off' ? 'disable' : 'verify-full';
    return { ...shown, connection_url: `postgresql://{{username}}:{{password}}@${at}:${port}/${name}?sslmode=${mode}` };
  }
  if (kind === 'mysql') {
    const query = tls === 'off' ? '' : '?tls=true';
    return { ...shown, connection_url: `{{username}}:{{password}}@tcp(${at}:${port})/${database ?? ''}${query}` };
  }
  return { ...config };
}
