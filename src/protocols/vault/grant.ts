/**
 * What each path of this API means in the vault's own terms: the one table that policies are translated by, and that
 * questions about capabilities are answered by.
 *
 *     needs    every one of these capabilities
 *     actions  what they are together, asked about `noun:` and what stands in the place of `{…}`
 *
 * `create` and `update` are one act here: a capability that clients grant apart is only granted with the other.
 */
import type { Action } from '../../policy/action.ts';
import type { Mount } from '../../secret/mount.ts';

export const CAPABILITIES = ['create', 'read', 'update', 'patch', 'delete', 'list', 'sudo', 'deny'] as const;
export type Capability = (typeof CAPABILITIES)[number];

export type Grant = {
  /** `sys/policies/acl/{name}`; `{path}` is one segment or more. */
  readonly pattern: string;
  readonly needs: readonly Capability[];
  readonly actions: readonly Action[];
  /** `policy:{name}`, `secret:{path}`, or a resource without a place. */
  readonly resource: string;
  /** The resources are what lies directly under the path. */
  readonly lists?: true;
};

const WRITE = ['create', 'update'] as const;

const grant = (
  pattern: string,
  needs: readonly Capability[] | Capability,
  actions: readonly Action[] | Action,
  resource: string,
  more: Pick<Grant, 'lists'> = {},
): Grant => ({
  pattern,
  needs: typeof needs === 'string' ? [needs] : needs,
  actions: typeof actions === 'string' ? [actions] : actions,
  resource,
  ...more,
});

/** A mount's own part of the table. */
function grantsOf({ path, prefix, version }: Mount): Grant[] {
  const under = prefix === '' ? '' : `${prefix}/`;
  const secret = `secret:${under}{path}`;
  const root = `secret:${under}*`;
  if (version === 1) {
    return [
      grant(`${path}/{path}`, 'read', 'secret.read', secret),
      grant(`${path}/{path}`, WRITE, 'secret.write', secret),
      grant(`${path}/{path}`, 'delete', 'secret.destroy', secret),
      grant(`${path}/{path}`, 'list', 'secret.list', secret, { lists: true }),
      grant(path, 'list', 'secret.list', root),
    ];
  }
  return [
    grant(`${path}/data/{path}`, 'read', 'secret.read', secret),
    grant(`${path}/data/{path}`, WRITE, 'secret.write', secret),
    grant(`${path}/data/{path}`, [...WRITE, 'patch'], 'secret.write', secret),
    grant(`${path}/data/{path}`, 'delete', 'secret.delete', secret),
    grant(`${path}/delete/{path}`, 'update', 'secret.delete', secret),
    grant(`${path}/undelete/{path}`, 'update', 'secret.undelete', secret),
    grant(`${path}/destroy/{path}`, 'update', 'secret.destroy', secret),
    grant(`${path}/subkeys/{path}`, 'read', 'secret.subkeys', secret),
    grant(`${path}/metadata/{path}`, 'read', ['secret.metadata-read', 'secret.history'], secret),
    grant(`${path}/metadata/{path}`, WRITE, 'secret.metadata-write', secret),
    grant(`${path}/metadata/{path}`, 'delete', 'secret.destroy', secret),
    grant(`${path}/metadata/{path}`, 'list', 'secret.list', secret, { lists: true }),
    grant(`${path}/metadata`, 'list', 'secret.list', root),
    grant(`${path}/config`, 'read', 'mount.read', `mount:${path}`),
    grant(`${path}/config`, WRITE, 'mount.write', `mount:${path}`),
  ];
}

const transit = (verb: string, action: Action, more = ''): Grant =>
  grant(`transit/${verb}/{name}${more}`, 'update', action, 'transit:{name}');

/** The parts of a role at paths of their own. */
export const APPROLE_PARTS = [
  ...(['policies', 'period', 'token-ttl', 'token-max-ttl', 'token-num-uses', 'token-bound-cidrs'] as const),
  ...(['bind-secret-id', 'local-secret-ids', 'secret-id-ttl', 'secret-id-num-uses', 'secret-id-bound-cidrs'] as const),
  'bound-cidr-list' as const,
];

