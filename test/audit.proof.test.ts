/**
 * Checkpoints, tiles and proofs of a live log, checked against a tree that the test computes by itself.
 */
import { createHash, createPublicKey, verify } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openLogKeys, signLog } from '../src/audit/checkpoint.ts';
import { haltReason } from '../src/audit/halt.ts';
import { proveEntry, readLogTile } from '../src/audit/proof.ts';
import { parseTilePath } from '../src/audit/tile-path.ts';
import { nodesOf, readExtent } from '../src/audit/tree.ts';
import { createUser } from '../src/auth/user.ts';
import { proveInclusion, verifyConsistency, verifyInclusion } from '../src/crypto/merkle.ts';
import { openNote, parseVerifierKey } from '../src/crypto/note.ts';
import { asTenantId, type TenantId, type Tx, transaction } from '../src/db/database.ts';
import { rotateLogKey } from '../src/tenant/log-key.ts';
import { growLog } from './fixtures/log.ts';
import { naiveRoot, type TestVault, testVault } from './harness.ts';

let t: TestVault;
let tenant: TenantId;

const sha256 = (...parts: Uint8Array[]) => createHash('sha256').update(Buffer.concat(parts)).digest();
const bytes = (text: string) => Buffer.from(text, 'base64');

async function leavesOf(): Promise<Buffer[]> {
  const rows = await t.owner`SELECT lines FROM audit_segments WHERE tenant_id = ${tenant} ORDER BY first_seq`;
  const lines = rows.flatMap((row) => row.lines.toString('utf8').split('\n').slice(0, -1)) as string[];
  return lines.map((line) => sha256(Buffer.of(0), Buffer.from(line)));
}

async function sign() {
  const keys = await openLogKeys(t.vault);
  try {
    return (await signLog(t.vault, tenant, keys))!;
  } finally {
    keys.wipe();
  }
}

beforeAll(async () => {
  t = await testVault();
  const [row] = await t.owner`SELECT tenant_id FROM tenants WHERE name = 'default'`;
  tenant = asTenantId(row!.tenant_id);
});
afterAll(() => t.close());

describe('checkpoints', () => {
  it('a checkpoint is a signed note that a plain Ed25519 check accepts, over the root of all leaves', async () => {
    const note = (await t.request('POST', '/api/v1/audit/checkpoint', { token: t.admin })).text;
    const key = (await t.request('GET', '/api/v1/audit/key', { token: t.admin })).text.trim();
    const [name, id, encoded] = key.split('+') as [string, string, string];
    const publicKey = bytes(`${key.slice(name.length + id.length + 2)}`);
    expect(encoded).toBeDefined();
    const [text, signature] = note.split('\n\n') as [string, string];
    const [origin, size, root] = text.split('\n') as [string, string, string];
    expect(origin).toBe(name);
    const signed = bytes(signature.trim().split(' ')[2]!);
    expect(signed.subarray(0, 4).toString('hex')).toBe(id);
    expect(
      sha256(Buffer.from(`${name}\n`), publicKey)
        .subarray(0, 4)
        .toString('hex'),
    ).toBe(id);
    const x = publicKey.subarray(1).toString('base64url');
    const ed25519 = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' });
    expect(verify(null, Buffer.from(`${text}\n`), ed25519, signed.subarray(4))).toBe(true);
    const leaves = await leavesOf();
    expect(naiveRoot(leaves.slice(0, Number(size))).toString('base64')).toBe(root);
  });

  it('the log announces the key before the first checkpoint, once', async () => {
    await sign();
    const lines = (await t.request('GET', '/api/v1/audit/entries?action=log-key.announce', { token: t.admin })).text;
    const key = (await t.request('GET', '/api/v1/audit/key', { token: t.admin })).text.trim();
    const entries = lines
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(entries).toHaveLength(1);
    expect(entries[0].details.verifier_key).toBe(key);
  });

  it('T-174 signers at the same time never make two checkpoints of one size', async () => {
    const other = await t.node();
    const keys = await openLogKeys(t.vault);
    for (let round = 0; round < 5; round++) {
      await t.request('GET', '/api/v1/audit/key', { token: t.admin });
      const made = await Promise.all([t.vault, other, t.vault, other].map((vault) => signLog(vault, tenant, keys)));
      expect(new Set(made.map((checkpoint) => checkpoint!.note)).size).toBe(1);
    }
    keys.wipe();
    const rows = await t.owner`SELECT size, signed_at FROM audit_checkpoints WHERE tenant_id = ${tenant} ORDER BY size`;
    expect(new Set(rows.map((row) => row.size)).size).toBe(rows.length);
  });

  it('nothing new makes no new checkpoint', async () => {
    const first = await sign();
    expect((await sign()).note).toBe(first.note);
  });

  it('T-098 a rotated log key signs beside the old one, is announced, and old checkpoints still verify', async () => {
    const before = await sign();
    const oldKey = (await t.request('GET', '/api/v1/audit/key', { token: t.admin })).text.trim();
    await rotateLogKey(t.vault, t.call(t.operator));
    const after = await sign();
    expect(
      after.note
        .trimEnd()
        .split('\n')
        .filter((line) => line.startsWith('— ')),
    ).toHaveLength(2);
    const keys = (await t.request('GET', '/api/v1/audit/key?all=true', { token: t.admin })).text.trim().split('\n');
    expect(keys).toHaveLength(2);
    expect(keys[1]).toBe(oldKey);
    for (const key of keys)
      expect(openNote(Buffer.from(after.note), [parseVerifierKey(key)]).text).toContain(`${after.size}`);
    expect(openNote(Buffer.from(before.note), [parseVerifierKey(oldKey)]).text).toContain(`${before.size}`);
    const announced = await t.request('GET', '/api/v1/audit/entries?action=log-key.announce', { token: t.admin });
    expect(announced.text.trim().split('\n')).toHaveLength(2);
  });

  it('a tenant cannot rotate the log key', async () => {
    await expect(rotateLogKey(t.vault, t.call(t.admin))).rejects.toMatchObject({ code: 'forbidden' });
  });
});

