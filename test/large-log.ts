/**
 * A log of any length that proves, as fast as SQL can make it: lines, leaf hashes and head, ten entries a segment, eight
 * milliseconds apart. `test/long/audit.test.ts` has ten million of them, `npm test` fewer.
 */
import type postgres from 'postgres';
import { expect } from 'vitest';
import { openLogKeys, signLog } from '../src/audit/checkpoint.ts';
import { verifyLog } from '../src/audit/verify-log.ts';
import { appendLeaves } from '../src/crypto/merkle.ts';
import { asTenantId, type TenantId } from '../src/db/database.ts';
import type { TestVault } from './harness.ts';

const SEGMENT = 10;
const STEP_MS = 8;
const AT_ONCE = 50_000;
const ACTORS = 1000;

/** Lines from the head on; `count` is a multiple of ten. Gives the index and the time of the first. */
export async function lengthen(owner: postgres.Sql, tenant: TenantId, count: number) {
  const [head] =
    await owner`SELECT size, frontier, last_time::text AS time FROM audit_heads WHERE tenant_id = ${tenant}`;
  const first = Number(head!.size);
  let tree = { size: first, frontier: head!.frontier as Uint8Array };
  for (let done = 0; done < count; done += AT_ONCE) {
    const n = Math.min(AT_ONCE, count - done);
    const rows = await owner<{ hashes: Buffer }[]>`
      WITH entries AS MATERIALIZED (
        SELECT i / ${SEGMENT}::int AS segment, ${tree.size}::bigint + i AS seq,
               ${head!.time}::timestamptz + (${done}::bigint + i) * interval '1 millisecond' * ${STEP_MS}::int AS at
        FROM generate_series(0, ${n - 1}::int) AS i
      ), written AS MATERIALIZED (
        SELECT segment, seq, at, convert_to(
          '{"action":"secret.read","actor":{"accessor":"k3v2m5qy7dzr4abc","id":"' || substr(md5((seq % ${ACTORS}::int)::text), 1, 16)
          || '","kind":"user","method":"password","name":"app' || seq % ${ACTORS}::int
          || '"},"outcome":"' || CASE WHEN seq % 50 = 0 THEN 'denied' ELSE 'ok' END
          || '","protocol":"native","request":"r' || seq || '","resource":"secret:prod/' || seq % 5000
          || '/db","salt":"' || substr(encode(sha256(seq::text::bytea), 'hex'), 1, 22) || '","seq":' || seq
          || ',"source":"10.0.0.7","time":"' || to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
          || '","v":1,"version":3}', 'UTF8') AS line
        FROM entries
      ), segments AS MATERIALIZED (
        SELECT min(seq) AS first_seq, count(*)::int AS count, min(at) AS first_time, max(at) AS last_time,
               string_agg(line || '\\x0a'::bytea, ''::bytea ORDER BY seq) AS lines,
               string_agg(sha256('\\x00'::bytea || line), ''::bytea ORDER BY seq) AS hashes
        FROM written GROUP BY segment
      ), lines AS (
        INSERT INTO audit_segments
        SELECT ${tenant}, first_seq, count, first_time, last_time, lines FROM segments ORDER BY first_seq
      ), leaves AS (
        INSERT INTO audit_leaves SELECT ${tenant}, first_seq, count, hashes FROM segments ORDER BY first_seq
      )
      SELECT string_agg(hashes, ''::bytea ORDER BY first_seq) AS hashes FROM segments`;
    tree = appendLeaves(tree.size, tree.frontier, rows[0]!.hashes);
    await owner`
      UPDATE audit_heads SET size = ${tree.size}, frontier = ${tree.frontier}, last_time = (
        SELECT last_time FROM audit_segments WHERE tenant_id = ${tenant} ORDER BY first_seq DESC LIMIT 1)
      WHERE tenant_id = ${tenant}`;
  }
  await owner.unsafe('ANALYZE audit_segments, audit_leaves');
  return { first, time: Date.parse(head!.time) };
}

const ROUNDS = 30;

