/** Checkpoints on their way out: files, a webhook that fails at first, a PUT store, and a witness of c2sp.org/tlog-witness. */
import { createHash, createPrivateKey, createPublicKey, sign as ed25519Sign } from 'node:crypto';
import { copyFileSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openLogKeys, signLog } from '../src/audit/checkpoint.ts';
import { deliver, type Target, targetsOf } from '../src/audit/delivery.ts';
import { haltReason } from '../src/audit/halt.ts';
import { verifyLog } from '../src/audit/verify-log.ts';
import { verifyConsistency } from '../src/crypto/merkle.ts';
import { asTenantId, type TenantId } from '../src/db/database.ts';
import { startAuditKeeper } from '../src/job/audit-keeper.ts';
import type { Vault } from '../src/vault.ts';
import { type TestVault, testVault } from './harness.ts';

let t: TestVault;
let tenant: TenantId;
const servers: Server[] = [];

beforeAll(async () => {
  t = await testVault();
  tenant = asTenantId((await t.owner`SELECT tenant_id FROM tenants WHERE name = 'default'`)[0]!.tenant_id);
});
afterAll(async () => {
  for (const server of servers) server.close();
  await t.close();
});

type Got = { method: string; path: string; body: string };
type Reply = { status: number; body?: string };

async function receiver(answer: (got: Got) => Reply): Promise<{ url: string; got: Got[] }> {
  const got: Got[] = [];
  const server = createServer(async (incoming, outgoing) => {
    let body = '';
    for await (const piece of incoming) body += piece;
    const one = { method: incoming.method!, path: incoming.url!, body };
    got.push(one);
    const { status, body: text = '' } = answer(one);
    outgoing.writeHead(status).end(text);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  servers.push(server);
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, got };
}

async function sign(vault: Vault) {
  await t.request('GET', '/api/v1/auth/self', { token: t.admin });
  return signed(vault, tenant);
}

async function signed(vault: Vault, log: TenantId) {
  const keys = await openLogKeys(vault);
  const made = (await signLog(vault, log, keys))!;
  keys.wipe();
  return made;
}

/** As if enough time had gone. */
const now = (target: Target) => {
  target.pauses.clear();
  return target;
};

describe('every checkpoint', () => {
  it('is a file of its own, private and whole, and is delivered once', async () => {
    const dir = join(t.dataDir, 'notes');
    const vault = await t.node({ env: { BULLA_CHECKPOINT_DIR: dir } });
    const made = [await sign(vault), await sign(vault)];
    expect(await deliver(vault, targetsOf(vault), [tenant])).toBe(true);
    const folder = join(dir, vault.deploymentId, tenant);
    const files = readdirSync(folder).sort();
    const kept = files.map((file) => readFileSync(join(folder, file), 'utf8'));
    for (const { note } of made) expect(kept).toContain(note);
    expect(statSync(join(folder, files[0]!)).mode & 0o777).toBe(0o600);
  });

  it('reaches a webhook that fails at first, in order, each at least once', async () => {
    let failing = true;
    const { url, got } = await receiver(() => ({ status: failing ? 500 : 204 }));
    const vault = await t.node({ env: { BULLA_CHECKPOINT_WEBHOOK: url } });
    const targets = targetsOf(vault);
    const first = await sign(vault);
    expect(await deliver(vault, targets, [tenant])).toBe(false);
    const before = got.length;
    expect(await deliver(vault, targets, [tenant])).toBe(false);
    expect(got, 'it is left alone for a while').toHaveLength(before);
    const second = await sign(vault);
    failing = false;
    got.length = 0;
    expect(await deliver(vault, targets.map(now), [tenant])).toBe(true);
    const bodies = got.map(({ body }) => body);
    expect(bodies.indexOf(first.note)).toBeGreaterThanOrEqual(0);
    expect(bodies.indexOf(second.note)).toBeGreaterThan(bodies.indexOf(first.note));
    await deliver(vault, targets, [tenant]);
    expect(got).toHaveLength(bodies.length);
  });

  it('of a log that the place refuses keeps no other log from it', async () => {
    const system = asTenantId('system');
    const { url, got } = await receiver(({ path }) => ({ status: path.includes(tenant) ? 404 : 200 }));
    const vault = await t.node({ env: { BULLA_CHECKPOINT_PUT: url } });
    const targets = targetsOf(vault);
    const keys = await openLogKeys(vault);
    await sign(vault);
    for (let round = 1; round <= 2; round++) {
      await t.request('GET', '/api/v1/tenants', { token: t.operator });
      const { note } = (await signLog(vault, system, keys))!;
      expect(await deliver(vault, targets, [tenant, system])).toBe(false);
      expect(got.at(-1)).toMatchObject({ method: 'PUT', body: note });
      expect(got.filter(({ path }) => path.includes(tenant))).toHaveLength(1);
    }
    keys.wipe();
  });

  it('is put under its origin and size', async () => {
    const { url, got } = await receiver(() => ({ status: 200 }));
    const vault = await t.node({ env: { BULLA_CHECKPOINT_PUT: `${url}/bucket/` } });
    const { size, note } = await sign(vault);
    await deliver(vault, targetsOf(vault), [tenant]);
    expect(got.at(-1)).toEqual({ method: 'PUT', path: `/bucket/${vault.deploymentId}/${tenant}/${size}`, body: note });
  });
});

/** A witness as the specification describes it, with a state of its own. */
function witnessOf(name: string) {
  const seed = Buffer.alloc(32, 9);
  const der = Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), seed]);
  const privateKey = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
  const publicKey = createPublicKey(privateKey).export({ format: 'der', type: 'spki' }).subarray(-32);
  const encoded = Buffer.concat([Buffer.of(4), publicKey]);
  const id = createHash('sha256').update(`${name}\n`).update(encoded).digest().subarray(0, 4);
  const seen = new Map<string, { size: number; root: Buffer }>();
  const answer = ({ body }: Got): Reply => {
    const [head = '', ...rest] = body.split('\n\n');
    const [old = '', ...proof] = head.split('\n');
    const text = `${rest[0]}\n`;
    const [origin = '', size, root = ''] = text.split('\n');
    const before = seen.get(origin);
    const from = Number(old.split(' ')[1]);
    if (from !== (before?.size ?? 0)) return { status: 409, body: `${before?.size ?? 0}\n` };
    const hashes = proof.map((line) => Buffer.from(line, 'base64'));
    const now = { size: Number(size), root: Buffer.from(root, 'base64') };
    if (before && !verifyConsistency(from, before.root, now.size, now.root, hashes)) return { status: 422 };
    seen.set(origin, now);
    const time = Buffer.alloc(8);
    time.writeBigUInt64BE(1_790_000_000n);
    const signature = ed25519Sign(null, Buffer.from(`cosignature/v1\ntime 1790000000\n${text}`), privateKey);
    return { status: 200, body: `— ${name} ${Buffer.concat([id, time, signature]).toString('base64')}\n` };
  };
  return { key: `${name}+${id.toString('hex')}+${encoded.toString('base64')}`, answer, seen };
}