const role = 'auth/approle/role/{name}';
const APPROLE: readonly Grant[] = [
  grant('auth/approle/role', 'list', 'service.list', 'service:*'),
  grant(role, 'read', 'service.read', 'service:{name}'),
  grant(role, WRITE, 'service.write', 'service:{name}'),
  grant(role, 'delete', 'service.delete', 'service:{name}'),
  ...['role-id', ...APPROLE_PARTS].flatMap((part) => [
    grant(`${role}/${part}`, 'read', 'service.read', 'service:{name}'),
    grant(`${role}/${part}`, 'update', 'service.write', 'service:{name}'),
    ...(part === 'role-id' ? [] : [grant(`${role}/${part}`, 'delete', 'service.write', 'service:{name}')]),
  ]),
  grant(`${role}/secret-id`, 'update', 'service.issue', 'service:{name}'),
  grant(`${role}/secret-id`, 'list', 'service.read', 'service:{name}'),
  ...['secret-id', 'secret-id-accessor'].flatMap((by) => [
    grant(`${role}/${by}/lookup`, 'update', 'service.read', 'service:{name}'),
    grant(`${role}/${by}/destroy`, 'update', 'service.revoke', 'service:{name}'),
    grant(`${role}/${by}/destroy`, 'delete', 'service.revoke', 'service:{name}'),
  ]),
];

const JWT_AND_CERT: readonly Grant[] = [
  grant('auth/jwt/config', 'read', 'issuer.read', 'issuer:jwt'),
  grant('auth/jwt/config', WRITE, 'issuer.write', 'issuer:jwt'),
  grant('auth/jwt/role', 'list', 'login-role.list', 'login-role:*'),
  grant('auth/jwt/role/{name}', 'read', 'login-role.read', 'login-role:{name}'),
  grant('auth/jwt/role/{name}', WRITE, 'login-role.write', 'login-role:{name}'),
  grant('auth/jwt/role/{name}', 'delete', 'login-role.delete', 'login-role:{name}'),
  grant('auth/cert/config', 'read', 'cert-role.list', 'cert-role:*'),
  grant('auth/cert/config', WRITE, 'cert-role.list', 'cert-role:*'),
  grant('auth/cert/certs', 'list', 'cert-role.list', 'cert-role:*'),
  ...(['read', 'write', 'delete'] as const).flatMap((verb) => {
    const needs = verb === 'write' ? WRITE : verb;
    const at = 'auth/cert/certs/{name}';
    return [
      grant(at, needs, `cert-role.${verb}`, 'cert-role:{name}'),
      // A write keeps what is set of revocation lists, so it reads that first.
      grant(
        at,
        needs,
        verb === 'write' ? ['authority.read', 'authority.write'] : `authority.${verb}`,
        'authority:{name}',
      ),
    ];
  }),
];

