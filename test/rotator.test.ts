/**
 * Stored secrets that rotate: generated values and those of a real endpoint, their grace time, who is told, and what is so
 * when somebody writes at the same moment, the endpoint is dead, or two nodes look at once. (Accounts: account.test.ts.)
 */
import { createHmac } from 'node:crypto';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { asTenantId } from '../src/db/database.ts';
import { VaultError } from '../src/errors.ts';
import { rotateDueSecrets } from '../src/job/rotator.ts';
import { startSchedule } from '../src/job/schedule.ts';
import { lookAtClock } from '../src/lease/clock.ts';
import { claimSecret, noteFailure, readDueSecrets, rotatorOf, storeValue } from '../src/secret/rotation.ts';
import { sealVault, unsealOnHost } from '../src/tenant/seal.ts';
import type { Vault } from '../src/vault.ts';
import { callOf, type TestVault, testVault } from './harness.ts';
import { until } from './until.ts';

type Asked = {
  readonly type: string;
  readonly path: string;
  readonly id: string;
  readonly body: Record<string, unknown>;
};

let t: TestVault;
let url: string;
let close: () => void;
const asked: Asked[] = [];
/** What the endpoint answers. */
let answer: { status: number; body: string } = { status: 200, body: '{"text": "made elsewhere"}' };

const SECRET = `whsec_${Buffer.alloc(32, 7).toString('base64')}`;

function isSigned({ headers }: IncomingMessage, body: string): boolean {
  const key = Buffer.from(SECRET.slice('whsec_'.length), 'base64');
  const text = `${headers['webhook-id']}.${headers['webhook-timestamp']}.${body}`;
  return headers['webhook-signature'] === `v1,${createHmac('sha256', key).update(text).digest('base64')}`;
}

beforeAll(async () => {
  t = await testVault({ env: { BULLA_OUTBOUND_NETWORKS: '127.0.0.0/8' } });
  t.secrets.add(SECRET);
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const piece of request) body += piece;
    if (!isSigned(request, body)) return void response.writeHead(401).end();
    const said = JSON.parse(body) as Record<string, unknown>;
    asked.push({
      type: String(said.type),
      path: String(said.path),
      id: String(request.headers['webhook-id']),
      body: said,
    });
    response.writeHead(answer.status).end(answer.body);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  close = () => {
    server.closeAllConnections();
    server.close();
  };
});

afterAll(async () => {
  close();
  await t.check();
  await t.close();
});

const api = (method: string, path: string, body?: object, token = t.admin) =>
  t.request(method, `/api/v1${path}`, { token, ...(body === undefined ? {} : { body }) });
const read = (path: string, version?: number) => api('GET', `/secrets/${path}${version ? `?version=${version}` : ''}`);
const put = async (path: string, body: object, status = 201) => {
  const made = await api('PUT', `/rotators/${path}`, body);
  expect(made.status, made.text).toBe(status);
  return made.json;
};
/** As time does. */
const due = (path: string) => t.owner`
  UPDATE rotators SET due_at = now() - interval '1 second'
  WHERE secret_id = (SELECT secret_id FROM secrets WHERE path = ${path})`;
const hook = () => ({ url, secret: SECRET });

