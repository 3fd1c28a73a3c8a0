/**
 * database/: credentials that the vault makes at a target and ends, and accounts there whose passwords it changes. A
 * connection is a backend of ours, a role a role, a static role a static account; each keeps one name in both interfaces.
 */
import { VaultError } from '../../errors.ts';
import { type AccountInfo, listAccounts, readAccount } from '../../lease/account.ts';
import { putAccount } from '../../lease/account-put.ts';
import { rotateAccount } from '../../lease/account-rotation.ts';
import { revealAccount } from '../../lease/check-out.ts';
import {
  type BackendInfo,
  listBackends,
  putBackend,
  readBackend,
  reconnectBackend,
} from '../../lease/configuration.ts';
import { takeLease } from '../../lease/issue.ts';
import { deleteAccount, deleteBackend, deleteRole } from '../../lease/removal.ts';
import { leasePathOf, listRoles, putRole, type RoleInfo, readRole } from '../../lease/role.ts';
import { rotateRoot } from '../../lease/root-rotation.ts';
import { ignoreAbsent, orNone } from './absent.ts';
import { type Answer, data, EMPTY, json } from './answer.ts';
import { connectionIn, detailsOf, pluginOf } from './connection.ts';
import { badRequest, saying } from './error.ts';
import { type Fields, isEmpty } from './field.ts';
import { leaseIdOf, secondsFrom } from './lease.ts';
import { listing } from './paging.ts';
import type { Handler, Route, VaultRequest } from './route.ts';
import { settingsOf } from './statement.ts';
import { zeroAsNull } from './token-field.ts';

const MOUNT_TYPE = 'database';

/** A backend that does not serve a role says so in the words of this API. */
async function served<T>(name: string, act: Promise<T>): Promise<T> {
  try {
    return await act;
  } catch (error) {
    const reason = error instanceof VaultError ? error.details?.reason : undefined;
    throw reason === 'role_not_allowed' ? badRequest(`"${name}" is not an allowed role`) : error;
  }
}

const shown = (shape: Record<string, unknown>): Answer => data(json(shape), { mountType: MOUNT_TYPE });

/** Refuses what is asked for and would not be done. */
function refuse(fields: Fields, names: Readonly<Record<string, string>>): void {
  for (const [name, why] of Object.entries(names)) {
    if (!isEmpty(fields.value(name))) throw badRequest(`${name} is not supported: ${why}`);
  }
}

// ---- config -------------------------------------------------------------------------------------------------------

const ALWAYS_TRIED = 'verify_connection: a connection is always tried before it is stored';

async function writeConfig({ vault, call, at, fields }: VaultRequest): Promise<Answer> {
  // What a write keeps of what is there: whoever writes it has to be allowed to read it.
  const before = await orNone(readBackend(vault, call, at.name!));
  const { kind, config } = connectionIn(fields, before);
  const allowed = fields.strings('allowed_roles');
  const allowedRoles =
    allowed === undefined ? (before ? before.allowedRoles : []) : allowed.includes('*') ? null : allowed;
  const times = { defaultTtlSeconds: before?.defaultTtlSeconds, maxTtlSeconds: before?.maxTtlSeconds };
  await putBackend(vault, call, at.name!, { kind, config, allowedRoles, ...nullsOut(times) });
  return (fields.boolean('verify_connection') ?? true) ? EMPTY : { kind: 'envelope', warnings: [ALWAYS_TRIED] };
}

type Some<T> = { [K in keyof T]: Exclude<T[K], null> | undefined };

const nullsOut = <T extends object>(members: T): Some<T> =>
  Object.fromEntries(Object.entries(members).map(([name, value]) => [name, value ?? undefined])) as Some<T>;

async function readConfig({ vault, call, at }: VaultRequest): Promise<Answer> {
  const found: BackendInfo = await readBackend(vault, call, at.name!);
  return shown({
    allowed_roles: found.allowedRoles ?? ['*'],
    connection_details: detailsOf(found),
    password_policy: '',
    plugin_name: pluginOf(found.kind),
    plugin_version: '',
    root_credentials_rotate_statements: [],
    verify_connection: true,
  });
}

const removeConfig: Handler = ({ vault, call, at, fields }) =>
  ignoreAbsent(deleteBackend(vault, call, at.name!, { revoke: fields.boolean('revoke') ?? false, force: false }));

async function reset({ vault, call, at }: VaultRequest): Promise<Answer> {
  await saying(reconnectBackend(vault, call, at.name!), { not_found: `no connection named "${at.name}"` });
  return EMPTY;
}

async function changeRoot({ vault, call, at }: VaultRequest): Promise<Answer> {
  await saying(rotateRoot(vault, call, at.name!), { not_found: `no connection named "${at.name}"` });
  return EMPTY;
}

// ---- roles --------------------------------------------------------------------------------------------------------

const STATEMENTS_CHARS_MAX = 16 * 1024;

