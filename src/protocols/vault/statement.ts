/**
 * Statements of roles as this API has them, in the settings of ours.
 *
 * There, a role's statements make the account, with `{{name}}`, `{{password}}` and `{{expiration}}` in quotes of their own.
 * Here, the vault makes the account and ends it, quotes for itself, and lets a role add statements to that. So the one
 * that makes the account is read and left out, those that end it are left out, and in the rest a placeholder loses its
 * quotes. What the vault would not do as it is written is refused.
 */
import { badRequest } from './error.ts';

export type Statements = { readonly creation: readonly string[]; readonly revocation: readonly string[] };
type Settings = Readonly<Record<string, unknown>>;

/** The settings of a role at a backend of a kind. */
export function settingsOf(kind: string, { creation, revocation }: Statements): Settings {
  if (kind === 'redis') return { rules: rulesOf(creation, revocation) };
  const dialect = DIALECTS[kind];
  if (!dialect) throw badRequest(`db_name: roles of a backend of the kind ${kind} are made by PUT /api/v1/roles`);
  const [first, ...more] = creation.flatMap(split);
  if (first === undefined) throw badRequest('creation_statements is required');
  const made = dialect.creation(first);
  const written = (statement: string) => dialect.bare(statement, made);
  return {
    ...made,
    statements: more.map(written),
    revocation_statements: revocation
      .flatMap(split)
      .filter((one) => !dialect.ends.test(one))
      .map(written),
  };
}

type Dialect = {
  /** What the statement that makes the account says beside that. */
  readonly creation: (statement: string) => Settings;
  /** Its placeholders without quotes: they bring their own. */
  readonly bare: (statement: string, made: Settings) => string;
  /** What the vault does itself when it ends an account. */
  readonly ends: RegExp;
};

const NAME = String.raw`\{\{(?:name|username)\}\}`;
const PASSWORD = String.raw`'\{\{password\}\}'`;
const EXPIRATION = /'\{\{expiration\}\}'/g;

// ---- PostgreSQL ---------------------------------------------------------------------------------------------------

const POSTGRES_CREATE = new RegExp(String.raw`^CREATE\s+(ROLE|USER)\s+"${NAME}"(?:\s+([\s\S]*))?$`, 'i');
const IDENTIFIER = String.raw`(?:"(?:[^"]|"")+"|[A-Za-z_]\w*)`;
const IDENTIFIERS = new RegExp(IDENTIFIER, 'g');
const POSTGRES_ACCOUNT = new RegExp(`"${NAME}"|${NAME}`, 'g');
/** One option of CREATE ROLE, at its start: those that say what is so anyway, and those that a role of ours has. */
const POSTGRES_OPTION = new RegExp(
  [
    String.raw`(?:WITH|INHERIT|NOSUPERUSER|NOCREATEDB|NOCREATEROLE|NOREPLICATION|NOBYPASSRLS)\b`,
    String.raw`(?<login>LOGIN)\b`,
    String.raw`(?<password>(?:ENCRYPTED\s+)?PASSWORD\s+${PASSWORD})`,
    String.raw`VALID\s+UNTIL\s+'\{\{expiration\}\}'`,
    String.raw`CONNECTION\s+LIMIT\s+(?<limit>\d{1,5})\b`,
    String.raw`IN\s+(?:ROLE|GROUP)\s+(?<groups>${IDENTIFIER}(?:\s*,\s*${IDENTIFIER})*)`,
  ].join('|'),
  'iy',
);

function postgresCreation(statement: string): Settings {
  const refuse = () =>
    badRequest(
      `creation_statements: the first has to be CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL ` +
        `'{{expiration}}', with CONNECTION LIMIT and IN ROLE if need be: the vault makes the role itself`,
    );
  const [, noun = '', options = ''] = POSTGRES_CREATE.exec(statement) ?? [];
  let login = noun.toUpperCase() === 'USER';
  let password = false;
  const settings: Record<string, unknown> = {};
  for (let at = 0; at < options.length; ) {
    POSTGRES_OPTION.lastIndex = at;
    const found = POSTGRES_OPTION.exec(options);
    if (!found) throw refuse();
    const { login: named, password: given, limit, groups } = found.groups!;
    login ||= named !== undefined;
    password ||= given !== undefined;
    if (limit !== undefined) settings.connection_limit = Number(limit);
    if (groups !== undefined) settings.member_of = identifiersIn(groups);
    at += found[0].length;
    at += /^\s*/.exec(options.slice(at))![0].length;
  }
  if (!login || !password) throw refuse();
  return settings;
}

