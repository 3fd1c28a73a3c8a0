/** Named keys over time: versions that come, are due, and go; on every node, and at once; and what leaves the vault of them. */
import { describe, expect, test } from 'vitest';
import { rotateDue } from '../src/job/schedule.ts';
import { decrypt, encrypt, makeDataKey, makeWrappedDataKey } from '../src/transit/cipher.ts';
import { exportKey } from '../src/transit/export.ts';
import { configureKey, createKey, deleteKey, readKey, trimKey } from '../src/transit/key.ts';
import { sealToPublicKey } from '../src/transit/keyless.ts';
import { rotateKey } from '../src/transit/rotate.ts';
import { takeUses } from '../src/transit/uses.ts';
import { call, dec, enc, make, name, only, ownVault, reasonOf, t, utf8 } from './transit.vault.ts';

ownVault();

describe('versions', () => {
  test('min_decryption_version, min_encryption_version and trim take versions away, on every node and at once', async () => {
    const node = await t.node();
    const key = await make('versions');
    const texts = [await enc(key, { plaintext: utf8('1') })];
    for (const text of ['2', '3']) {
      await rotateKey(t.vault, call(), key);
      texts.push(await enc(key, { plaintext: utf8(text) }));
    }
    // In memory of both nodes.
    for (const [i, text] of texts.entries()) expect(await dec(key, text, {}, node)).toBe(String(i + 1));
    await configureKey(t.vault, call(), key, { minDecryptionVersion: 2 });
    const all = texts.map((ciphertext) => ({ ciphertext }));
    expect(reasonOf(await decrypt(node, call(), key, all))).toEqual(['version_too_old', 'ok', 'ok']);
    await configureKey(t.vault, call(), key, { minDecryptionVersion: 1 });
    expect(reasonOf(await decrypt(node, call(), key, all))).toEqual(['ok', 'ok', 'ok']);

    await configureKey(t.vault, call(), key, { minEncryptionVersion: 2 });
    const wanted = [1, 2, 3, 4].map((keyVersion) => ({ plaintext: utf8('x'), keyVersion }));
    expect(reasonOf(await encrypt(node, call(), key, wanted))).toEqual([
      'version_refused',
      'ok',
      'ok',
      'version_refused',
    ]);

    await expect(trimKey(t.vault, call(), key, { minAvailableVersion: 2 })).rejects.toMatchObject({
      code: 'invalid_request',
    });
    await configureKey(t.vault, call(), key, { minDecryptionVersion: 2 });
    const trimmed = await trimKey(t.vault, call(), key, { minAvailableVersion: 2 });
    expect(trimmed.versions.map(({ version }) => version)).toEqual([3, 2]);
    expect(reasonOf(await decrypt(node, call(), key, all))).toEqual(['version_unknown', 'ok', 'ok']);
    for (const change of [{ minDecryptionVersion: 1 }, { minDecryptionVersion: 4 }, { minEncryptionVersion: 1 }]) {
      await expect(configureKey(t.vault, call(), key, change)).rejects.toMatchObject({ code: 'invalid_request' });
    }
  });

  test('a key that is deleted is gone on every node; one made again under its name opens nothing of it', async () => {
    const node = await t.node();
    const key = await make('gone');
    const text = await enc(key, { plaintext: utf8('lost') }, t.admin, node);
    await expect(deleteKey(t.vault, call(), key)).rejects.toMatchObject({
      details: { reason: 'deletion_not_allowed' },
    });
    await configureKey(t.vault, call(), key, { deletionAllowed: true });
    await deleteKey(t.vault, call(), key);
    await expect(decrypt(node, call(), key, [{ ciphertext: text }])).rejects.toMatchObject({ code: 'not_found' });
    await make('gone');
    expect(reasonOf(await decrypt(node, call(), key, [{ ciphertext: text }]))).toEqual(['does_not_open']);
  });

  test('rotations at once make one version each, and all of them work', async () => {
    const key = await make('storm');
    const node = await t.node();
    await Promise.all(Array.from({ length: 8 }, (_, i) => rotateKey(i % 2 ? t.vault : node, call(), key)));
    const { latestVersion, versions } = await readKey(t.vault, call(), key);
    expect([latestVersion, versions.length]).toEqual([9, 9]);
    const texts = await encrypt(
      t.vault,
      call(),
      key,
      versions.map(({ version }) => ({ plaintext: utf8(String(version)), keyVersion: version })),
    );
    expect(reasonOf(texts).every((reason) => reason === 'ok')).toBe(true);
  });

  test('two make a key of one name at once: one is made, the other hears of it', async () => {
    const made = await Promise.allSettled([make('once'), make('once'), make('once')]);
    expect(made.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    const kept = await createKey(t.vault, call(), name('once'), { type: 'hmac' }, { ifExists: 'keep' });
    expect(kept).toMatchObject({ created: false, key: { type: 'aes256-gcm96' } });
  });

  test('a key rotates by itself when it is due, once, whoever looks', async () => {
    const key = await make('by-age', { autoRotateSeconds: 3600 });
    const later = await t.node({ clockOffsetSeconds: 3700 });
    const latest = async () => (await readKey(t.vault, call(), key)).latestVersion;
    await rotateDue(t.vault);
    expect(await latest()).toBe(1);
    await Promise.all([rotateDue(later), rotateDue(later)]);
    expect(await latest()).toBe(2);
    await rotateDue(later);
    expect(await latest()).toBe(2);
    const { text } = await t.request('GET', '/api/v1/audit/entries?action=transit.rotate&resource=transit:by-age', {
      token: t.admin,
    });
    expect(JSON.parse(text)).toMatchObject({ actor: { kind: 'vault' }, version: 2, details: { by_age: true } });
  });

  test('T-011 a key rotates before 2^32 nonces; what a killed node had reserved stays counted', async () => {
    const key = await make('counted');
    const reserved = async (version: number) => {
      const [row] = await t.owner`
        SELECT u.reserved FROM transit_key_uses u JOIN transit_keys k USING (tenant_id, key_id)
        WHERE k.name = 'counted' AND u.version = ${version}`;
      return Number(row!.reserved);
    };
    await enc(key, { plaintext: utf8('x') });
    expect(await reserved(1)).toBe(65_536);
    // A node that is killed after this one encryption has used 1 of its block, and 65,536 are counted.
    await enc(key, { plaintext: utf8('x') }, t.admin, await t.node());
    expect(await reserved(1)).toBe(2 * 65_536);
    await t.owner`
      UPDATE transit_key_uses u SET reserved = ${2 ** 32 - 65_536 - 1} FROM transit_keys k
      WHERE k.tenant_id = u.tenant_id AND k.key_id = u.key_id AND k.name = 'counted'`;
    const node = await t.node();
    expect(await enc(key, { plaintext: utf8('one of the last') }, t.admin, node)).toMatch(/^vault:v1:/);
    const fresh = await t.node();
    expect(await enc(key, { plaintext: utf8('the first of the next') }, t.admin, fresh)).toMatch(/^vault:v2:/);
    expect(await reserved(1)).toBeLessThanOrEqual(2 ** 32);
    const pinned = encrypt(fresh, call(), key, [{ plaintext: utf8('x'), keyVersion: 1 }]);
    await expect(pinned).rejects.toMatchObject({ code: 'conflict' });
    const { tenant_id: tenant, key_id: id } = (
      await t.owner`SELECT tenant_id, key_id FROM transit_keys WHERE name = 'counted'`
    )[0]!;
    // A batch as large as what is left, and no larger one, is served from a block.
    expect(await takeUses(fresh, tenant, id, 2, 65_535)).toBe(true);
    expect(await reserved(2)).toBe(65_536);
    const wide = await make('uncounted', { type: 'xchacha20-poly1305' });
    await enc(wide, { plaintext: utf8('x') });
    const [row] =
      await t.owner`SELECT reserved FROM transit_key_uses u JOIN transit_keys k USING (tenant_id, key_id) WHERE k.name = 'uncounted'`;
    expect(Number(row!.reserved)).toBe(0);
  });
});

describe('data keys', () => {
  test('are random, of the size asked for, and come back by decrypting', async () => {
    const key = await make('dek');
    for (const bits of [128, 256, 512] as const) {
      const result = await makeDataKey(t.vault, call(), key, { bits });
      const { plaintext, ciphertext } = only([result]);
      expect(plaintext).toHaveLength(bits / 8);
      const opened = only(await decrypt(t.vault, call(), key, [{ ciphertext }])).plaintext;
      expect(Buffer.from(opened).equals(plaintext)).toBe(true);
    }
    const wrapped = only([await makeWrappedDataKey(t.vault, call(), key, { bits: 256 })]);
    expect(Object.keys(wrapped).sort()).toEqual(['ciphertext', 'keyVersion']);
  });
});

describe('exports', () => {
  test('only of exportable keys, by an action of their own; public halves need neither', async () => {
    const key = await make('export', { type: 'ecdsa-p256' });
    const reader = await t.user(
      'exporter',
      [],
      [{ effect: 'allow', actions: ['transit.read'], resources: ['transit:export'] }],
    );
    const asPem = await exportKey(t.vault, call(reader), key, { kind: 'public-key' });
    expect(asPem.keys[0]!.key).toMatch(/BEGIN PUBLIC KEY/);
    await expect(exportKey(t.vault, call(reader), key, { kind: 'signing-key' })).rejects.toMatchObject({
      code: 'forbidden',
    });
    await expect(exportKey(t.vault, call(), key, { kind: 'signing-key' })).rejects.toMatchObject({
      details: { reason: 'not_exportable' },
    });
    await configureKey(t.vault, call(), key, { exportable: true });
    await expect(configureKey(t.vault, call(), key, { exportable: false })).rejects.toMatchObject({
      code: 'invalid_request',
    });
    const { keys } = await exportKey(t.vault, call(), key, { kind: 'signing-key' });
    expect(keys).toMatchObject([{ version: 1, key: expect.stringMatching(/^-----BEGIN EC PRIVATE KEY/) }]);
    await expect(exportKey(t.vault, call(), key, { kind: 'encryption-key' })).rejects.toMatchObject({
      details: { reason: 'wrong_kind' },
    });
    await expect(exportKey(t.vault, call(), name('dek'), { kind: 'public-key' })).rejects.toMatchObject({
      details: { reason: 'wrong_kind' },
    });
  });
});

describe('HPKE', () => {
  test('whoever has the public key seals, only the vault opens; the info is bound', async () => {
    const key = await make('inbox', { type: 'hpke' });
    const publicKey = Buffer.from((await readKey(t.vault, call(), key)).versions[0]!.publicKey!, 'base64');
    const message = { plaintext: utf8('for the vault only'), info: utf8('i'), associatedData: utf8('a') };
    const sealed = await sealToPublicKey(t.vault, call(), { publicKey, ...message });
    const ciphertext = `vault:v1:${Buffer.from(sealed).toString('base64')}`;
    expect(await dec(key, ciphertext, { context: utf8('i'), associatedData: utf8('a') })).toBe('for the vault only');
    const wrong = [{ ciphertext }, { ciphertext, context: utf8('j'), associatedData: utf8('a') }];
    expect(reasonOf(await decrypt(t.vault, call(), key, wrong))).toEqual(['does_not_open', 'does_not_open']);
    for (const bad of [Buffer.alloc(32), Buffer.alloc(31), Buffer.concat([Buffer.of(1), Buffer.alloc(31)])]) {
      await expect(sealToPublicKey(t.vault, call(), { publicKey: bad, ...message })).rejects.toMatchObject({
        code: 'invalid_request',
      });
    }
  });
});