/** A text is one of them, whatever commas it has. */
function statementsIn(fields: Fields, name: string): string[] | undefined {
  const value = fields.value(name);
  if (value === undefined) return undefined;
  const list: unknown[] = Array.isArray(value) ? value : [value];
  if (!list.every((one) => typeof one === 'string')) {
    throw badRequest(`Field validation failed: error converting input for field "${name}"`);
  }
  const chars = list.reduce<number>((sum, one) => sum + (one as string).length, 0);
  if (chars > STATEMENTS_CHARS_MAX) throw badRequest(`${name}: expected at most ${STATEMENTS_CHARS_MAX} characters`);
  return list.filter((one) => one !== '') as string[];
}

const ROLE_NOT_KEPT = {
  rollback_statements: 'an account that could not be made whole is ended as one that is revoked',
  credential_config: 'passwords are made by the vault, of 240 random bits',
};
const RENEWAL = /^ALTER\s+(?:ROLE|USER)\s+"\{\{(?:name|username)\}\}"\s+VALID\s+UNTIL\s+'\{\{expiration\}\}';?$/i;

type Written = { readonly creation: string[]; readonly revocation: string[]; readonly renewal: string[] };

const textIn = (role: RoleInfo | undefined): Written | undefined =>
  role?.text == null ? undefined : (JSON.parse(role.text) as Written);

async function writeRole({ vault, call, at, fields }: VaultRequest): Promise<Answer> {
  const type = fields.string('credential_type') ?? 'password';
  if (type !== 'password') throw badRequest("credential_type: only 'password' is supported");
  refuse(fields, ROLE_NOT_KEPT);
  const before = await orNone(readRole(vault, call, at.role!));
  const backend = fields.string('db_name') ?? before?.backend ?? '';
  if (backend === '') throw badRequest('empty database name attribute');
  const renewal = statementsIn(fields, 'renew_statements') ?? textIn(before)?.renewal ?? [];
  if (!renewal.every((statement) => RENEWAL.test(statement.trim()))) {
    throw badRequest('renew_statements: an account that is renewed is given its new end by the vault itself');
  }
  const given = {
    creation: statementsIn(fields, 'creation_statements'),
    revocation: statementsIn(fields, 'revocation_statements'),
  };
  const written = textIn(before);
  const keeps = before && given.creation === undefined && given.revocation === undefined;
  const text = {
    creation: given.creation ?? written?.creation ?? [],
    revocation: given.revocation ?? written?.revocation ?? [],
    renewal,
  };
  const times = { defaultTtlSeconds: fields.duration('default_ttl'), maxTtlSeconds: fields.duration('max_ttl') };
  const wanted = {
    backend,
    settings: keeps ? before.settings : (kind: string) => settingsOf(kind, text),
    text: keeps ? (before.text ?? undefined) : JSON.stringify(text),
    ...nullsOut({
      defaultTtlSeconds:
        times.defaultTtlSeconds === undefined ? before?.defaultTtlSeconds : zeroAsNull(times.defaultTtlSeconds),
      maxTtlSeconds: times.maxTtlSeconds === undefined ? before?.maxTtlSeconds : zeroAsNull(times.maxTtlSeconds),
      leasesMax: before?.leasesMax,
    }),
  };
  await saying(putRole(vault, call, at.role!, wanted), { not_found: `db_name: there is no connection "${backend}"` });
  return EMPTY;
}

async function showRole({ vault, call, at }: VaultRequest): Promise<Answer> {
  const found = await readRole(vault, call, at.role!);
  const written = textIn(found);
  const answer = {
    db_name: found.backend,
    default_ttl: found.defaultTtlSeconds ?? 0,
    max_ttl: found.maxTtlSeconds ?? 0,
    credential_type: 'password',
    credential_config: {},
    creation_statements: written?.creation ?? [],
    revocation_statements: written?.revocation ?? [],
    rollback_statements: [],
    renew_statements: written?.renewal ?? [],
  };
  const native = `what this role does was written by PUT /api/v1/roles/${found.name}, which shows it`;
  return data(json(answer), { mountType: MOUNT_TYPE, ...(written ? {} : { warnings: [native] }) });
}

const removeRole: Handler = ({ vault, call, at, fields }) =>
  ignoreAbsent(deleteRole(vault, call, at.role!, { revoke: fields.boolean('revoke') ?? false }));

const unknown = (role: string) => () => badRequest(`unknown role: ${role}`);

async function creds({ vault, call, at }: VaultRequest): Promise<Answer> {
  const role = await leasePathOf(vault, call, at.role!);
  if (role === undefined) throw unknown(at.role!)();
  const taken = saying(takeLease(vault, call, { role }), { not_found: unknown(at.role!) });
  const { credential, ...lease } = await served(at.role!, taken);
  return data(json(credential), {
    mountType: MOUNT_TYPE,
    leaseId: leaseIdOf(lease),
    renewable: lease.renewable,
    leaseSeconds: secondsFrom(lease.issuedAt, lease.expiresAt),
  });
}

