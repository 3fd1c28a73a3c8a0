/** The forms in which a log leaves: filtered and resumed NDJSON, OCSF events, and the live tail. */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { endTails } from '../src/audit/tail.ts';
import { logout } from '../src/auth/token.ts';
import { type TestVault, testVault } from './harness.ts';

let t: TestVault;
let vaultAddress: string;
let auditor: string;

beforeAll(async () => {
  t = await testVault();
  vaultAddress = await t.address();
  auditor = await t.user('watcher', ['auditor']);
  await t.request('PUT', '/api/v1/secrets/prod/db', { token: t.admin, body: { text: 'x' } });
  for (const path of ['prod/db', 'prod/none']) await t.request('GET', `/api/v1/secrets/${path}`, { token: t.admin });
  await t.request('GET', '/api/v1/secrets/prod/db', { token: auditor });
});
afterAll(async () => {
  endTails(t.vault);
  await t.close();
});

const lines = async (query: string) => {
  const { text } = await t.request('GET', `/api/v1/audit/entries?${query}`, { token: auditor });
  return text.split('\n').filter((line) => line !== '');
};

/** What the filters ask for, of an entry as its line says it. */
type Written = { seq: number; action: string; outcome: string; code?: string; actor: { name?: string } };

describe('filters', () => {
  it.each([
    ['action=secret.read', (entry: Written) => entry.action === 'secret.read'],
    ['outcome=denied', (entry: Written) => entry.outcome === 'denied'],
    ['outcome=error&resource=secret:prod/*', (entry: Written) => entry.code === 'not_found'],
    ['actor=watcher', (entry: Written) => entry.actor.name === 'watcher'],
    ['from_index=3&to_index=5', (entry: Written) => entry.seq === 3 || entry.seq === 4],
  ])('%s gives all that fit and no more', async (query, fits) => {
    const all = (await lines('')).map((line): Written => JSON.parse(line));
    const { seq: end } = all.at(-1)!;
    const found = (await lines(`${query}${query.includes('to_index') ? '' : `&to_index=${end + 1}`}`)).map((line) =>
      JSON.parse(line),
    );
    expect(found).toEqual(all.filter(fits));
    expect(found.length).toBeGreaterThan(0);
  });

  it('one request is found by its id', async () => {
    const { headers } = await t.request('GET', '/api/v1/auth/self', { token: t.admin });
    const found = await lines(`request=${headers.get('x-request-id')}`);
    expect(found.map((line) => JSON.parse(line).action)).toEqual(['auth.self']);
  });

  it('an export is resumed after the last line seen', async () => {
    const first = await lines('limit=4');
    const rest = await lines(`from_index=${JSON.parse(first.at(-1)!).seq + 1}&limit=3`);
    expect([...first, ...rest]).toEqual(await lines('limit=7'));
  });

  it('proof and csv do not go together', async () => {
    const { status } = await t.request('GET', '/api/v1/audit/entries?proof=true&format=csv', { token: auditor });
    expect(status).toBe(400);
  });
});

type Schema = {
  type?: string;
  const?: unknown;
  enum?: unknown[];
  required?: string[];
  anyOf?: Schema[];
  properties?: Record<string, Schema>;
  additionalProperties?: false;
  items?: Schema;
  $ref?: string;
};

const OCSF = JSON.parse(readFileSync(new URL('./vectors/ocsf-1.3.0.json', import.meta.url), 'utf8'));

/** What of an event is not as the schema says, by as much of JSON Schema as it uses. */
function faults(schema: Schema, value: unknown, at = ''): string[] {
  if (schema.$ref !== undefined) return faults(OCSF.$defs[schema.$ref.split('/').at(-1)!], value, at);
  const type = Array.isArray(value) ? 'array' : Number.isInteger(value) ? 'integer' : typeof value;
  const found: string[] = [];
  if (schema.type !== undefined && schema.type !== type) found.push(`${at} is of type ${type}, not ${schema.type}`);
  if (schema.const !== undefined && schema.const !== value) found.push(`${at} is not ${schema.const}`);
  if (schema.enum !== undefined && !schema.enum.includes(value)) found.push(`${at} is none of ${schema.enum}`);
  for (const name of schema.required ?? []) if (!Object.hasOwn(Object(value), name)) found.push(`${at} has no ${name}`);
  const oneFits = schema.anyOf?.some((one) => faults(one, value, at).length === 0) ?? true;
  if (!oneFits) found.push(`${at} has none of what it needs`);
  const { items, properties } = schema;
  if (items && Array.isArray(value)) found.push(...value.flatMap((one) => faults(items, one, `${at}[]`)));
  if (properties === undefined) return found;
  for (const [name, member] of Object.entries(Object(value))) {
    const known = properties[name];
    if (known !== undefined) found.push(...faults(known, member, `${at}.${name}`));
    else if (schema.additionalProperties === false) found.push(`${at}.${name} is not known`);
  }
  return found;
}