describe('a witness', () => {
  it('cosigns checkpoint after checkpoint, and a 409 for a stale size is answered with the proof from there', async () => {
    const witness = witnessOf('witness.example');
    const { url, got } = await receiver(witness.answer);
    const env = { BULLA_WITNESS_URL: url, BULLA_WITNESS_KEY: witness.key };
    const vault = await t.node({ env });
    const targets = targetsOf(vault);
    for (let i = 0; i < 3; i++) {
      await sign(vault);
      expect(await deliver(vault, targets, [tenant])).toBe(true);
    }
    // Another node knows nothing of what the witness has seen.
    const other = await t.node({ env });
    const { size } = await sign(other);
    expect(await deliver(other, targetsOf(other), [tenant])).toBe(true);
    expect(got.filter(({ body }) => body.startsWith('old 0\n')).length).toBe(2);
    expect([...witness.seen.values()][0]!.size).toBe(size);
    const [row] = await t.owner`SELECT cosigned FROM audit_deliveries WHERE target LIKE 'witness%'`;
    expect(row!.cosigned).toMatch(new RegExp(`\\n${size}\\n[\\s\\S]*— witness\\.example `));
  });

  it.each([
    ['422', { status: 422 }],
    ['another line', { status: 200, body: '— witness.example AAAA\n' }],
    ['nonsense', { status: 409, body: 'nonsense' }],
    ['nothing', { status: 500 }],
  ])('that answers %s halts nobody: it is tried again', async (_, reply) => {
    const { url } = await receiver(() => reply as Reply);
    const vault = await t.node({
      env: { BULLA_WITNESS_URL: url, BULLA_WITNESS_KEY: witnessOf('witness.example').key },
    });
    await sign(vault);
    expect(await deliver(vault, targetsOf(vault), [tenant])).toBe(false);
    expect(haltReason(vault)).toBeUndefined();
  });

  it('when the log no longer extends what was cosigned, the node halts by its own check', async () => {
    const [row] = await t.owner`SELECT cosigned FROM audit_deliveries WHERE target LIKE 'witness%'`;
    const size = Number(row!.cosigned.split('\n')[1]);
    // The checkpoints after an early one are gone with the rows; only the cosigned note still knows.
    await t.owner`DELETE FROM audit_checkpoints WHERE tenant_id = ${tenant} AND size > 10`;
    await t.owner`UPDATE audit_signing SET signed_size = 0 WHERE tenant_id = ${tenant}`;
    const leaf = createHash('sha256').update('forged').digest();
    await t.owner`UPDATE audit_leaves SET hashes = ${leaf} WHERE tenant_id = ${tenant} AND first_seq = ${size - 1}`;
    const { appendLeaves, EMPTY_TREE } = await import('../src/crypto/merkle.ts');
    const leaves = await t.owner`SELECT hashes FROM audit_leaves WHERE tenant_id = ${tenant} ORDER BY first_seq`;
    const tree = appendLeaves(EMPTY_TREE.size, EMPTY_TREE.frontier, Buffer.concat(leaves.map((one) => one.hashes)));
    await t.owner`UPDATE audit_heads SET frontier = ${tree.frontier} WHERE tenant_id = ${tenant}`;
    const fresh = await t.node();
    await expect(sign(fresh)).rejects.toMatchObject({ code: 'integrity' });
    expect(haltReason(fresh)).toMatch(/was rewritten before entry/);
  });
});