describe('a secret that rotates', () => {
  it('has a version at once, another one by its schedule, and the one before for its grace time only', async () => {
    const made = await put('gen/password', {
      kind: 'password',
      length: 24,
      alphabet: 'abcdefghjkmnpqrs',
      every: '1h',
      grace: '10m',
    });
    expect(made).toMatchObject({ version: 1, attempts: 0, every: 3600, grace: 600 });
    const first = (await read('gen/password')).json.text;
    expect(first).toMatch(/^[abcdefghjkmnpqrs]{24}$/);
    t.secrets.add(first);
    await rotateDueSecrets(t.vault);
    expect((await read('gen/password')).json.version).toBe(1);
    await due('gen/password');
    await rotateDueSecrets(t.vault);
    const second = await read('gen/password');
    expect(second.json.version).toBe(2);
    expect(second.json.text).not.toBe(first);
    expect((await read('gen/password', 1)).json.text).toBe(first);
    const [{ grace }] = (await t.owner`
      SELECT extract(epoch FROM v.expires_at - r.rotated_at)::int AS grace FROM secret_versions v JOIN secrets s USING (tenant_id, secret_id)
      JOIN rotators r USING (tenant_id, secret_id) WHERE s.path = 'gen/password' AND v.version = 1`) as unknown as [
      { grace: number },
    ];
    expect(grace).toBe(600);
    await t.owner`UPDATE secret_versions SET expires_at = now() WHERE expires_at IS NOT NULL AND version = 1`;
    expect((await read('gen/password', 1)).status).toBe(404);
    const entries = (await api('GET', '/audit/entries?action=secret.rotate&format=ndjson')).text.trim().split('\n');
    expect(entries.map((line) => JSON.parse(line))).toMatchObject([
      { actor: { kind: 'vault' }, resource: 'secret:gen/password', version: 1, outcome: 'ok' },
      { actor: { kind: 'vault' }, version: 2, outcome: 'ok', details: { kind: 'password' } },
    ]);
  });

  it('keeps the version before even where only one is kept, and the other members of its data', async () => {
    await api('PUT', '/secrets/gen/data', { data: { user: 'app', password: 'by hand' }, versions_kept: 1 });
    await put('gen/data', { kind: 'diceware', field: 'password' });
    expect((await read('gen/data')).json.version).toBe(1);
    const rotated = await api('POST', '/rotators/gen/data/rotate');
    expect(rotated).toMatchObject({ status: 200, json: { version: 2, every: null, next_at: null } });
    const { data } = (await read('gen/data')).json;
    expect([data.user, data.password.split('-').length]).toEqual(['app', 6]);
    expect((await read('gen/data', 1)).json.data.password).toBe('by hand');
  });

  it('refuses what is weak or makes no sense', async () => {
    for (const body of [
      { kind: 'password', length: 8 },
      { kind: 'password', alphabet: 'aa', length: 200 },
      { kind: 'password', alphabet: 'ab', length: 79 },
      { kind: 'diceware', length: 20 },
      { kind: 'account' },
      { kind: 'password', account: 'x' },
      { kind: 'webhook' },
      { kind: 'webhook', webhook: { url } },
      { kind: 'webhook', webhook: { url: 'file:///etc/passwd', secret: SECRET } },
      { kind: 'password', every: 59 },
      { kind: 'none' },
    ]) {
      expect([body, (await api('PUT', '/rotators/gen/refused', body)).status]).toEqual([body, 400]);
    }
    expect((await read('gen/refused')).status).toBe(404);
  });

  it('is its tenant’s; who names an account must be allowed to read it, and shown is no secret of a webhook', async () => {
    const shown = await put('gen/shown', { kind: 'password', notify: hook() });
    expect(JSON.stringify(shown)).not.toContain('whsec_');
    expect(shown.notify).toEqual({ url });
    const other = await t.tenant('another');
    expect((await api('GET', '/rotators/gen/shown', undefined, other)).status).toBe(404);
    const rules = [{ effect: 'allow', actions: ['secret.*'], resources: ['secret:mine/**'] }];
    const writer = await t.user('writer-of-rotators', [], rules);
    expect((await api('PUT', '/rotators/mine/a', { kind: 'account', account: 'billing' }, writer)).status).toBe(403);
    expect((await api('PUT', '/rotators/mine/a', { kind: 'diceware' }, writer)).status).toBe(201);
    expect((await api('GET', '/rotators', undefined, writer)).json.items).toMatchObject([{ path: 'mine/a' }]);
    expect((await api('POST', '/rotators/gen/shown/rotate', undefined, writer)).status).toBe(403);
    expect((await api('DELETE', '/rotators/mine/a', undefined, writer)).status).toBe(204);
    expect((await api('GET', '/rotators/mine/a')).status).toBe(404);
    expect((await read('mine/a')).status).toBe(200);
    await api('DELETE', '/metadata/gen/shown');
    expect((await api('GET', '/rotators/gen/shown')).status).toBe(404);
  });

  it('where it is moved to its values are read, so that takes what giving it one there takes', async () => {
    await put('guarded/a', { kind: 'diceware' });
    const allow = (actions: string[], resources: string[]) => ({ effect: 'allow', actions, resources });
    const moving = [
      allow(['secret.read', 'secret.delete'], ['secret:guarded/**']),
      allow(['secret.read', 'secret.write'], ['secret:taken/**']),
    ];
    const move = (token: string) => api('POST', '/move', { from: 'guarded/a', to: 'taken/a' }, token);
    const mover = await t.user('mover', [], moving);
    const refused = await move(mover);
    expect([refused.status, refused.json]).toMatchObject([403, { action: 'secret.rotator-write' }]);
    const rotating = ['secret:guarded/**', 'secret:taken/**'];
    const keeper = await t.user('keeper', [], [...moving, allow(['secret.rotator-write'], rotating)]);
    const of = (kind: string, account: string | null) =>
      t.owner`UPDATE rotators r SET kind = ${kind}, account = ${account} FROM secrets s
              WHERE s.secret_id = r.secret_id AND s.path = 'guarded/a'`;
    await of('account', 'billing');
    const byAccount = await move(keeper);
    expect([byAccount.status, byAccount.json.action]).toEqual([403, 'account.rotate']);
    await of('diceware', null);
    expect((await read('guarded/a')).status).toBe(200);
    expect((await move(keeper)).status).toBe(200);
  });
});

