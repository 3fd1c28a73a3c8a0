/** What Prometheus is told of keys: how old, and whether one is overdue. Over all tenants; no label names one. */
import { Gauge, type Registry } from 'prom-client';
import { type KeyAgeSummary, summariseAges } from '../tenant/age.ts';
import type { Vault } from '../vault.ts';

const FRESH_MS = 1_000;

export function registerKeyMetrics(registry: Registry, vault: Vault): void {
  const summary = remembered(vault);
  const gauge = (name: string, help: string, value: (ages: KeyAgeSummary) => number) =>
    new Gauge({
      ...{ name, help, registers: [registry] },
      // Without the database the scrape still answers, with what was last known.
      async collect() {
        const ages = await summary();
        if (ages) this.set(value(ages));
      },
    });
  gauge('bulla_root_key_age_seconds', 'Age of the active root key.', (ages) => ages.rootAgeSeconds);
  gauge('bulla_data_key_age_seconds_max', 'Age of the oldest active data key.', (ages) => ages.dataAgeSecondsMax);
  gauge('bulla_data_keys_overdue', 'Active data keys past the age at which they rotate.', (ages) => ages.overdue);
  const due = new Gauge({
    name: 'bulla_key_max_age_seconds',
    help: 'Age at which keys rotate by themselves; 0: never.',
    labelNames: ['key'],
    registers: [registry],
  });
  due.set({ key: 'root' }, vault.config.rootKeyMaxAgeSeconds);
  due.set({ key: 'data' }, vault.config.dataKeyMaxAgeSeconds);
}

/** One read of the database for the gauges of one scrape. */
function remembered(vault: Vault): () => Promise<KeyAgeSummary | undefined> {
  let askedAtMs = Number.NEGATIVE_INFINITY;
  let last: Promise<KeyAgeSummary | undefined> = Promise.resolve(undefined);
  return () => {
    const nowMs = vault.clock.monotonicMs();
    if (nowMs - askedAtMs >= FRESH_MS) {
      askedAtMs = nowMs;
      last = summariseAges(vault).catch(() => undefined);
    }
    return last;
  };
}
