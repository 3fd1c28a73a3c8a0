/**
 * Every act that a policy can allow or deny, as one table.
 *
 * An action is `family.verb`; the family is what `family.*` in a policy stands for. `noun` is the kind of resource that
 * the action is asked about: `secret.read` is asked about `secret:<path>`, `root-key.rotate` about `key:root`. The set
 * is closed: a policy that names anything else is refused, so a misspelt deny can never be stored and do nothing.
 * Names are on the wire, in stored policies and in audit entries; they are never renamed.
 */

export type ActionFacts = {
  /** The kind of resource it is asked about: the part before the colon. */
  readonly noun: string;
  /** One sentence for people. */
  readonly about: string;
  /** Only meaningful in the `system` tenant; the gate refuses it anywhere else. */
  readonly system?: true;
  /** Hands out a stored or issued secret, so key-admin and auditor never hold it. */
  readonly reveals?: true;
  /** A rule may let it wait for an approval: what it does is bound to the one thing that was approved. */
  readonly approvable?: true;
};

const TABLE = {
  // secret:<path>
  'secret.read': { noun: 'secret', about: 'Read the value of a secret.', reveals: true, approvable: true },
  'secret.list': { noun: 'secret', about: 'See the names of secrets in a listing.' },
  'secret.write': { noun: 'secret', about: 'Write a new version of a secret, or move one here.' },
  'secret.delete': { noun: 'secret', about: 'Delete versions of a secret so that they can be undeleted.' },
  'secret.undelete': { noun: 'secret', about: 'Bring deleted versions of a secret back.' },
  'secret.destroy': { noun: 'secret', about: 'Destroy the ciphertext of versions for good.', approvable: true },
  'secret.history': { noun: 'secret', about: 'List the versions of a secret without their values.' },
  'secret.metadata-read': { noun: 'secret', about: 'Read the metadata and settings of a secret.' },
  'secret.metadata-write': { noun: 'secret', about: 'Change the metadata and settings of a secret.' },
  'secret.subkeys': { noun: 'secret', about: 'See the keys of a secret’s data without their values.' },
  'secret.rotator-read': { noun: 'secret', about: 'See how and when a secret rotates by itself.' },
  'secret.rotator-write': { noun: 'secret', about: 'Let a secret rotate by itself, or change how.' },
  'secret.rotate': { noun: 'secret', about: 'Let a secret that has a rotator rotate now.' },
  // mount:<path>
  'mount.list': { noun: 'mount', about: 'List the mounts.' },
  'mount.read': { noun: 'mount', about: 'Read a mount and the settings of its secrets.' },
  'mount.write': { noun: 'mount', about: 'Create a mount, or change the settings of its secrets.' },
  'mount.delete': { noun: 'mount', about: 'Remove a mount that has no secrets.' },
  // user:<name>
  'user.list': { noun: 'user', about: 'List users.' },
  'user.read': { noun: 'user', about: 'Read a user, without the password.' },
  'user.write': { noun: 'user', about: 'Create a user, or change its policies, state or password.' },
  'user.delete': { noun: 'user', about: 'Delete a user and end its tokens.' },
  'user.unlock': { noun: 'user', about: 'Clear the failed logins of a user.' },
  'user.totp-remove': { noun: 'user', about: 'Take the second factor of another user away and end its tokens.' },
  // service:<name>
  'service.list': { noun: 'service', about: 'List service accounts.' },
  'service.read': { noun: 'service', about: 'Read a service account and the names of its client secrets.' },
  'service.write': { noun: 'service', about: 'Create a service account, or change its policies or state.' },
  'service.delete': { noun: 'service', about: 'Delete a service account and end its tokens.' },
  'service.issue': { noun: 'service', about: 'Make a client secret of a service account.', reveals: true },
  'service.revoke': { noun: 'service', about: 'End a client secret of a service account and its tokens.' },
  // issuer:<name>, login-role:<name>
  'issuer.list': { noun: 'issuer', about: 'List the issuers of signed tokens that logins are taken from.' },
  'issuer.read': { noun: 'issuer', about: 'Read an issuer of signed tokens.' },
  'issuer.write': {
    noun: 'issuer',
    about: 'Create or change an issuer: whoever it vouches for may then log in by a role.',
  },
  'issuer.delete': { noun: 'issuer', about: 'Delete an issuer, and the accounts that it vouches for.' },
  'login-role.list': { noun: 'login-role', about: 'List login roles.' },
  'login-role.read': { noun: 'login-role', about: 'Read a login role.' },
  'login-role.write': { noun: 'login-role', about: 'Create or change what a proven identity may do.' },
  'login-role.delete': { noun: 'login-role', about: 'Delete a login role and end its tokens.' },
  // authority:<name>, cert-role:<name>
  'authority.list': { noun: 'authority', about: 'List the authorities whose client certificates are believed.' },
  'authority.read': { noun: 'authority', about: 'Read an authority and its revocation lists.' },
  'authority.write': { noun: 'authority', about: 'Create or change an authority, or give its revocation list.' },
  'authority.delete': { noun: 'authority', about: 'Delete an authority.' },
  'cert-role.list': { noun: 'cert-role', about: 'List what client certificates give.' },
  'cert-role.read': { noun: 'cert-role', about: 'Read a certificate role.' },
  'cert-role.write': { noun: 'cert-role', about: 'Create or change a certificate role.' },
  'cert-role.delete': { noun: 'cert-role', about: 'Delete a certificate role and end what it gave.' },
  // group:<name>
  'group.list': { noun: 'group', about: 'List groups.' },
  'group.read': { noun: 'group', about: 'Read a group and who is in it.' },
  'group.write': { noun: 'group', about: 'Create a group, or change its policies or members.' },
  'group.delete': { noun: 'group', about: 'Delete a group.' },
  // policy:<name>
  'policy.list': { noun: 'policy', about: 'List policies.' },
  'policy.read': { noun: 'policy', about: 'Read a policy.' },
  'policy.write': { noun: 'policy', about: 'Create or change a policy.' },
  'policy.delete': { noun: 'policy', about: 'Delete a policy.' },
  'policy.explain': { noun: 'user', about: 'Ask what somebody else may do, and by which rule.' },
  // approval:<id>
  'approval.list': { noun: 'approval', about: 'See what others have asked approval for.' },
  // token:<accessor>, token:child, token:role/<name>
  'token.create': { noun: 'token', about: 'Create a token that is no stronger than its maker.' },
  'token.list': { noun: 'token', about: 'List the tokens of the tenant, never to use them.' },
  'token.orphan': {
    noun: 'token',
    about: 'Create a token that outlives its maker, or leave those under one that ends.',
  },
  'token.renew': { noun: 'token', about: 'Renew a token, by its accessor.' },
  'token.read': { noun: 'token', about: 'Read what a token is, by its accessor.' },
  'token.revoke': { noun: 'token', about: 'End a token, by its accessor.' },
  // token-role:<name>
  'token-role.list': { noun: 'token-role', about: 'List token roles.' },
  'token-role.read': { noun: 'token-role', about: 'Read a token role.' },
  'token-role.write': { noun: 'token-role', about: 'Create or change a token role, which narrows tokens made by it.' },
  'token-role.delete': { noun: 'token-role', about: 'Delete a token role: its tokens are renewed no more.' },
  // key:data
  'key.list': { noun: 'key', about: 'List the versions of the data key, never their bytes.' },
  'key.rotate': { noun: 'key', about: 'Make a new data key version and re-encrypt under it.', approvable: true },
  'key.destroy': { noun: 'key', about: 'Destroy a data key version that nothing depends on.', approvable: true },
  // audit:log
  'audit.read': { noun: 'audit', about: 'Read, export and prove the audit log.' },
  'audit.read-deleted': { noun: 'audit', about: 'Read the log of a tenant that was deleted.', system: true },
  'audit.sign': { noun: 'audit', about: 'Have a checkpoint of the audit log signed.' },
  'audit.retain': { noun: 'audit', about: 'Set how long the lines of the audit log are kept.' },
  // job:<id>
  'job.list': { noun: 'job', about: 'List background jobs.' },
  'job.read': { noun: 'job', about: 'Read the progress of a background job.' },
  'job.cancel': { noun: 'job', about: 'Cancel a background job.' },
  'job.resume': { noun: 'job', about: 'Go on with a background job that was cancelled or failed.' },
  // lease:<path>
  'lease.create': { noun: 'lease', about: 'Take a lease: a credential or access to one secret.', reveals: true },
  'lease.list': { noun: 'lease', about: 'List leases.' },
  'lease.read': { noun: 'lease', about: 'Read a lease, without its credential.' },
  'lease.renew': { noun: 'lease', about: 'Renew a lease.' },
  'lease.revoke': { noun: 'lease', about: 'End a lease and its credential.' },
  'lease.force': { noun: 'lease', about: 'Drop a lease although its credential may still work.' },
  // backend:<name>, role:<name>
  'backend.read': { noun: 'backend', about: 'Read a backend, without its credentials.' },
  'backend.write': { noun: 'backend', about: 'Create or change a backend.' },
  'backend.rotate': { noun: 'backend', about: 'Change the password that a backend itself logs in with.' },
  'backend.delete': { noun: 'backend', about: 'Delete a backend.' },
  'role.read': { noun: 'role', about: 'Read a role.' },
  'role.write': { noun: 'role', about: 'Create or change a role.' },
  'role.delete': { noun: 'role', about: 'Delete a role.' },
  // account:<name>
  'account.read': { noun: 'account', about: 'Read a static account, without its password.' },
  'account.write': { noun: 'account', about: 'Create or change a static account.' },
  'account.delete': { noun: 'account', about: 'Delete a static account; at its target it stays as it is.' },
  'account.rotate': { noun: 'account', about: 'Change the password of a static account now.' },
  'account.check-out': { noun: 'account', about: 'Have a static account alone, as a lease.', reveals: true },
  'account.reveal': { noun: 'account', about: 'Read the current password of a static account.', reveals: true },
  // sweeper:leases
  'sweeper.read': { noun: 'sweeper', about: 'See whether leases expire, or wait for a confirmed clock.', system: true },
  'sweeper.confirm': { noun: 'sweeper', about: 'Confirm the time after a jump, so that leases expire.', system: true },
  // transit:<key>; transit:random, transit:hash and transit:seal for what takes no key
  'transit.list': { noun: 'transit', about: 'List named keys.' },
  'transit.read': { noun: 'transit', about: 'Read the settings and the public halves of a named key.' },
  'transit.create': { noun: 'transit', about: 'Create a named key.' },
  'transit.configure': { noun: 'transit', about: 'Change the settings of a named key.' },
  'transit.rotate': { noun: 'transit', about: 'Make a new version of a named key.' },
  'transit.trim': { noun: 'transit', about: 'Destroy old versions of a named key.' },
  'transit.delete': { noun: 'transit', about: 'Delete a named key, and all that it encrypted with it.' },
  'transit.export': { noun: 'transit', about: 'Export the versions of an exportable named key.', reveals: true },
  'transit.encrypt': { noun: 'transit', about: 'Encrypt with a named key.' },
  'transit.decrypt': { noun: 'transit', about: 'Decrypt with a named key.', reveals: true },
  'transit.rewrap': { noun: 'transit', about: 'Move a ciphertext to a newer version of its named key.' },
  'transit.datakey': { noun: 'transit', about: 'Have a new key, readable and under a named key.', reveals: true },
  'transit.sign': { noun: 'transit', about: 'Sign with a named key.' },
  'transit.verify': { noun: 'transit', about: 'Verify a signature or HMAC of a named key.' },
  'transit.hmac': { noun: 'transit', about: 'Compute an HMAC with a named key.' },
  'transit.password-hash': { noun: 'transit', about: 'Hash a password under a named key as its pepper.' },
  'transit.password-verify': { noun: 'transit', about: 'Verify a password against its hash under a named key.' },
  'transit.seal': { noun: 'transit', about: 'Encrypt to a public key that the caller names.' },
  'transit.hash': { noun: 'transit', about: 'Compute a hash.' },
  'transit.random': { noun: 'transit', about: 'Have random bytes.' },
  // tenant:<name>
  'tenant.list': { noun: 'tenant', about: 'List tenants.', system: true },
  'tenant.create': { noun: 'tenant', about: 'Create a tenant.', system: true },
  'tenant.read': { noun: 'tenant', about: 'Read a tenant, without anything that it holds.', system: true },
  'tenant.update': { noun: 'tenant', about: 'Change, suspend or resume a tenant.', system: true },
  'tenant.unlock': { noun: 'tenant', about: 'Let the last administrator of a tenant in again.', system: true },
  'tenant.delete': { noun: 'tenant', about: 'Delete a tenant, its data keys first.', system: true },
  // key:root
  'root-key.list': { noun: 'key', about: 'List the versions of the root key, never their bytes.', system: true },
  'root-key.rotate': {
    noun: 'key',
    about: 'Make a new root key and wrap every key under it.',
    system: true,
    approvable: true,
  },
  // key:log
  'pepper.list': { noun: 'key', about: 'List the versions of the pepper, and who depends on each.', system: true },
  'pepper.rotate': { noun: 'key', about: 'Make a new pepper for all passwords.', system: true },
  'pepper.destroy': { noun: 'key', about: 'Destroy an old pepper, ending passwords under it if asked.', system: true },
  'log-key.rotate': { noun: 'key', about: 'Make a new key that signs the checkpoints of every log.', system: true },
  // seal:vault
  'seal.read': { noun: 'seal', about: 'Read the state of the seal.', system: true },
  'seal.seal': { noun: 'seal', about: 'Seal the vault.', system: true },
  'seal.migrate': { noun: 'seal', about: 'Move the root key to another seal.', system: true },
} as const satisfies Readonly<Record<string, ActionFacts>>;