async function medianOf(act: (round: number) => Promise<unknown>): Promise<number> {
  const times: number[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    const started = performance.now();
    await act(round);
    times.push(performance.now() - started);
  }
  return times.sort((a, b) => a - b)[ROUNDS / 2]!;
}

async function onceOf(act: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await act();
  return performance.now() - started;
}

/**
 * What people do with a log, in milliseconds, before it has `count` entries more and after. Fails where an answer is
 * wrong; how long things may take is the caller's to say.
 */
export async function measureLargeLog(t: TestVault, count: number, say: (figure: string) => void = () => undefined) {
  const tenant = asTenantId((await t.owner`SELECT tenant_id FROM tenants WHERE name = 'default'`)[0]!.tenant_id);
  for (const path of ['one', 'never-read']) {
    await t.request('PUT', `/api/v1/secrets/${path}`, { token: t.admin, body: { text: 'x' } });
  }
  const get = async (query: string) => (await t.request('GET', `/api/v1/audit/${query}`, { token: t.admin })).text;
  const read = () => t.request('GET', '/api/v1/secrets/one', { token: t.admin });
  const sign = async () => {
    const keys = await openLogKeys(t.vault);
    const signed = (await signLog(t.vault, tenant, keys))!;
    keys.wipe();
    return signed;
  };
  const figures: Record<string, number> = {};
  const noted = async (name: string, ms: Promise<number>) => {
    figures[name] = await ms;
    say(`${name} ${figures[name]!.toFixed(1)} ms`);
  };
  const median = (name: string, act: (round: number) => Promise<unknown>) => noted(name, medianOf(act));
  const once = (name: string, act: () => Promise<unknown>) => noted(name, onceOf(act));
  await medianOf(read);
  await median('read_before', read);
  await once('made', () => lengthen(t.owner, tenant, count));
  await once('signed', sign);
  const { size } = await sign();
  const [row] = await t.owner`
    SELECT first_time FROM audit_segments WHERE tenant_id = ${tenant} AND first_seq > ${Math.floor(size / 2)} ORDER BY first_seq LIMIT 1`;
  const middle = (row!.first_time as Date).getTime();
  const at = (seconds: number) => new Date(middle + seconds * 1000).toISOString();
  const expectLines = async (query: string, lines: number) => {
    const text = await get(`entries?${query}`);
    expect(text.split('\n').length - 1, query).toBe(lines);
  };
  const seconds = (n: number) => (n * 1000) / STEP_MS;
  const index = (round: number) => Math.floor((size * round) / ROUNDS);
  await median('read', read);
  await median('entries_of_ten_seconds', (round) =>
    expectLines(`from=${at(round)}&to=${at(round + 9.999)}`, seconds(10)),
  );
  await once('denials_of_a_minute', () =>
    expectLines(`outcome=denied&from=${at(0)}&to=${at(59.999)}`, seconds(60) / 50),
  );
  await median('one_actor_in_a_minute', (round) => get(`entries?actor=app${round}&from=${at(0)}&to=${at(59.999)}`));
  await median('hundred_by_index', (round) => expectLines(`from_index=${index(round)}&limit=100`, 100));
  await median('hundred_after_a_time', () => expectLines(`from=${at(0)}&limit=100`, 100));
  await median('inclusion_proof', (round) => get(`proof/inclusion?index=${index(round)}&size=${size}`));
  await median('consistency_proof', (round) => get(`proof/consistency?from=${index(round)}&to=${size}`));
  await median('checkpoint', async () => {
    await read();
    await sign();
  });
  await once('who_did_in_a_minute', () => get(`who-did?resource=secret:prod/**&from=${at(0)}&to=${at(59.999)}`));
  await once('one_request_in_all', () => expectLines(`request=r${Math.floor(size / 2)}`, 1));
  await once('one_actor_in_all', () => get('entries?actor=app7'));
  await once('who_did_in_all', () => get('who-did?resource=secret:prod/7/db'));
  await once('unread', () => get('unread?days=1'));
  const proven = await get(`entries?proof=true&from=${at(0)}&to=${at(1)}`);
  const key = (await get('key')).trim();
  expect(await verifyLog(() => [Buffer.from(proven)], { keys: [key] })).toMatchObject({ ok: true });
  return figures;
}