describe('ocsf', () => {
  it('every entry is one event of its class as the schema has it, and carries the line that proves it', async () => {
    const wrong = { tenant: 'default', username: 'admin', password: 'not the password' };
    await t.request('POST', '/api/v1/auth/login', { body: wrong });
    await t.request('POST', '/api/v1/auth/logout', { token: await t.login('default', 'watcher') });
    await t.request('POST', '/api/v1/keys/rotate', { token: t.admin });
    const end = JSON.parse((await lines('')).at(-1)!).seq;
    const events = (await lines(`format=ocsf&to_index=${end}`)).map((line) => JSON.parse(line));
    expect(events.map((event) => event.raw_data)).toEqual(await lines(`to_index=${end}`));
    expect(events.flatMap((event) => faults(OCSF.classes[event.class_uid], event))).toEqual([]);
    for (const event of events) {
      const entry = JSON.parse(event.raw_data);
      const login = /^auth\.(login|logout)$/.test(entry.action);
      expect([event.class_uid, event.category_uid]).toEqual(login ? [3002, 3] : [6003, 6]);
      expect(event.type_uid).toBe(event.class_uid * 100 + event.activity_id);
      expect(event.time).toBe(Date.parse(event.metadata.original_time));
      expect(event.status_id).toBe(entry.outcome === 'ok' ? 1 : 2);
      expect(event.metadata).toMatchObject({ event_code: entry.action, correlation_uid: entry.request });
    }
    const logins = events.filter((event) => event.class_uid === 3002);
    expect(new Set(logins.map((event) => `${event.activity_name} ${event.status}`))).toEqual(
      new Set(['Logon Success', 'Logon Failure', 'Logoff Success']),
    );
    expect(new Set(events.map((event) => event.metadata.uid)).size).toBe(events.length);
  });

  it('the check of an event finds what its class does not know or lacks', async () => {
    const [event] = (await lines('format=ocsf&limit=1')).map((line) => JSON.parse(line));
    const schema = OCSF.classes[event.class_uid];
    expect(faults(schema, { ...event, auth_protocol: 'x' })).toEqual(['.auth_protocol is not known']);
    expect(faults(schema, { ...event, activity_id: 7 })).toHaveLength(1);
    expect(faults(schema, { ...event, src_endpoint: {} })).toEqual(['.src_endpoint has none of what it needs']);
  });
});

/** Reads a tail until `done` says so of what has come, or it ends. */
async function tail(token: string, query: string, done: (text: string) => boolean | Promise<boolean>) {
  const stop = new AbortController();
  const answer = await fetch(`${vaultAddress}/api/v1/audit/tail?${query}`, {
    headers: { authorization: `Bearer ${token}` },
    signal: stop.signal,
  });
  let text = '';
  let ended = true;
  for await (const piece of answer.body!) {
    text += Buffer.from(piece).toString('utf8');
    if (!(await done(text))) continue;
    ended = false;
    break;
  }
  stop.abort();
  return { answer, text, ended };
}

describe('the tail', () => {
  it('shows what happens after it starts, in order, by number', async () => {
    let acted = false;
    const { answer, text } = await tail(auditor, '', async (seen) => {
      if (!acted) {
        acted = true;
        for (let i = 0; i < 3; i++) await t.request('GET', '/api/v1/secrets/prod/db', { token: t.admin });
      }
      return (seen.match(/secret\.read/g) ?? []).length >= 3;
    });
    expect(answer.headers.get('content-type')).toBe('text/event-stream');
    const ids = [...text.matchAll(/^id: (\d+)\ndata: (.*)$/gm)];
    ids.forEach(([, id, data], i) => {
      expect(JSON.parse(data!).seq).toBe(Number(id));
      expect(Number(id)).toBe(Number(ids[0]![1]) + i);
    });
  });

  it('goes on where an earlier one ended', async () => {
    const { text } = await tail(auditor, 'from_index=0', (seen) => seen.includes('id: 3\n'));
    expect(text).toMatch(/id: 0\n/);
  });

  it('T-154 ends within a second after its token does', async () => {
    const token = await t.login('default', 'watcher');
    let endedAt = 0;
    const { ended } = await tail(token, '', async () => {
      if (endedAt === 0) {
        await logout(t.vault, t.call(token));
        endedAt = Date.now();
      }
      return false;
    });
    expect(ended).toBe(true);
    expect(Date.now() - endedAt).toBeLessThan(1500);
  });

  it('is not for those who may not read the log', async () => {
    const token = await t.user('nosy', ['reader']);
    expect(
      (await fetch(`${vaultAddress}/api/v1/audit/tail`, { headers: { authorization: `Bearer ${token}` } })).status,
    ).toBe(403);
  });
});
