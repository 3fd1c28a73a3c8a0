/** Every kill point and what is running when the process dies there. A point without a scenario has a test of its own. */
import type { Killpoint } from '../src/db/killpoint.ts';
import { SCENARIOS, type Scenario } from './kill-scenarios.ts';

const { rotate, pepper, reencrypt, root, migrate, seal, unseal, tenantDelete, lease, account, backend, rotator, load } =
  SCENARIOS;

type Case = { readonly case: string; readonly scenario?: Scenario };

const rotation = { case: 'T-172', scenario: rotate };
const moving = { case: 'T-172', scenario: reencrypt };
const second = { case: 'T-172', scenario: { ...reencrypt, times: 2 } };
const rooted = { case: 'T-171', scenario: root };
const peppered = { case: 'T-171', scenario: pepper };
const migrating = { case: 'T-171', scenario: migrate };
const deleting = { case: 'T-176', scenario: tenantDelete };
const leased = { case: 'T-173', scenario: lease };
const held = { case: 'T-173', scenario: account };
const own = { case: 'T-173', scenario: backend };
const rotating = { case: 'T-174', scenario: rotator };
const loaded = { case: 'T-174', scenario: load };
const first = { case: 'T-175' };

export const KILL_CASES: Readonly<Record<Killpoint, Case>> = {
  'data-key.demoted': rotation,
  'data-key.inserted': rotation,
  'data-key.committed': rotation,
  'reencrypt.claimed': moving,
  'reencrypt.read': second,
  'reencrypt.updated': second,
  'reencrypt.committed': moving,
  'reencrypt.progressed': second,
  'reencrypt.passed': moving,
  'reencrypt.material-deleted': moving,
  'reencrypt.concluded': moving,
  'reencrypt.finished': moving,
  'root-key.wrapped': rooted,
  'root-key.retired': rooted,
  'root-key.inserted': rooted,
  'root-key.rewrapping': rooted,
  'root-key.rewrapped': rooted,
  'root-key.destroyed': rooted,
  'root-key.committed': rooted,
  'seal.made': migrating,
  'seal.inserted': migrating,
  'seal.replaced': migrating,
  'seal.migrated': migrating,
  'seal.sealed': { case: 'T-175', scenario: seal },
  'unseal.offered': { case: 'T-175', scenario: unseal },
  'unseal.recorded': { case: 'T-175', scenario: unseal },
  'pepper.retired': peppered,
  'pepper.inserted': peppered,
  'pepper.committed': peppered,
  'tenant-delete.marked': deleting,
  'tenant-delete.keys-destroyed': deleting,
  'tenant-delete.committed': deleting,
  'tenant-delete.removing': deleting,
  'tenant-delete.removed': deleting,
  'tenant-delete.finished': deleting,
  'lease.pending': leased,
  'lease.issued': leased,
  'lease.active': leased,
  'lease.renewing': leased,
  'lease.renewed': leased,
  'lease.condemned': leased,
  'lease.claimed': leased,
  'lease.revoked': leased,
  'lease.ended': leased,
  'account.checked-out': held,
  'account.proposed': held,
  'account.changed': held,
  'account.proven': held,
  'account.rotated': held,
  'backend.proposed': own,
  'backend.changed': own,
  'backend.proven': own,
  'backend.rotated': own,
  'rotator.claimed': rotating,
  'rotator.made': rotating,
  'rotator.stored': rotating,
  'audit.locked': loaded,
  'audit.written': loaded,
  'transaction.committed': loaded,
  'initialise.kept': first,
  'initialise.root-key': first,
  'initialise.accounts': first,
  'initialise.committed': first,
};