describe('at the same moment', () => {
  it('a version that somebody writes is never replaced by a generated one, and counts in its place', async () => {
    await put('race/password', { kind: 'password', every: '1h' });
    const [row] = await t.owner`SELECT tenant_id, secret_id FROM secrets WHERE path = 'race/password'`;
    await due('race/password');
    const claimed = await claimSecret(t.vault, { tenant: asTenantId(row!.tenant_id), secretId: row!.secret_id });
    await api('PUT', '/secrets/race/password', { text: 'by hand', cas: 1 });
    expect(await storeValue(t.vault, claimed!, { value: 'generated', isOutside: false })).toBe('overtaken');
    expect((await read('race/password')).json).toMatchObject({ version: 2, text: 'by hand' });
    const after = (await api('GET', '/rotators/race/password')).json;
    expect(after).toMatchObject({ attempts: 0, last_error: expect.stringMatching(/Version 2 was written meanwhile/) });
    expect(Date.parse(after.next_at)).toBeGreaterThan(Date.now() + 3_000_000);
    // What has changed outside follows theirs, which stays readable.
    await due('race/password');
    const again = await claimSecret(t.vault, { tenant: asTenantId(row!.tenant_id), secretId: row!.secret_id });
    await api('PUT', '/secrets/race/password', { text: 'by hand again', cas: 2 });
    expect(await storeValue(t.vault, again!, { value: 'outside', isOutside: true })).toBe(4);
    expect((await read('race/password', 3)).json.text).toBe('by hand again');
  });

  it('T-192 two nodes and somebody who asks make one version', async () => {
    await put('race/nodes', { kind: 'password', every: '1h' });
    const other = await t.node({ env: { BULLA_OUTBOUND_NETWORKS: '127.0.0.0/8' } });
    await due('race/nodes');
    await Promise.all([t.vault, other, t.vault, other].map((vault) => rotateDueSecrets(vault)));
    expect((await read('race/nodes')).json.version).toBe(2);
  });

  it('a claim that its node left behind runs out, and is then nobody’s', async () => {
    await put('race/dead', { kind: 'password' });
    const [row] = await t.owner`SELECT tenant_id, secret_id FROM secrets WHERE path = 'race/dead'`;
    const place = { tenant: asTenantId(row!.tenant_id), secretId: row!.secret_id as string };
    const dead = await claimSecret(t.vault, place);
    expect(await claimSecret(t.vault, place)).toBe(undefined);
    expect((await api('POST', '/rotators/race/dead/rotate')).status).toBe(409);
    await t.owner`UPDATE rotators SET claim_until = now() WHERE secret_id = ${row!.secret_id}`;
    expect((await api('POST', '/rotators/race/dead/rotate')).json).toMatchObject({ version: 2 });
    expect(await storeValue(t.vault, dead!, { value: 'late', isOutside: true })).toBe('lost');
    expect((await read('race/dead')).json.version).toBe(2);
  });
});

describe('tenants', () => {
  it('take turns: many that are due of one keep none of another waiting', async () => {
    for (const name of ['a', 'b', 'c', 'd']) {
      await put(`many/${name}`, { kind: 'password', every: '1h' });
      await due(`many/${name}`);
    }
    const beside = await t.tenant('beside');
    await api('PUT', '/rotators/one', { kind: 'password', every: '1h' }, beside);
    await t.owner`
      UPDATE rotators SET due_at = now() - interval '1 millisecond'
      WHERE secret_id = (SELECT secret_id FROM secrets WHERE path = 'one')`;
    const first = await readDueSecrets(t.vault, 2);
    expect(new Set(first.map(({ tenant }) => tenant)).size).toBe(2);
  });
});

