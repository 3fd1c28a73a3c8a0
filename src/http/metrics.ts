/**
 * What Prometheus scrapes: counts and durations by route pattern, and the process's own state.
 *
 * A label is a method, a status or the pattern of a route, never a name, a path or a tenant, so a stranger can neither
 * read one here nor grow the number of series.
 */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';

export type Metrics = {
  readonly registry: Registry;
  readonly begin: () => void;
  readonly end: (method: string, route: string, status: number, seconds: number) => void;
  /** Refused before a byte was read: there are too many of all, or of one source. */
  readonly connections: { readonly refused: (limit: 'all' | 'source') => void };
};

const DURATION_BUCKETS_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

export function createMetrics(): Metrics {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });
  // Looking a child up by its labels costs more than counting, and there are few.
  const seriesOf = new Map<string, Map<string, Series>>();
  new Counter({
    name: 'bulla_http_requests_total',
    help: 'Answers by method, route pattern and status.',
    labelNames: ['method', 'route', 'status'],
    registers,
    collect() {
      for (const [route, ofRoute] of seriesOf) {
        for (const [method, { byStatus }] of ofRoute) {
          for (const [status, count] of byStatus) this.labels(method, route, String(status)).inc(count);
          byStatus.clear();
        }
      }
    },
  });
  const durations = new Histogram({
    name: 'bulla_http_request_duration_seconds',
    help: 'From the end of the request headers to the end of the answer.',
    labelNames: ['method', 'route'],
    buckets: DURATION_BUCKETS_SECONDS,
    registers,
  });
  let atOnce = 0;
  new Gauge({
    name: 'bulla_http_requests_running',
    help: 'Requests without a full answer yet.',
    registers,
    collect() {
      this.set(atOnce);
    },
  });
  const refused = new Counter({
    name: 'bulla_http_connections_refused_total',
    help: 'Connections refused because there were too many of all, or of one source.',
    labelNames: ['limit'],
    registers,
  });
  return {
    registry,
    connections: { refused: (limit) => refused.inc({ limit }) },
    begin: () => {
      atOnce += 1;
    },
    end: (method, route, status, seconds) => {
      atOnce -= 1;
      const ofRoute = memo(seriesOf, route, () => new Map<string, Series>());
      const series = memo(ofRoute, method, () => ({ duration: durations.labels(method, route), byStatus: new Map() }));
      series.byStatus.set(status, (series.byStatus.get(status) ?? 0) + 1);
      series.duration.observe(seconds);
    },
  };
}

type Series = {
  readonly duration: Histogram.Internal<'method' | 'route'>;
  /** Answers since the last scrape: counting by labels costs more than all else here. */
  readonly byStatus: Map<number, number>;
};

function memo<K, T>(cache: Map<K, T>, key: K, make: () => T): T {
  const found = cache.get(key);
  if (found !== undefined) return found;
  const made = make();
  cache.set(key, made);
  return made;
}