describe('proofs over HTTP', () => {
  it('every entry of the checkpoint is proven, and another leaf is not', async () => {
    const { size } = await sign();
    for (let index = 0; index < size; index++) {
      const { json } = await t.request('GET', `/api/v1/audit/proof/inclusion?index=${index}&size=${size}`, {
        token: t.admin,
      });
      const proof = json.proof.map(bytes);
      expect(verifyInclusion(index, size, bytes(json.leaf_hash), proof, bytes(json.root))).toBe(true);
      expect(verifyInclusion(index, size, sha256(Buffer.of(7)), proof, bytes(json.root))).toBe(false);
      expect(json.checkpoint).toContain(json.root);
    }
  });

  it('an index outside the log and a size beyond it are refused', async () => {
    const { size } = await sign();
    for (const query of [`index=${size}&size=${size}`, 'index=0&size=999999', 'index=-1', 'index=1.5', '']) {
      const { status } = await t.request('GET', `/api/v1/audit/proof/inclusion?${query}`, { token: t.admin });
      expect(status, query).toBe(400);
    }
  });

  it('a reader of secrets reads no proof', async () => {
    const token = await t.user('proofless', ['reader']);
    for (const path of ['checkpoint', 'key', 'proof/inclusion?index=0', 'proof/consistency?from=1', 'tile/0/000.p/1']) {
      expect((await t.request('GET', `/api/v1/audit/${path}`, { token })).status, path).toBe(403);
    }
  });
});

