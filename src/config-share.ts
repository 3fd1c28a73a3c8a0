/**
 * What each process of a server has of what is set for all of them together, where workers serve (BULLA_WORKERS).
 *
 * Numbers are shared evenly, and nobody gets less than what a process cannot do without, so that with many workers and
 * small numbers all have a little more together than was set. Rates are not shared but counted in one place
 * (rate-limiter.ts).
 */
import type { Config } from './config.ts';

const DATABASE_CONNECTIONS_MIN = 2;
/** One body may be as large as this. */
const BODIES_BYTES_MIN = 4 * 1024 * 1024;

/** Of the first process, which serves no request but does everything that the vault does by itself. */
export function shareOfFirst(config: Config): Config {
  const { workers, databaseConnections } = config;
  if (workers === 1) return config;
  return Object.freeze({
    ...config,
    databaseConnections: Math.max(DATABASE_CONNECTIONS_MIN, Math.floor(databaseConnections / (workers + 1))),
  });
}

export function shareOfWorker(config: Config): Config {
  const { workers, databaseConnections, hashConcurrency, hashQueueMax, http } = config;
  const left = databaseConnections - shareOfFirst(config).databaseConnections;
  return Object.freeze({
    ...config,
    databaseConnections: Math.max(DATABASE_CONNECTIONS_MIN, Math.floor(left / workers)),
    hashConcurrency: Math.max(1, Math.floor(hashConcurrency / workers)),
    hashQueueMax: Math.ceil(hashQueueMax / workers),
    http: Object.freeze({
      ...http,
      connectionsMax: Math.ceil(http.connectionsMax / workers),
      connectionsPerSourceMax: Math.ceil(http.connectionsPerSourceMax / workers),
      bodiesBytesMax: Math.max(BODIES_BYTES_MIN, Math.floor(http.bodiesBytesMax / workers)),
    }),
  });
}