export type Action = keyof typeof TABLE;

export const ACTIONS: Readonly<Record<Action, ActionFacts>> = TABLE;

/**
 * What people and machines do to their own login, and to the leases that they took with it. No policy decides these
 * (whoever holds a token may end it); they are names in audit entries only, and `auth.*` in a policy is refused.
 */
export const AUTH_ACTIONS = [
  'auth.login',
  'auth.self',
  'auth.renew',
  'auth.logout',
  'auth.password',
  'auth.cubbyhole',
  'auth.wrap',
  'auth.unwrap',
  'auth.lease',
  'auth.elevate',
  'auth.totp-read',
  'auth.totp-enrol',
  'auth.totp-confirm',
  'auth.totp-remove',
  'auth.recovery-codes',
  'auth.session-list',
  'auth.session-end',
] as const;

/**
 * What the rule that asks for an approval decides itself: who is under it may ask, who holds its policy may answer. And
 * what everybody may ask about themselves. Names in audit entries only.
 */
const OWN_ACTIONS = [
  'approval.request',
  'approval.read',
  'approval.approve',
  'approval.deny',
  'approval.cancel',
  'policy.explain-self',
] as const;

export type AuthAction = (typeof AUTH_ACTIONS)[number] | (typeof OWN_ACTIONS)[number];

export const ACTION_NAMES = Object.keys(ACTIONS) as readonly Action[];

export const NOUNS: ReadonlySet<string> = new Set(ACTION_NAMES.map((name) => ACTIONS[name].noun));

/** The part before the dot, `secret` of `secret.read`: what `secret.*` in a policy stands for. */
export function familyOf(action: Action): string {
  return action.slice(0, action.indexOf('.'));
}
