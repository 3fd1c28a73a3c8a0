/** Named keys in use: many items in a call, other tenants and policies, and the re-encryption of what is stored of them. */
import { describe, expect, test } from 'vitest';
import { readJob } from '../src/job/job.ts';
import { startJobs } from '../src/job/kinds.ts';
import { rotateKey as rotateTenantKey } from '../src/job/reencrypt.ts';
import { deleteTenant } from '../src/job/tenant.ts';
import { decrypt, encrypt, makeDataKey } from '../src/transit/cipher.ts';
import { exportKey } from '../src/transit/export.ts';
import { deleteKey, listKeys } from '../src/transit/key.ts';
import { makeRandom } from '../src/transit/keyless.ts';
import { parseKeyName } from '../src/transit/name.ts';
import { rotateKey } from '../src/transit/rotate.ts';
import { SCHEME_DEFAULT, sign } from '../src/transit/sign.ts';
import { call, dec, enc, make, name, ownVault, reasonOf, t, utf8 } from './transit.vault.ts';
import { until } from './until.ts';

ownVault();

describe('items of a call', () => {
  test('keep their order, their references and their faults; one entry says how many', async () => {
    const key = await make('batch');
    const good = await enc(key, { plaintext: utf8('good') });
    const items = [
      { ciphertext: good, reference: 'a' },
      { ciphertext: 'vault:v1:', reference: 'b' },
      { rejected: 'the protocol says no', reference: 'c' },
      { ciphertext: 'vault:v1' },
      { ciphertext: 'vault:v01:AAAA' },
      { ciphertext: 'nothing' },
      { ciphertext: good.replace(/:(?=[^:]*$)/, ':!') },
    ];
    const asked = call();
    const results = await decrypt(t.vault, asked, key, items);
    expect(reasonOf(results)).toEqual([
      'ok',
      'bad_length',
      'rejected',
      'bad_fields',
      'bad_version',
      'no_prefix',
      'bad_base64',
    ]);
    expect(results.map(({ reference }) => reference)).toEqual([
      'a',
      'b',
      'c',
      undefined,
      undefined,
      undefined,
      undefined,
    ]);
    const entries = await t.request('GET', '/api/v1/audit/entries?action=transit.decrypt&resource=transit:batch', {
      token: t.admin,
    });
    const lines = entries.text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(lines.filter(({ request }) => request === asked.requestId)).toMatchObject([
      { outcome: 'ok', details: { items: 7, failed: 6, type: 'aes256-gcm96' } },
    ]);
    const failing = call();
    expect(reasonOf(await decrypt(t.vault, failing, key, [{ ciphertext: 'x' }, { ciphertext: 'y' }]))).toHaveLength(2);
    const after = await t.request('GET', '/api/v1/audit/entries?action=transit.decrypt&outcome=error', {
      token: t.admin,
    });
    expect(after.text).toContain(failing.requestId);
  });

  test('are bounded by what they cost', async () => {
    const key = name('batch');
    const many = Array.from({ length: 1000 }, () => ({ plaintext: utf8('x') }));
    expect(await encrypt(t.vault, call(), key, many)).toHaveLength(1000);
    for (const items of [[], [...many, ...many]]) {
      await expect(encrypt(t.vault, call(), key, items)).rejects.toMatchObject({ code: 'invalid_request' });
    }
    const signing = await make('signing', { type: 'rsa-2048' });
    const rsa = Array.from({ length: 63 }, () => ({ input: utf8('x') }));
    await expect(sign(t.vault, call(), signing, SCHEME_DEFAULT, rsa)).rejects.toMatchObject({
      details: { reason: 'too_many_items' },
    });
  });
});