const identifiersIn = (list: string): string[] =>
  [...list.matchAll(IDENTIFIERS)].map(([name]) =>
    name.startsWith('"') ? name.slice(1, -1).replaceAll('""', '"') : name.toLowerCase(),
  );

const postgres: Dialect = {
  creation: postgresCreation,
  bare: (statement) => statement.replace(POSTGRES_ACCOUNT, '{{username}}').replace(EXPIRATION, '{{expiration}}'),
  ends: new RegExp(String.raw`^DROP\s+(?:OWNED\s+BY|(?:ROLE|USER)(?:\s+IF\s+EXISTS)?)\s+"?${NAME}"?$`, 'i'),
};

// ---- MySQL --------------------------------------------------------------------------------------------------------

const MYSQL_HOST = `(?:@(?:'([^']*)'|"([^"]*)"|\`([^\`]*)\`))?`;
const MYSQL_ACCOUNT = `(?:'${NAME}'|"${NAME}"|\`${NAME}\`)${MYSQL_HOST}`;
const MYSQL_ACCOUNTS = new RegExp(MYSQL_ACCOUNT, 'g');
const MYSQL_CREATE = new RegExp(
  String.raw`^CREATE\s+USER\s+${MYSQL_ACCOUNT}\s+IDENTIFIED\s+BY\s+${PASSWORD}(?:\s+WITH\s+MAX_USER_CONNECTIONS\s+(\d{1,5}))?$`,
  'i',
);

const mysql: Dialect = {
  creation: (statement) => {
    const found = MYSQL_CREATE.exec(statement);
    if (!found) {
      throw badRequest(
        "creation_statements: the first has to be CREATE USER '{{name}}'@'%' IDENTIFIED BY '{{password}}', with " +
          'MAX_USER_CONNECTIONS if need be: the vault makes the account itself',
      );
    }
    const [, one, two, three, limit] = found;
    const host = one ?? two ?? three ?? '%';
    return { host, ...(limit === undefined ? {} : { connection_limit: Number(limit) }) };
  },
  bare: (statement, { host }) =>
    statement.replace(MYSQL_ACCOUNTS, (_, one?: string, two?: string, three?: string) => {
      if ((one ?? two ?? three ?? '%') === host) return '{{username}}';
      throw badRequest('creation_statements: the account has another host in one statement than in another');
    }),
  ends: new RegExp(String.raw`^DROP\s+USER(?:\s+IF\s+EXISTS)?\s+${MYSQL_ACCOUNT}$`, 'i'),
};

const DIALECTS: Readonly<Record<string, Dialect>> = { postgres, mysql };

// ---- Redis --------------------------------------------------------------------------------------------------------

/** A list of ACL rules, as JSON text. */
function rulesOf(creation: readonly string[], revocation: readonly string[]): readonly string[] {
  if (revocation.length > 0) throw badRequest('revocation_statements: a user of this database is deleted, and no more');
  const rules = creation.flatMap((text) => listIn(text) ?? [text]);
  return rules.length === 0 ? ['~*', '+@read'] : rules;
}

// ---- lists --------------------------------------------------------------------------------------------------------

/** A JSON list of texts, if it is one. */
function listIn(text: string): string[] | undefined {
  if (!text.trim().startsWith('[')) return undefined;
  try {
    const list: unknown = JSON.parse(text);
    return Array.isArray(list) && list.every((one) => typeof one === 'string') ? list : undefined;
  } catch {
    return undefined;
  }
}

/** What hides a semicolon: quotes, comments, and texts between dollars. */
const PIECE = /'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|(\$\w*\$)[\s\S]*?\1|--[^\n]*|\/\*[\s\S]*?\*\/|;|[\s\S]/g;

function split(text: string): string[] {
  const list = listIn(text);
  if (list) return list.flatMap(split);
  const statements = [''];
  for (const [piece] of text.matchAll(PIECE)) {
    if (piece === ';') statements.push('');
    else statements[statements.length - 1] += piece;
  }
  return statements.map((one) => one.trim()).filter((one) => one !== '');
}
