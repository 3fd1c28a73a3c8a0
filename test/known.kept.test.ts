/** What is kept of the rows that reads rest on: nothing that may have changed since, and no more than a few megabytes. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LIMITS } from '../src/config.ts';
import type { TenantId } from '../src/db/database.ts';
import type { AccessRow } from '../src/policy/access.ts';
import { createKnownTenants } from '../src/policy/known.ts';
import type { VersionRow } from '../src/policy/opened.ts';
import { fetchSecrets } from '../src/secret/fetch.ts';
import { parsePath, type SecretPath } from '../src/secret/path.ts';
import { putSecret } from '../src/secret/secret.ts';
import type { Vault } from '../src/vault.ts';
import { type TestVault, testVault } from './harness.ts';
import { until } from './until.ts';
import { codeOf, holdHead, tenantId, text } from './witness.ts';

let t: TestVault;
let reader: Vault;
let tenant: TenantId;

beforeAll(async () => {
  t = await testVault();
  reader = t.vault;
  tenant = await tenantId(t.owner, 'default');
});
afterAll(() => t.close());

/** What is left when all that nobody holds is gone. */
function memoryUsage(): NodeJS.MemoryUsage {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  collect();
  return process.memoryUsage();
}
const heapUsed = () => memoryUsage().heapUsed;

describe('what is kept', () => {
  const headAt = (size: number, changes = 3) => {
    const time = '2026-01-02T03:04:05.000000Z';
    return {
      tenant,
      size,
      frontier: new Uint8Array(),
      aclRevision: 0,
      changes,
      lastTime: time,
      now: time,
      sealed: false,
    };
  };
  const version = (bytes: number) => ({ envelope: new Uint8Array(bytes), metadataEnvelope: null }) as VersionRow;

  it('only what was read under the count that stands, whoever else moves the head', () => {
    const tenants = createKnownTenants(reader);
    tenants.set(headAt(5), reader.db.made);
    const known = tenants.get(tenant)!;
    known.keepVersion('before', version(1), 2);
    known.keepToken('before', {} as AccessRow, 2);
    known.keepVersion('good', version(1), 3);
    tenants.wasRight(known, known.head!, headAt(9), 0);
    expect(known.head!.size).toBe(9);
    tenants.wasWrong(known, known.head!);
    expect(known.head).toBeUndefined();
    tenants.set(headAt(20), reader.db.made);
    known.keepVersion('later', version(1), 3);
    expect(tenants.get(tenant)).toBe(known);
    expect(['before', 'good', 'later'].map((name) => known.version(name) !== undefined)).toEqual([false, true, true]);
    expect(known.token('before')).toBeUndefined();
    // Something has changed: a row says it, or a head.
    known.keepVersion('after', version(1), 4);
    expect(tenants.get(tenant)).toBeUndefined();
    tenants.set(headAt(21, 4), reader.db.made);
    expect(tenants.get(tenant)!.version('good')).toBeUndefined();
    tenants.get(tenant)!.keepVersion('new', version(1), 4);
    tenants.set(headAt(22, 5), reader.db.made);
    expect(tenants.get(tenant)!.version('new')).toBeUndefined();
  });

  it('a head of before in no place of a later one, and a guess that another act has overtaken is no wrong one', () => {
    const tenants = createKnownTenants(reader);
    tenants.set(headAt(5), reader.db.made);
    const known = tenants.get(tenant)!;
    const guess = known.head!;
    tenants.set(headAt(9), reader.db.made);
    tenants.set(headAt(7), reader.db.made);
    tenants.wasWrong(known, guess);
    tenants.wasRight(known, guess, headAt(6), 0);
    expect(known.head!.size).toBe(9);
    tenants.set(headAt(11, 2), reader.db.made);
    expect(tenants.get(tenant)).toBe(known);
    expect(known.head!.size).toBe(9);
  });

  it('nothing of before a connection was made, or of a tenant that was forgotten', () => {
    const tenants = createKnownTenants(reader);
    tenants.set(headAt(5), reader.db.made);
    const known = tenants.get(tenant)!;
    tenants.forget(tenant);
    known.keepVersion('late', version(1), 3);
    expect(known.version('late')).toBeUndefined();
    tenants.set(headAt(5), reader.db.made - 1);
    expect(tenants.get(tenant)).toBeUndefined();
    const db = { ...reader.db };
    const before = createKnownTenants({ clock: reader.clock, db });
    before.set(headAt(5), db.made);
    expect(before.get(tenant)).toBeDefined();
    db.made += 1;
    expect(before.get(tenant)).toBeUndefined();
  });

  it('no target of a request because a path was a part of it', () => {
    const tenants = createKnownTenants(reader);
    tenants.set(headAt(5), reader.db.made);
    const known = tenants.get(tenant)!;
    const before = heapUsed();
    for (let i = 0; i < 1_000; i += 1) {
      const target = `/v1/secret/data/of/a/target/${i}?${'x'.repeat(50_000)}`;
      const path = target.slice('/v1/secret/data/'.length, target.indexOf('?'));
      known.keepVersion(path, version(1), 3);
    }
    expect(known.version('of/a/target/999')).toBeDefined();
    expect(heapUsed() - before).toBeLessThan(LIMITS.knownRowsBytesMax);
  });

  it('of tokens too: their grants count, and their hashes keep nothing else', () => {
    const tenants = createKnownTenants(reader);
    const names = Array.from({ length: 1_000 }, (_, i) => String(i));
    const grant = 'g'.repeat(60_000);
    let most = 0;
    for (const name of names) {
      if (!tenants.get(tenant)) tenants.set(headAt(5), reader.db.made);
      const known = tenants.get(tenant)!;
      const row = { secretHash: Buffer.from('ab'.repeat(32), 'hex'), certificate: null, grants: [grant, grant] };
      known.keepToken(name, row as unknown as AccessRow, 3);
      expect(known.token(name)?.secretHash.buffer.byteLength ?? 32).toBe(32);
      most = Math.max(most, names.filter((one) => known.token(one)).length);
    }
    expect(most * 2 * grant.length).toBeLessThanOrEqual(LIMITS.knownRowsBytesMax);
    expect(most).toBeGreaterThan(20);
  });

  it('no more than a few megabytes, of copies', () => {
    const tenants = createKnownTenants(reader);
    const names = Array.from({ length: 2_000 }, (_, i) => String(i));
    let most = 0;
    for (const name of names) {
      if (!tenants.get(tenant)) tenants.set(headAt(5), reader.db.made);
      const known = tenants.get(tenant)!;
      const row = version(16_000);
      known.keepVersion(name, row, 3);
      expect(known.version(name)?.envelope?.buffer).not.toBe(row.envelope!.buffer);
      most = Math.max(most, names.filter((one) => known.version(one)).length);
    }
    expect(most * 16_000).toBeLessThanOrEqual(LIMITS.knownRowsBytesMax);
    expect(most).toBeGreaterThan(400);
  });
});

