/**
 * What several processes of one server count, as one: sums of what happened and of what there is, the most or the least
 * where a metric says so (`aggregator`).
 *
 * Counts only grow, so what a worker had counted when it was last asked stays in the sums when it is gone: a sum that
 * fell would look like a server that began anew.
 */
import { AggregatorRegistry, collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import type { Vault } from '../vault.ts';
import { registerKeyMetrics } from './key-metrics.ts';
import { registerLeaseMetrics, registerRevocationMetrics } from './lease-metrics.ts';

/** The metrics of one process, as they go from one to another. */
export type Counted = Awaited<ReturnType<Registry['getMetricsAsJSON']>>;

export type Together = {
  /** The text for Prometheus. Each worker is asked; one that does not answer is as it was when it last did. */
  readonly scrape: (workers: ReadonlyMap<number, () => Promise<Counted>>) => Promise<string>;
  /** A worker is gone, and another one may have its number. */
  readonly forget: (worker: number) => void;
};

/** Of the first process, which counts what the vault does by itself and knows how many workers serve. */
export function countTogether(vault: Vault, serving: () => number): Together {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  registerKeyMetrics(registry, vault);
  registerLeaseMetrics(registry, vault);
  registerRevocationMetrics(registry, vault);
  new Gauge({
    ...{ name: 'bulla_workers', help: 'Workers that serve.', registers: [registry] },
    collect() {
      this.set(serving());
    },
  });
  const last = new Map<number, Counted>();
  let gone: Counted = [];
  /** Of workers that are gone and not in `gone` yet. */
  const leaving: Counted[] = [];
  const settle = async () => {
    const left = leaving.splice(0);
    if (left.length > 0) gone = await AggregatorRegistry.aggregate([gone, ...left]).getMetricsAsJSON();
  };
  let settling: Promise<void> = Promise.resolve();
  return {
    scrape: async (workers) => {
      const asked = [...workers].map(async ([worker, ask]) => {
        const counted = await ask().catch(() => undefined);
        if (counted && workers.has(worker)) last.set(worker, counted);
      });
      const [own] = await Promise.all([registry.getMetricsAsJSON(), ...asked]);
      settling = settling.then(settle);
      await settling;
      return AggregatorRegistry.aggregate([own, ...last.values(), gone]).metrics();
    },
    forget: (worker) => {
      const counted = last.get(worker);
      last.delete(worker);
      if (counted) leaving.push(counted.filter(grows));
    },
  };
}

/** Numbers as text: the types of the package have names for them that are not the ones it gives. */
const grows = ({ type }: { readonly type: unknown }) => type === 'counter' || type === 'histogram';