describe('others', () => {
  test('another tenant has its own keys of the same name, and sees and opens none of ours', async () => {
    const other = await t.tenant('other-transit');
    const key = await make('shared-name');
    const text = await enc(key, { plaintext: utf8('ours') });
    await expect(decrypt(t.vault, call(other), key, [{ ciphertext: text }])).rejects.toMatchObject({
      code: 'not_found',
    });
    await make('shared-name', {}, other);
    expect(reasonOf(await decrypt(t.vault, call(other), key, [{ ciphertext: text }]))).toEqual(['does_not_open']);
    expect((await listKeys(t.vault, call(other), {})).items.map((item) => item.name)).toEqual(['shared-name']);
    await expect(encrypt(t.vault, call(t.operator), key, [{ plaintext: utf8('x') }])).rejects.toMatchObject({
      code: 'not_found',
    });
    await deleteTenant(t.vault, call(t.operator), 'other-transit');
    const left =
      await t.owner`SELECT count(*)::int AS n FROM transit_keys JOIN tenants USING (tenant_id) WHERE state <> 'active'`;
    expect(left[0]!.n).toBe(0);
  });

  test('a policy names keys: who may encrypt with one may neither decrypt nor use another; key-admin only rotates', async () => {
    const key = await make('writer-key');
    const writer = await t.user(
      'transit-writer',
      [],
      [{ effect: 'allow', actions: ['transit.encrypt', 'transit.list'], resources: ['transit:writer-*'] }],
    );
    const text = await enc(key, { plaintext: utf8('x') }, writer);
    await expect(decrypt(t.vault, call(writer), key, [{ ciphertext: text }])).rejects.toMatchObject({
      code: 'forbidden',
    });
    await expect(makeDataKey(t.vault, call(writer), key, { bits: 256 })).rejects.toMatchObject({ code: 'forbidden' });
    await expect(enc(name('batch'), { plaintext: utf8('x') }, writer)).rejects.toMatchObject({ code: 'forbidden' });
    await expect(enc(name('absent'), { plaintext: utf8('x') }, writer)).rejects.toMatchObject({ code: 'forbidden' });
    expect((await listKeys(t.vault, call(writer), {})).items.map((item) => item.name)).toEqual(['writer-key']);
    const keyAdmin = await t.user('transit-key-admin', ['key-admin']);
    expect((await rotateKey(t.vault, call(keyAdmin), key)).latestVersion).toBe(2);
    for (const asked of [
      () => decrypt(t.vault, call(keyAdmin), key, [{ ciphertext: text }]),
      () => encrypt(t.vault, call(keyAdmin), key, [{ plaintext: utf8('x') }]),
      () => exportKey(t.vault, call(keyAdmin), key, { kind: 'encryption-key' }),
      () => deleteKey(t.vault, call(keyAdmin), key),
      () => makeRandom(t.vault, call(keyAdmin), { bytes: 8 }),
    ]) {
      await expect(asked()).rejects.toMatchObject({ code: 'forbidden' });
    }
  });

  test('re-encryption under a new data key moves every version, and what they encrypted still opens', async () => {
    const token = await t.tenant('moving-transit');
    const key = await make('moving', {}, token);
    const text = await enc(key, { plaintext: utf8('kept') }, token);
    await rotateKey(t.vault, call(token), key);
    const runner = startJobs(t.vault);
    try {
      const { job } = await rotateTenantKey(t.vault, call(token), { reencrypt: true });
      const end = await until('the job to end', async () => {
        const now = await readJob(t.vault, call(token), job!.id);
        return now.state === 'done' && now;
      });
      expect(end).toMatchObject({ report: { moved: { transit_key_versions: 2 }, left: { transit_key_versions: 0 } } });
    } finally {
      await runner.stop();
    }
    expect(await dec(key, text, {}, await t.node(), token)).toBe('kept');
  });

  test('a row that was moved to another key, version or type does not open', async () => {
    const [from, to] = [await make('moved-from'), await make('moved-to')];
    const text = await enc(from, { plaintext: utf8('x') });
    await t.owner`
      UPDATE transit_key_versions a SET envelope = b.envelope, key_version = b.key_version
      FROM transit_key_versions b, transit_keys ka, transit_keys kb
      WHERE ka.name = 'moved-to' AND kb.name = 'moved-from' AND a.key_id = ka.key_id AND b.key_id = kb.key_id`;
    const node = await t.node();
    await expect(decrypt(node, call(), to, [{ ciphertext: text }])).rejects.toMatchObject({ code: 'integrity' });
    await t.owner`DELETE FROM transit_keys WHERE name = 'moved-to'`;
  });

  test('names that are not canonical are refused', () => {
    for (const text of ['', '-a', 'a-', '.a', 'a/b', 'a b', 'ä', 'a\n', 'a'.repeat(129), '**', 'a*']) {
      expect(() => parseKeyName(text)).toThrow(/expected 1 to 128/);
    }
    expect(parseKeyName('Prod_orders.v2-eu')).toBe('Prod_orders.v2-eu');
  });
});