describe('what waits for the log', () => {
  it('is no more plaintext than a round or two of it, however many fetch', async () => {
    const acmeAdmin = await t.tenant('acme');
    const paths = Array.from({ length: 100 }, (_, i) => parsePath(`waits/${i}`));
    const [bytes, fetches] = [15_000, 60];
    const put = (token: string, path: SecretPath) => putSecret(t.vault, t.call(token), path, text('x'.repeat(bytes)));
    await Promise.all(paths.map((path) => put(t.admin, path)));
    await put(acmeAdmin, paths[0]!);
    const patient = await t.node({ env: { BULLA_REQUEST_DEADLINE: '120s' } });
    const fetch = (token: string, asked: readonly SecretPath[]) =>
      codeOf(fetchSecrets(patient, t.call(token), { paths: asked }));
    const theirs = () => fetch(acmeAdmin, paths.slice(0, 1));
    await theirs();
    const release = await holdHead(t.owner, tenant);
    const before = memoryUsage().arrayBuffers;
    const stuck = Array.from({ length: fetches }, () => fetch(t.admin, paths));
    try {
      // Rounds begin in the order of arrival, two at once: after these, all of the others have been opened and left out.
      await theirs();
      await theirs();
      // V8 gives memory back in a thread of its own, some time after a collection.
      const most = (fetches * paths.length * bytes) / 3;
      await until('most of it is given back', () => memoryUsage().arrayBuffers - before < most);
    } finally {
      await release();
    }
    expect(new Set(await Promise.all(stuck))).toEqual(new Set(['ok']));
  });
});
