/**
 * Named points at which a test ends the process, to show that nothing is lost there.
 *
 * A point costs one comparison while nobody asks for it, and nothing but a test's own entry script ever asks: no
 * setting, request or message of the outside reaches `atKillpoints`. The list is closed and published in SECURITY.md;
 * a test fails when a point of it has no case, or stands in the code and not in the list.
 */

export const KILLPOINTS = [
  // A new data key version, in one transaction.
  'data-key.demoted', // the version before opens only
  'data-key.inserted', // the new version's row and material are there
  'data-key.committed',
  // A re-encryption job.
  'reencrypt.claimed', // a node has taken the job
  'reencrypt.read', // a batch is locked and in memory
  'reencrypt.updated', // a batch is written, not committed
  'reencrypt.committed', // a batch is durable, its progress not yet
  'reencrypt.progressed', // the progress is durable
  'reencrypt.passed', // no row is left under an old version
  'reencrypt.material-deleted', // an old version's bytes are deleted, not committed
  'reencrypt.concluded', // states and report are written, not committed
  'reencrypt.finished',
  // A new root key, in one transaction.
  'root-key.wrapped', // the new root key is wrapped by the seal, nothing is stored
  'root-key.retired',
  'root-key.inserted',
  'root-key.rewrapping', // some keys are under the new version
  'root-key.rewrapped', // all are
  'root-key.destroyed', // the old version's bytes are deleted, not committed
  'root-key.committed',
  // A migration to another seal, in one transaction around that of a new root key.
  'seal.made', // the new seal is made, nothing depends on it
  'seal.inserted',
  'seal.replaced', // the old seal is deleted, not committed
  'seal.migrated',
  // Sealing and unsealing.
  'seal.sealed', // every node is to wipe its keys, none has
  'unseal.offered', // what was brought opens the seal, nothing is recorded
  'unseal.recorded',
  // A new pepper, in one transaction.
  'pepper.retired',
  'pepper.inserted',
  'pepper.committed',
  // The deletion of a tenant.
  'tenant-delete.marked',
  'tenant-delete.keys-destroyed',
  'tenant-delete.committed', // nothing of it can be read any more, every row is there
  'tenant-delete.removing', // some of its rows are gone
  'tenant-delete.removed', // all but the tenant's own are gone
  'tenant-delete.finished',
  // A lease of a dynamic credential: taking, renewing, ending it.
  'lease.pending', // the row is there, nothing is outside
  'lease.issued', // the credential is outside, the row does not know
  'lease.active', // it does, the holder has not been told
  'lease.renewing', // the row lasts longer, the credential does not yet
  'lease.renewed',
  'lease.condemned', // it is to be revoked, nobody has begun
  'lease.claimed', // a node has taken it
  'lease.revoked', // the credential is gone, the row does not know
  'lease.ended',
  // The rotation of a static account's password, and its check-out.
  'account.checked-out', // the lease is there, the holder has not been told
  'account.proposed', // both passwords are in the envelope, the target has the current one
  'account.changed', // the target has the next one, nobody has proven it
  'account.proven', // a login has proven it, the row does not know
  'account.rotated',
  // Changing the password that a backend itself logs in with.
  'backend.proposed', // both passwords are in the envelope, the target has the current one
  'backend.changed', // the target has the next one, nobody has proven it
  'backend.proven', // a login has proven it, the row does not know
  'backend.rotated',
  // The rotation of a stored secret.
  'rotator.claimed', // a node has taken it, nothing is made
  'rotator.made', // the next value is made, or asked for, nothing is stored
  'rotator.stored',
  // Every change and its entry.
  'audit.locked', // the log's head is locked, nothing is written
  'audit.written', // the entry is written, not committed
  'transaction.committed', // act and entry are durable, nobody has been told
  // The first start.
  'initialise.kept', // the first passwords are in their file, no account has them
  'initialise.root-key',
  'initialise.accounts',
  'initialise.committed',
] as const;

export type Killpoint = (typeof KILLPOINTS)[number];

let reached: ((name: Killpoint) => void) | undefined;

export function killpoint(name: Killpoint): void {
  if (reached !== undefined) reached(name);
}

/** For the entry script of a test process only. */
export function atKillpoints(listener: (name: Killpoint) => void): void {
  reached = listener;
}
