/** Rows 1, 2 and 3 of the bench: audited reads against the ceiling and against unaudited ones, an application's start-up, and writes. */
import { databaseAt, get, load, peakMiB, post, type Stage, startReference } from './stage.ts';
import { figure, type Row, round } from './table.ts';

const SECRETS = 200;
const CONNECTIONS = [1, 16, 64, 256];
const GOALS: Readonly<Record<number, string>> = { 64: '0.45, p99 10 ms', 256: '0.55' };

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

export const readsAt = (port: number, token: string) =>
  Array.from({ length: SECRETS }, (_, i) => get(port, `/secrets/prod/app/s${i}`, token));

/** What a read is answered with, but for what Node's server adds to every answer. */
async function sampleAnswer({ port, admin }: Stage) {
  const url = `http://127.0.0.1:${port}/api/v1/secrets/prod/app/s1`;
  const answer = await fetch(url, { headers: { authorization: `Bearer ${admin}` } });
  const headers = Object.fromEntries(answer.headers);
  for (const name of ['connection', 'content-length', 'date', 'keep-alive']) delete headers[name];
  return { body: await answer.text(), headers };
}

/** Until the compiler has seen enough, a server is several times slower than it will be. */
export async function warmUp(port: number, requests: readonly string[], seconds: number): Promise<void> {
  await load({ port, connections: 128, seconds, warmupSeconds: 0, requests });
}

/** Its tenant's id is in the token. */
function startUnaudited({ admin, dataDir }: Stage, answer: string) {
  const database = JSON.stringify(databaseAt(dataDir, 'bulla_owner'));
  return startReference('./unaudited.js', [admin.split('_')[1]!, answer], { DATABASE: database });
}

/** Medians over interleaved rounds. */
export async function benchReads(stage: Stage, rounds: number, seconds: number): Promise<Row[]> {
  const { body: sample, headers } = await sampleAnswer(stage);
  const ceiling = await startReference('./ceiling.js', [sample, JSON.stringify(headers)]);
  const unaudited = await startUnaudited(stage, sample);
  const rows: Row[] = [];
  try {
    const at = (port: number, connections: number) => () =>
      load({ port, connections, seconds, warmupSeconds: 0, requests: readsAt(port, stage.admin) });
    for (const { port } of [ceiling, unaudited, stage]) await warmUp(port, readsAt(port, stage.admin), seconds * 1.5);
    const { peakMiB: peak } = await peakMiB(stage.pid, async () => {
      for (const connections of CONNECTIONS) {
        const name = `audited read, ${connections} connections`;
        const ours = { ours: at(stage.port, connections), used: stage.used };
        const goal = GOALS[connections];
        const row = await round(name, 'bare Hono route', rounds, { ...ours, reference: at(ceiling.port, connections) });
        rows.push({ ...row, ...(goal === undefined ? {} : { goal }) });
      }
    });
    const sides = { ours: at(stage.port, 64), reference: at(unaudited.port, 64) };
    rows.push(await round('audited read, 64 connections', 'unaudited read of the row', rounds, sides));
    rows.push(figure('memory, highest under reads', `${Math.round(peak)} MiB`, '250 MiB'));
  } finally {
    await Promise.all([ceiling.end(), unaudited.end()]);
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
    const row = await round(`start-up of ${count} secrets, one fetch`, `${count} single reads`, rounds, {
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
    });
    rows.push({ ...row, goal: count === 100 ? '10, p50 8 ms' : '10' });
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

/** Durable writes of a new version, each with its audit entry, against one durable INSERT each. */
export async function benchWrites(stage: Stage, rounds: number, seconds: number): Promise<Row[]> {
  const bare = await startUnaudited(stage, '{}');
  const rows: Row[] = [];
  try {
    const at = (port: number, connections: number) => () =>
      load({ port, connections, seconds, warmupSeconds: 0.3, requests: writesAt(port, stage.admin) });
    for (const connections of [1, 16, 64]) {
      const sides = { ours: at(stage.port, connections), reference: at(bare.port, connections), used: stage.used };
      rows.push(await round(`durable write, ${connections} connections`, 'one bare INSERT each', rounds, sides));
    }
  } finally {
    await bare.end();
  }
  return rows;
}

const writesAt = (port: number, token: string) =>
  Array.from({ length: 64 }, (_, i) =>
    post(port, `/secrets/write/s${i}`, token, { data: { value: 'x'.repeat(100) } }, 'PUT'),
  );