describe('T-095 two nodes that go on from one dump', () => {
  it('a witness cosigns one of them only, which halts nobody; the two notes prove the fork, and the mark refuses the other', async () => {
    // Both are clones of one database, with the keys in it.
    const [a, b] = await Promise.all([testVault(), testVault()]);
    const log = asTenantId((await a.owner`SELECT tenant_id FROM tenants WHERE name = 'default'`)[0]!.tenant_id);
    const witness = witnessOf('witness.example');
    const { url, got } = await receiver(witness.answer);
    const statuses: number[] = [];
    const counting = await receiver((one) => {
      const reply = witness.answer(one);
      statuses.push(reply.status);
      return reply;
    });
    const goOn = async (vault: TestVault, acts: number, at: string) => {
      for (let i = 0; i < acts; i++) await vault.request('GET', '/api/v1/auth/self', { token: vault.admin });
      const node = await vault.node({ env: { BULLA_WITNESS_URL: at, BULLA_WITNESS_KEY: witness.key } });
      const { note, size } = await signed(node, log);
      return { node, note, size, delivered: await deliver(node, targetsOf(node), [log]) };
    };
    const first = await goOn(a, 3, url);
    expect(first.delivered).toBe(true);
    const second = await goOn(b, 5, counting.url);
    expect(second.size).toBeGreaterThan(first.size);
    expect(second.delivered).toBe(false);
    expect(statuses).toEqual([409, 422]);
    expect(got).toHaveLength(1);
    expect(haltReason(second.node)).toBeUndefined();

    const key = (await b.request('GET', '/api/v1/audit/key', { token: b.admin })).text.trim();
    const { text } = await b.request('GET', `/api/v1/audit/entries?to_index=${second.size}`, { token: b.admin });
    const ofB = { checkpoint: second.note, keys: [key] };
    expect(await verifyLog(() => [Buffer.from(text)], ofB)).toMatchObject({ ok: true });
    const report = await verifyLog(() => [Buffer.from(text)], { ...ofB, older: first.note });
    expect(report).toMatchObject({
      ok: false,
      problems: [expect.stringContaining('forked or rewritten before entry')],
    });

    // The mark that stands beside one of them, with the other's database; and with the dump itself.
    const keeper = await startAuditKeeper(first.node, join(a.dataDir, 'mark'));
    await keeper.stop();
    const marked = () => {
      copyFileSync(join(a.dataDir, 'mark'), join(a.dataDir, 'mark-kept'));
      return join(a.dataDir, 'mark-kept');
    };
    for (let i = 0; i < 9; i++) await b.request('GET', '/api/v1/tenants', { token: b.operator });
    await expect(startAuditKeeper(await b.node(), marked())).rejects.toThrow(/was rewritten before entry \d+/);
    const dump = await testVault();
    await expect(startAuditKeeper(dump.vault, marked())).rejects.toThrow(/has \d+ entries, and \d+ were signed/);
    await Promise.all([a.close(), b.close(), dump.close()]);
  });
});