const FIXED: readonly Grant[] = [
  ...APPROLE,
  ...JWT_AND_CERT,
  ...['sys/policies/acl', 'sys/policy'].flatMap((at) => [
    grant(at, 'list', 'policy.list', 'policy:*'),
    grant(`${at}/{name}`, 'read', 'policy.read', 'policy:{name}'),
    grant(`${at}/{name}`, WRITE, 'policy.write', 'policy:{name}'),
    grant(`${at}/{name}`, 'delete', 'policy.delete', 'policy:{name}'),
  ]),
  grant('sys/policy', 'read', 'policy.list', 'policy:*'),
  grant('sys/mounts', 'read', 'mount.list', 'mount:**'),
  grant('sys/auth', 'read', 'mount.list', 'mount:**'),
  grant('sys/auth/{name}', 'read', 'mount.list', 'mount:**'),
  grant('sys/auth/{name}/tune', 'read', 'mount.list', 'mount:**'),
  grant('sys/key-status', 'read', 'key.list', 'key:data'),
  grant('sys/mounts/{path}/tune', 'read', 'mount.read', 'mount:{path}'),
  grant('sys/mounts/{path}/tune', WRITE, 'mount.write', 'mount:{path}'),
  grant('sys/mounts/{path}', 'read', 'mount.read', 'mount:{path}'),
  grant('sys/mounts/{path}', WRITE, 'mount.write', 'mount:{path}'),
  grant('sys/mounts/{path}', 'delete', 'mount.delete', 'mount:{path}'),
  grant('sys/seal', ['update', 'sudo'], 'seal.seal', 'seal:vault'),
  grant('sys/tools/random', 'update', 'transit.random', 'transit:random'),
  grant('sys/tools/random/{path}', 'update', 'transit.random', 'transit:random'),
  grant('database/creds/{name}', 'read', 'lease.create', 'lease:*/{name}'),
  grant('database/roles', 'list', 'role.read', 'role:*'),
  grant('database/roles/{name}', 'read', 'role.read', 'role:{name}'),
  // A write keeps what it does not say, so it reads that first.
  grant('database/roles/{name}', WRITE, ['role.read', 'role.write'], 'role:{name}'),
  grant('database/roles/{name}', 'delete', 'role.delete', 'role:{name}'),
  grant('database/config', 'list', 'backend.read', 'backend:*'),
  grant('database/config/{name}', 'read', 'backend.read', 'backend:{name}'),
  grant('database/config/{name}', WRITE, ['backend.read', 'backend.write'], 'backend:{name}'),
  grant('database/config/{name}', 'delete', 'backend.delete', 'backend:{name}'),
  grant('database/rotate-root/{name}', 'update', 'backend.rotate', 'backend:{name}'),
  grant('database/reset/{name}', 'update', 'backend.write', 'backend:{name}'),
  grant('database/static-roles', 'list', 'account.read', 'account:*'),
  grant('database/static-roles/{name}', 'read', 'account.read', 'account:{name}'),
  grant('database/static-roles/{name}', WRITE, ['account.read', 'account.write'], 'account:{name}'),
  grant('database/static-roles/{name}', 'delete', 'account.delete', 'account:{name}'),
  grant('database/static-creds/{name}', 'read', 'account.reveal', 'account:{name}'),
  grant('database/rotate-role/{name}', 'update', 'account.rotate', 'account:{name}'),
  grant('sys/leases/lookup', 'update', 'lease.read', 'lease:**'),
  grant('sys/leases/renew', 'update', 'lease.renew', 'lease:**'),
  grant('sys/leases/revoke', 'update', 'lease.revoke', 'lease:**'),
  grant('sys/leases/lookup/{path}', ['list', 'sudo'], 'lease.list', 'lease:**'),
  grant('sys/leases/revoke-prefix/{path}', ['update', 'sudo'], 'lease.revoke', 'lease:**'),
  grant('sys/leases/revoke-force/{path}', ['update', 'sudo'], 'lease.force', 'lease:**'),
  grant('auth/token/create', 'update', 'token.create', 'token:child'),
  grant('auth/token/create-orphan', ['update', 'sudo'], ['token.create', 'token.orphan'], 'token:child'),
  // Whoever is let make tokens by a role has what the role says: also that they outlive their maker.
  grant('auth/token/create/{name}', 'update', 'token.create', 'token:role/{name}'),
  grant('auth/token/create/{name}', 'update', 'token.orphan', 'token:role/{name}'),
  grant('auth/token/roles', 'list', 'token-role.list', 'token-role:*'),
  grant('auth/token/roles/{name}', 'read', 'token-role.read', 'token-role:{name}'),
  grant('auth/token/roles/{name}', WRITE, 'token-role.write', 'token-role:{name}'),
  grant('auth/token/roles/{name}', 'delete', 'token-role.delete', 'token-role:{name}'),
  grant('auth/token/lookup', 'update', 'token.read', 'token:*'),
  grant('auth/token/lookup-accessor', 'update', 'token.read', 'token:*'),
  grant('sys/capabilities-accessor', 'update', 'token.read', 'token:*'),
  grant('auth/token/renew-accessor', 'update', 'token.renew', 'token:*'),
  grant('auth/token/revoke', 'update', 'token.revoke', 'token:*'),
  grant('auth/token/revoke-accessor', 'update', 'token.revoke', 'token:*'),
  grant('auth/token/revoke-orphan', ['update', 'sudo'], ['token.revoke', 'token.orphan'], 'token:*'),
  grant('auth/token/accessors', ['list', 'sudo'], 'token.list', 'token:*'),
  grant('auth/userpass/users', 'list', 'user.list', 'user:*'),
  grant('auth/userpass/users/{name}', 'read', 'user.read', 'user:{name}'),
  grant('auth/userpass/users/{name}', WRITE, 'user.write', 'user:{name}'),
  grant('auth/userpass/users/{name}', 'delete', 'user.delete', 'user:{name}'),
  grant('auth/userpass/users/{name}/password', 'update', 'user.write', 'user:{name}'),
  grant('auth/userpass/users/{name}/policies', 'update', 'user.write', 'user:{name}'),
  grant('transit/keys', 'list', 'transit.list', 'transit:*'),
  grant('transit/keys/{name}', 'read', 'transit.read', 'transit:{name}'),
  grant('transit/keys/{name}', WRITE, 'transit.create', 'transit:{name}'),
  grant('transit/keys/{name}', 'delete', 'transit.delete', 'transit:{name}'),
  grant('transit/keys/{name}/config', 'update', 'transit.configure', 'transit:{name}'),
  grant('transit/keys/{name}/rotate', 'update', 'transit.rotate', 'transit:{name}'),
  grant('transit/keys/{name}/trim', 'update', 'transit.trim', 'transit:{name}'),
  ...[
    transit('encrypt', 'transit.encrypt'),
    transit('decrypt', 'transit.decrypt'),
    transit('rewrap', 'transit.rewrap'),
  ],
  ...[transit('sign', 'transit.sign'), transit('sign', 'transit.sign', '/{path}')],
  ...[transit('verify', 'transit.verify'), transit('verify', 'transit.verify', '/{path}')],
  ...[transit('hmac', 'transit.hmac'), transit('hmac', 'transit.hmac', '/{path}')],
  grant('transit/datakey/plaintext/{name}', 'update', 'transit.datakey', 'transit:{name}'),
  grant('transit/datakey/wrapped/{name}', 'update', 'transit.encrypt', 'transit:{name}'),
  grant('transit/export/encryption-key/{name}', 'read', 'transit.export', 'transit:{name}'),
  grant('transit/export/signing-key/{name}', 'read', 'transit.export', 'transit:{name}'),
  grant('transit/export/hmac-key/{name}', 'read', 'transit.export', 'transit:{name}'),
  grant('transit/hash', 'update', 'transit.hash', 'transit:hash'),
  grant('transit/hash/{name}', 'update', 'transit.hash', 'transit:hash'),
  grant('transit/random', 'update', 'transit.random', 'transit:random'),
  grant('transit/random/{path}', 'update', 'transit.random', 'transit:random'),
];

