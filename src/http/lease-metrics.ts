/** What Prometheus is told of leases: stuck ones, how late others ended, and the latch. No label names anything. */
import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import { onEnds, summariseLeases } from '../lease/summary.ts';
import type { Vault } from '../vault.ts';

const LATE_BUCKETS_SECONDS = [0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 3600];

export function registerLeaseMetrics(registry: Registry, vault: Vault): void {
  const registers = [registry];
  const gauge = (name: string, help: string, value: (seen: { stuck: number; latched: boolean }) => number) =>
    new Gauge({
      ...{ name, help, registers },
      // Without the database the scrape still answers, with what was last known.
      async collect() {
        const seen = await summariseLeases(vault).catch(() => undefined);
        if (seen) this.set(value(seen));
      },
    });
  gauge('bulla_leases_stuck', 'Leases whose revocation has failed several times.', (seen) => seen.stuck);
  gauge('bulla_lease_sweeper_latched', '1: leases wait for a confirmed clock.', (seen) => (seen.latched ? 1 : 0));
}

/** Of the revocations of this process, which may be a worker's. */
export function registerRevocationMetrics(registry: Registry, vault: Vault): void {
  const registers = [registry];
  const ends = new Counter({
    name: 'bulla_lease_revocations_total',
    help: 'Revocations at targets by outcome: ended, checking (to be looked for once more), failed.',
    labelNames: ['outcome'],
    registers,
  });
  const late = new Histogram({
    name: 'bulla_lease_lateness_seconds',
    help: 'From when a lease was due to when its credential was gone.',
    buckets: LATE_BUCKETS_SECONDS,
    registers,
  });
  onEnds(vault, (outcome, lateSeconds) => {
    ends.inc({ outcome });
    if (outcome !== 'failed') late.observe(lateSeconds);
  });
}