describe('a secret that is moved while it rotates', () => {
  it('is named by its place of that time in the log, and found', async () => {
    await put('moving/from', { kind: 'password', every: '1h' });
    const [row] = await t.owner`SELECT tenant_id, secret_id FROM secrets WHERE path = 'moving/from'`;
    await due('moving/from');
    const claimed = await claimSecret(t.vault, { tenant: asTenantId(row!.tenant_id), secretId: row!.secret_id });
    await api('POST', '/move', { from: 'moving/from', to: 'moving/to' });
    expect(await storeValue(t.vault, claimed!, { value: 'made meanwhile', isOutside: false })).toBe(2);
    expect(await rotatorOf(t.vault, claimed!)).toMatchObject({ path: 'moving/to', version: 2 });
    await due('moving/to');
    const again = await claimSecret(t.vault, { tenant: asTenantId(row!.tenant_id), secretId: row!.secret_id });
    await api('POST', '/move', { from: 'moving/to', to: 'moving/on' });
    await noteFailure(t.vault, again!, new VaultError('backend_failed', 'It did not answer.'));
    const said = await api('GET', '/audit/entries?action=secret.rotate&format=ndjson');
    const about = said.text.split('\n').filter((line) => line.includes('secret:moving/'));
    expect(about.map((line) => JSON.parse(line).resource)).toEqual([
      ...['secret:moving/from', 'secret:moving/to', 'secret:moving/on'],
    ]);
  });
});

describe('nothing rotates by itself', () => {
  /** A vault like this one that keeps what it would log. */
  const overheard = (vault: Vault) => {
    const said: unknown[] = [];
    return {
      said,
      vault: { ...vault, log: { ...vault.log, warn: (fields: unknown) => said.push(fields) } } as unknown as Vault,
    };
  };

  it('T-190 when the clock has jumped, until an operator has confirmed the time', async () => {
    await put('clock/jumps', { kind: 'password', every: '1h' });
    await lookAtClock(t.vault, undefined);
    const later = await t.node({ env: { BULLA_OUTBOUND_NETWORKS: '127.0.0.0/8' }, clockOffsetSeconds: 48 * 3600 });
    await startSchedule(later).stop();
    expect((await read('clock/jumps')).json.version).toBe(1);
    expect(Number((await t.owner`SELECT jump_seconds FROM lease_clocks`)[0]!.jump_seconds)).toBeGreaterThan(47 * 3600);
    await t.owner`UPDATE lease_clocks SET latched_at = NULL, jump_seconds = NULL, seen_at = now() + interval '48 hours'`;
    await startSchedule(later).stop();
    expect((await read('clock/jumps')).json.version).toBe(2);
    await t.owner`DELETE FROM lease_clocks`;
  });

  it('while the vault is sealed, and the log says nothing of it', async () => {
    await put('sealed/one', { kind: 'password', every: '1h' });
    await due('sealed/one');
    const { said, vault } = overheard(t.vault);
    await sealVault(t.vault, callOf(t.operator));
    try {
      await startSchedule(vault).stop();
      await rotateDueSecrets(vault);
      expect(said).toEqual([]);
    } finally {
      await unsealOnHost(t.vault);
    }
    await rotateDueSecrets(vault);
    expect((await read('sealed/one')).json.version).toBe(2);
  });
});