/** The table of a tenant. */
export const grantsFor = (mounts: readonly Mount[]): readonly Grant[] => [...mounts.flatMap(grantsOf), ...FIXED];

/** Where something is served that no mount has to be made for. */
export const FIXED_PLACES: ReadonlySet<string> = new Set([
  'sys',
  'auth',
  'identity',
  'cubbyhole',
  'transit',
  'database',
]);

/** What every token may, whatever its policies: for whom nothing is looked up. */
export const OF_EVERY_TOKEN: readonly { readonly pattern: string; readonly capabilities: readonly Capability[] }[] = [
  { pattern: 'auth/token/lookup-self', capabilities: ['read', 'update'] },
  { pattern: 'auth/token/renew-self', capabilities: ['update'] },
  { pattern: 'auth/token/revoke-self', capabilities: ['update'] },
  { pattern: 'auth/token/renew', capabilities: ['update'] },
  { pattern: 'sys/capabilities-self', capabilities: ['update'] },
  { pattern: 'sys/internal/ui/mounts/{path}', capabilities: ['read'] },
  { pattern: 'sys/internal/ui/resultant-acl', capabilities: ['read'] },
  { pattern: 'sys/tools/hash', capabilities: ['update'] },
  { pattern: 'sys/tools/hash/{name}', capabilities: ['update'] },
  { pattern: 'sys/wrapping/lookup', capabilities: ['update'] },
  { pattern: 'sys/wrapping/unwrap', capabilities: ['update'] },
  { pattern: 'sys/wrapping/wrap', capabilities: ['update'] },
  { pattern: 'cubbyhole/{path}', capabilities: ['create', 'delete', 'list', 'read', 'update'] },
];