// ---- static roles -------------------------------------------------------------------------------------------------

const STATIC_NOT_KEPT = {
  rotation_schedule: 'use rotation_period',
  rotation_window: 'use rotation_period',
  rotation_statements: 'a password is changed by the vault itself',
  credential_config: 'passwords are made by the vault, of 240 random bits',
  self_managed_password: 'give password',
};

async function writeStaticRole({ vault, call, at, fields }: VaultRequest): Promise<Answer> {
  const type = fields.string('credential_type') ?? 'password';
  if (type !== 'password') throw badRequest("credential_type: only 'password' is supported");
  refuse(fields, STATIC_NOT_KEPT);
  if (fields.boolean('skip_import_rotation') && !fields.has('password')) {
    throw badRequest('skip_import_rotation is not supported without password: the vault has to know one');
  }
  const before = await orNone(readAccount(vault, call, at.role!));
  const [backend, username] = [
    fields.string('db_name') ?? before?.backend,
    fields.string('username') ?? before?.username,
  ];
  if (!backend) throw badRequest('database name is a required field to create or update a static account');
  if (!username) throw badRequest('username is a required field to create a static account');
  const period = fields.duration('rotation_period') ?? before?.periodSeconds ?? 0;
  if (period === 0) throw badRequest('rotation_period is required to create static accounts');
  const password = fields.string('password');
  const kept = nullsOut({ defaultTtlSeconds: before?.defaultTtlSeconds, maxTtlSeconds: before?.maxTtlSeconds });
  const wanted = { ...kept, backend, username, periodSeconds: period, password, endSessions: before?.endSessions };
  const put = saying(putAccount(vault, call, at.role!, wanted), {
    not_found: `db_name: there is no connection "${backend}"`,
  });
  await served(at.role!, put);
  return EMPTY;
}

async function showStaticRole({ vault, call, at }: VaultRequest): Promise<Answer> {
  const found: AccountInfo = await readAccount(vault, call, at.role!);
  return shown({
    db_name: found.backend,
    username: found.username,
    rotation_period: found.periodSeconds ?? 0,
    rotation_statements: [],
    credential_type: 'password',
    last_vault_rotation: found.rotatedAt ?? found.createdAt,
  });
}

const removeStaticRole: Handler = ({ vault, call, at, fields }) =>
  ignoreAbsent(deleteAccount(vault, call, at.role!, { revoke: fields.boolean('revoke') ?? false, force: false }));

async function staticCreds({ vault, call, at }: VaultRequest): Promise<Answer> {
  const revealed = saying(revealAccount(vault, call, at.role!), { not_found: unknown(at.role!) });
  const { account, credential } = await served(at.role!, revealed);
  return shown({
    username: credential.username,
    password: credential.password,
    ttl: account.rotatesInSeconds ?? 0,
    rotation_period: account.periodSeconds ?? 0,
    last_vault_rotation: account.rotatedAt ?? account.createdAt,
  });
}

async function rotateRole({ vault, call, at }: VaultRequest): Promise<Answer> {
  const absent = 'no static role found for role name';
  await served(at.role!, saying(rotateAccount(vault, call, at.role!), { not_found: absent }));
  return EMPTY;
}

const named = ({ name }: { readonly name: string }) => name;

const listRoleNames = listing(({ vault, call }, ask) => listRoles(vault, call, ask), named, MOUNT_TYPE);
const listConfigNames = listing(({ vault, call }, ask) => listBackends(vault, call, ask), named, MOUNT_TYPE);
const listStaticNames = listing(({ vault, call }, ask) => listAccounts(vault, call, ask), named, MOUNT_TYPE);

export const DATABASE_ROUTES: readonly Route[] = [
  { pattern: 'config', verbs: { LIST: listConfigNames } },
  { pattern: 'config/{name}', verbs: { GET: readConfig, POST: writeConfig, DELETE: removeConfig } },
  { pattern: 'reset/{name}', verbs: { POST: reset } },
  { pattern: 'rotate-root/{name}', verbs: { POST: changeRoot } },
  { pattern: 'roles', verbs: { LIST: listRoleNames } },
  { pattern: 'roles/{role}', verbs: { GET: showRole, POST: writeRole, DELETE: removeRole } },
  { pattern: 'creds/{role}', verbs: { GET: creds } },
  { pattern: 'static-roles', verbs: { LIST: listStaticNames } },
  { pattern: 'static-roles/{role}', verbs: { GET: showStaticRole, POST: writeStaticRole, DELETE: removeStaticRole } },
  { pattern: 'static-creds/{role}', verbs: { GET: staticCreds } },
  { pattern: 'rotate-role/{role}', verbs: { POST: rotateRole } },
];
