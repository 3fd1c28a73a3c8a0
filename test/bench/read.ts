/** Rows 1 and 2 of the bench: audited reads against the ceiling, and an application's start-up. */
import { get, load, post, type Stage, startCeiling } from './stage.ts';
import { type Row, round } from './table.ts';

const SECRETS = 200;

export async function fill(stage: Stage): Promise<void> {
  for (let i = 0; i < SECRETS; i += 1) {
    await stage.ask(
      'PUT',
      `/secrets/prod/app/s${i}`,
      { data: { url: `postgres://app:${'x'.repeat(120)}@db/app`, n: i } },
      stage.admin,
    );
  }
}

/** Medians over interleaved rounds. */
export async function benchReads(stage: Stage, rounds: number, seconds: number): Promise<Row[]> {
  const sample = JSON.stringify(await stage.ask('GET', '/secrets/prod/app/s1', undefined, stage.admin));
  const ceiling = await startCeiling(sample);
  const rows: Row[] = [];
  try {
    for (const connections of [1, 16, 64, 256]) {
      const reads = Array.from({ length: SECRETS }, (_, i) => get(stage.port, `/secrets/prod/app/s${i}`, stage.admin));
      const bare = reads.map((request) => request.replace(`:${stage.port}`, `:${ceiling.port}`));
      rows.push(
        await round(`audited read, ${connections} connections`, 'bare Hono route', rounds, {
          ours: () => load({ port: stage.port, connections, seconds, warmupSeconds: 0.5, requests: reads }),
          reference: () => load({ port: ceiling.port, connections, seconds, warmupSeconds: 0.5, requests: bare }),
        }),
      );
    }
  } finally {
    ceiling.end();
  }
  return rows;
}

/** One request for many secrets against one request each. The unit is a start-up. */
export async function benchFetch(stage: Stage, rounds: number, seconds: number): Promise<Row[]> {
  const rows: Row[] = [];
  for (const count of [50, 100]) {
    const paths = Array.from({ length: count }, (_, i) => `prod/app/s${i}`);
    const one = [post(stage.port, '/fetch', stage.admin, { paths })];
    const many = paths.map((path) => get(stage.port, `/secrets/${path}`, stage.admin));
    rows.push(
      await round(`start-up of ${count} secrets, one fetch`, `${count} single reads`, rounds, {
        ours: () => load({ port: stage.port, connections: 1, seconds, warmupSeconds: 0.3, requests: one }),
        reference: async () => {
          const single = await load({ port: stage.port, connections: 1, seconds, warmupSeconds: 0.3, requests: many });
          return {
            ...single,
            perSecond: single.perSecond / count,
            p50Ms: single.p50Ms * count,
            p99Ms: single.p99Ms * count,
          };
        },
      }),
    );
  }
  const paths = Array.from({ length: 100 }, (_, i) => `prod/app/s${i}`);
  const storm = await load({
    port: stage.port,
    connections: 200,
    seconds,
    warmupSeconds: 0.3,
    requests: [post(stage.port, '/fetch', stage.admin, { paths })],
  });
  rows.push({ name: '200 clients fetching 100 secrets each', reference: '–', ours: storm });
  return rows;
}

/** Durable writes of a new version, each with its audit entry. */
export async function benchWrites(stage: Stage, seconds: number): Promise<Row[]> {
  const rows: Row[] = [];
  for (const connections of [1, 16, 64]) {
    const requests = Array.from({ length: 64 }, (_, i) =>
      post(stage.port, `/secrets/write/s${i}`, stage.admin, { data: { value: 'x'.repeat(100) } }, 'PUT'),
    );
    const ours = await load({ port: stage.port, connections, seconds, warmupSeconds: 0.3, requests });
    rows.push({ name: `durable write, ${connections} connections`, reference: '–', ours });
  }
  return rows;
}