describe('tiles', () => {
  it('paths of tiles are read in one spelling only', () => {
    expect(parseTilePath('0/x001/x234/067')).toEqual({ level: 0, tile: 1234067, width: 256 });
    expect(parseTilePath('2/003.p/17')).toEqual({ level: 2, tile: 3, width: 17 });
    for (const wrong of [
      '7/000',
      '0/00',
      '0/x000/067',
      '0/1',
      '0/000.p/0',
      '0/000.p/256',
      '0/000.p/017',
      '0/001/067',
      '',
      '0/000/',
    ]) {
      expect(() => parseTilePath(wrong), wrong).toThrow();
    }
  });

  it('tiles, proofs of inclusion and of consistency hold over tile borders, whatever is stored already', async () => {
    await growLog(t.owner, tenant, 70_000);
    const { root, size } = await sign();
    const [extent] = await t.owner`SELECT tiled_size FROM audit_signing WHERE tenant_id = ${tenant}`;
    expect(size - Number(extent!.tiled_size)).toBeLessThan(256);
    const rows = await t.owner`SELECT hashes FROM audit_leaves WHERE tenant_id = ${tenant} ORDER BY first_seq`;
    const all = Buffer.concat(rows.map((row) => row.hashes));
    const leaf = (i: number) => all.subarray(i * 32, i * 32 + 32);
    for (const index of [0, 1, 255, 256, 257, 65_535, 65_536, 69_000, size - 1]) {
      const made = await proveEntry(t.vault, t.call(t.admin), { index, size });
      expect(Buffer.compare(made.leaf, leaf(index))).toBe(0);
      expect(verifyInclusion(index, size, leaf(index), made.proof, root), String(index)).toBe(true);
    }
    const answer = await t.request('GET', '/api/v1/audit/tile/1/000', { token: t.admin });
    expect(answer.status).toBe(200);
    for (const from of [0, 1, 255, 256, 65_536, 65_537, size - 1, size]) {
      const { json } = await t.request('GET', `/api/v1/audit/proof/consistency?from=${from}&to=${size}`, {
        token: t.admin,
      });
      const leaves = Array.from({ length: from }, (_, i) => leaf(i));
      const fromRoot = from > 70_000 ? bytes(json.from_root) : naiveRoot(leaves);
      expect(fromRoot.toString('base64')).toBe(json.from_root);
      expect(verifyConsistency(from, fromRoot, size, root, json.proof.map(bytes)), String(from)).toBe(true);
    }
  });

  it('a proof reads as many rows as the tree is high, and what is after the last tile', async () => {
    const { size } = await sign();
    expect(size).toBeGreaterThan(70_000);
    // What earlier transactions of the connection read is still in these counts: a difference is taken.
    const rowsRead = async (tx: Tx) => {
      const [read] = await tx<{ rows: number }[]>`
        SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))::int AS rows FROM pg_stat_xact_user_tables
        WHERE schemaname = 'bulla' AND relname IN ('audit_tiles', 'audit_leaves')`;
      return read!.rows;
    };
    for (const index of [0, 12_345, size - 1]) {
      const { rows, tail } = await transaction(t.vault.db, [tenant], async (tx) => {
        const extent = await readExtent(tx, tenant);
        const before = await rowsRead(tx);
        await proveInclusion(index, size, nodesOf(tx, tenant, extent));
        return { rows: (await rowsRead(tx)) - before, tail: size - extent.tiledSize };
      });
      expect(rows).toBeGreaterThan(0);
      // At most one tile that is not full yet is read leaf by leaf.
      expect(rows).toBeLessThan(tail + Math.log2(size));
    }
  });

  it('a tile is the hashes at its level, full and partial, as raw bytes', async () => {
    const rows = await t.owner`SELECT hashes FROM audit_leaves WHERE tenant_id = ${tenant} ORDER BY first_seq`;
    const all = Buffer.concat(rows.map((row) => row.hashes));
    expect(await tileBytes('0/001')).toEqual(all.subarray(256 * 32, 512 * 32));
    expect(await tileBytes('0/000.p/17')).toEqual(all.subarray(0, 17 * 32));
    const subtree = (i: number) =>
      naiveRoot(Array.from({ length: 256 }, (_, k) => all.subarray((i * 256 + k) * 32, (i * 256 + k + 1) * 32)));
    expect(await tileBytes('1/000.p/3')).toEqual(Buffer.concat([subtree(0), subtree(1), subtree(2)]));
    expect(await tileBytes('1/001.p/2')).toEqual(Buffer.concat([subtree(256), subtree(257)]));
    expect((await t.request('GET', '/api/v1/audit/tile/1/001', { token: t.admin })).status).toBe(404);
  });
});

async function tileBytes(path: string): Promise<Buffer> {
  return Buffer.from(await readLogTile(t.vault, t.call(t.admin), parseTilePath(path)));
}

describe('a node that finds the log changed', () => {
  it('signs no more, serves no secret and is not ready', async () => {
    await t.request('PUT', '/api/v1/secrets/halt/one', { token: t.admin, body: { text: 'x' } });
    await createUser(t.vault, t.call(t.admin), {
      username: 'watcher',
      password: 'correct horse battery staple',
      policies: ['auditor'],
    });
    await sign();
    await t.owner`UPDATE audit_checkpoints SET root = ${sha256(Buffer.of(1))} WHERE tenant_id = ${tenant} AND size = (SELECT max(size) FROM audit_checkpoints WHERE tenant_id = ${tenant})`;
    await t.request('GET', '/api/v1/audit/key', { token: t.admin });
    await expect(sign()).rejects.toMatchObject({ code: 'integrity' });
    expect(haltReason(t.vault)).toMatch(/two checkpoints|was edited/);
    const read = await t.request('GET', '/api/v1/secrets/halt/one', { token: t.admin });
    expect([read.status, read.json.code]).toEqual([503, 'sealed']);
    const fetched = await t.request('POST', '/api/v1/fetch', { token: t.admin, body: { paths: ['halt/one'] } });
    expect([fetched.status, fetched.json.code]).toEqual([503, 'sealed']);
    expect((await t.request('GET', '/readyz')).status).toBe(503);
    await expect(sign()).rejects.toMatchObject({ code: 'sealed' });
    expect((await t.request('GET', '/api/v1/audit/entries?limit=1', { token: t.admin })).status).toBe(200);
  });
});