describe('an endpoint', () => {
  it('T-123 is asked by a signed request, again under the same name until it answers, and never given up', async () => {
    answer = { status: 500, body: '' };
    const made = await put('hook/value', { kind: 'webhook', webhook: hook(), every: '1h' });
    expect(made).toMatchObject({ attempts: 1, version: null, last_error: expect.stringMatching(/answered 500/) });
    expect((await read('hook/value')).status).toBe(404);
    for (const body of ['<html>', '{"text": 1}', '{"text": "a", "data": {}}', '{"data": []}', '[]']) {
      answer = { status: 200, body };
      await due('hook/value');
      await rotateDueSecrets(t.vault);
    }
    const stuck = (await api('GET', '/rotators/hook/value')).json;
    expect(stuck).toMatchObject({ attempts: 6, last_error: expect.stringMatching(/neither/) });
    const [row] =
      await t.owner`SELECT extract(epoch FROM due_at - now())::int AS wait FROM rotators WHERE attempts = 6`;
    expect(row!.wait).toBeGreaterThan(150);
    answer = { status: 200, body: '{"data": {"key": "made elsewhere", "id": 7}}' };
    t.secrets.add('made elsewhere');
    expect((await api('POST', '/rotators/hook/value/rotate')).json).toMatchObject({
      version: 1,
      attempts: 0,
      last_error: null,
    });
    expect((await read('hook/value')).json.data).toEqual({ key: 'made elsewhere', id: 7 });
    const ids = asked.filter(({ path }) => path === 'hook/value').map(({ id }) => id);
    expect([ids.length, new Set(ids).size]).toEqual([7, 1]);
    await api('POST', '/rotators/hook/value/rotate');
    expect(asked.at(-1)!.id).not.toBe(ids[0]);
    // A change that leaves the secret out keeps it, for the same endpoint only.
    for (const webhook of [{ url: `${url}elsewhere` }, { url, ca: 'another' }]) {
      const moved = await api('PUT', '/rotators/hook/value', { kind: 'webhook', webhook });
      expect(moved).toMatchObject({
        status: 400,
        json: { detail: expect.stringMatching(/^webhook.secret: .*same url/) },
      });
    }
    await put('hook/value', { kind: 'webhook', webhook: { url }, every: '2h' }, 200);
    expect((await api('POST', '/rotators/hook/value/rotate')).json.version).toBe(3);
  });

  it('is told of each new version, until it has taken that', async () => {
    await put('hook/told', { kind: 'password', notify: hook(), grace: '1h' });
    answer = { status: 503, body: '' };
    await api('POST', '/rotators/hook/told/rotate');
    const told = () => asked.filter(({ type, path }) => type === 'rotated' && path === 'hook/told');
    await until('it was not taken', async () => (await api('GET', '/rotators/hook/told')).json.notice_error !== null);
    answer = { status: 204, body: '' };
    await t.owner`UPDATE rotators SET notice_due_at = now() WHERE notice_version IS NOT NULL`;
    await rotateDueSecrets(t.vault);
    const last = told().at(-1)!;
    expect(last.body).toMatchObject({ type: 'rotated', path: 'hook/told', version: 2, previous_version: 1 });
    expect(Date.parse(String(last.body.previous_readable_until))).toBeGreaterThan(Date.now() + 3_000_000);
    expect((await api('GET', '/rotators/hook/told')).json.notice_error).toBe(null);
    const count = told().length;
    await rotateDueSecrets(t.vault);
    expect(told()).toHaveLength(count);
  });

  it('T-122 that is not public is refused, and keeps no other secret waiting', async () => {
    const vault = await t.node();
    await put('hook/loopback', { kind: 'webhook', webhook: hook() });
    await due('hook/loopback');
    await put('hook/beside', { kind: 'password', every: '1h' });
    await due('hook/beside');
    await rotateDueSecrets(vault);
    expect((await api('GET', '/rotators/hook/loopback')).json.attempts).toBeGreaterThan(0);
    expect((await read('hook/beside')).json.version).toBe(2);
  });
});

describe('its configuration', () => {
  it('T-172 moves to a new data key, with a secret that is moved, and opens nowhere else', async () => {
    await put('gone/from', { kind: 'password' });
    expect((await api('POST', '/move', { from: 'gone/from', to: 'gone/to' })).status).toBeLessThan(300);
    expect((await api('POST', '/rotators/gone/to/rotate')).json).toMatchObject({ path: 'gone/to', version: 2 });
    await t.owner`
      UPDATE rotators SET envelope = (SELECT envelope FROM rotators JOIN secrets USING (tenant_id, secret_id) WHERE path = 'race/dead')
      WHERE secret_id = (SELECT secret_id FROM secrets WHERE path = 'gone/to')`;
    await due('gone/to');
    await put('gone/beside', { kind: 'password', every: '1h' });
    await due('gone/beside');
    await rotateDueSecrets(t.vault);
    expect((await read('gone/beside')).json.version).toBe(2);
    const damaged = { kind: 'password', attempts: 1, last_error: expect.stringMatching(/Put the rotator again/) };
    expect((await api('GET', '/rotators/gone/to')).json).toMatchObject(damaged);
    expect((await api('GET', '/rotators')).json.items).toContainEqual(expect.objectContaining(damaged));
    expect(await api('POST', '/rotators/gone/to/rotate')).toMatchObject({ status: 500, json: { code: 'integrity' } });
    expect(await put('gone/to', { kind: 'password' }, 200)).toMatchObject({ attempts: 0, last_error: null });
    expect((await api('POST', '/rotators/gone/to/rotate')).json).toMatchObject({ version: 3 });
  });
});
