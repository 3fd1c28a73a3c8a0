/**
 * Named keys: a contract that every type of key keeps, and what holds across them: versions, faults of single items,
 * other tenants, other nodes, re-encryption of the tenant's data key, and an audit log without values.
 */
import { createPublicKey, hkdfSync, verify as verifySignature } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { KEY_TYPE_NAMES, KEY_TYPES, type KeyType } from '../src/crypto/named-key.ts';
import { readJob } from '../src/job/job.ts';
import { startJobs } from '../src/job/kinds.ts';
import { rotateKey as rotateTenantKey } from '../src/job/reencrypt.ts';
import { rotateDue } from '../src/job/schedule.ts';
import { deleteTenant } from '../src/job/tenant.ts';
import { decrypt, type EncryptItem, encrypt, makeDataKey, makeWrappedDataKey, rewrap } from '../src/transit/cipher.ts';
import { exportKey } from '../src/transit/export.ts';
import { configureKey, createKey, deleteKey, listKeys, type NewKey, readKey, trimKey } from '../src/transit/key.ts';
import { computeHash, makeRandom, sealToPublicKey } from '../src/transit/keyless.ts';
import { type KeyName, parseKeyName } from '../src/transit/name.ts';
import { hashPassword, verifyPassword } from '../src/transit/password.ts';
import { rotateKey } from '../src/transit/rotate.ts';
import { hmac, SCHEME_DEFAULT, type SignatureScheme, sign, verify, verifyHmac } from '../src/transit/sign.ts';
import type { Result } from '../src/transit/use.ts';
import { takeUses } from '../src/transit/uses.ts';
import type { Vault } from '../src/vault.ts';
import { callOf, type TestVault, testVault } from './harness.ts';
import { until } from './until.ts';

let t: TestVault;
beforeAll(async () => {
  t = await testVault();
});
afterAll(() => t.close());

const utf8 = (text: string) => Buffer.from(text);
const name = (text: string) => parseKeyName(text);
const call = (token = t.admin) => callOf(token);

async function make(text: string, wanted: NewKey = {}, token = t.admin): Promise<KeyName> {
  await createKey(t.vault, call(token), name(text), wanted);
  return name(text);
}

/** The only result of a call, or the reason of its fault. */
function only<T>(results: readonly Result<T>[]): T {
  expect(results).toHaveLength(1);
  const [result] = results;
  if ('fault' in result!) throw new Error(`fault ${result.fault.reason}`);
  return result!.ok;
}
const reasonOf = <T>(results: readonly Result<T>[]) =>
  results.map((result) => ('fault' in result ? result.fault.reason : 'ok'));

const enc = async (key: KeyName, item: EncryptItem, token = t.admin, vault: Vault = t.vault) =>
  only(await encrypt(vault, call(token), key, [item])).ciphertext;
const dec = async (key: KeyName, ciphertext: string, bound: object = {}, vault: Vault = t.vault, token = t.admin) =>
  Buffer.from(only(await decrypt(vault, call(token), key, [{ ciphertext, ...bound }])).plaintext).toString();

/** Longer RSA keys take seconds to make: test/long/transit.test.ts has them. */
const QUICK = KEY_TYPE_NAMES.filter((type) => type !== 'rsa-3072' && type !== 'rsa-4096');
const CIPHERS = KEY_TYPE_NAMES.filter((type) => KEY_TYPES[type].family === 'aead');
const flipped = (text: string, back = 6) => {
  const at = text.length - back;
  return text.slice(0, at) + (text[at] === 'A' ? 'B' : 'A') + text.slice(at + 1);
};

describe('every type that encrypts', () => {
  test.each(QUICK.filter((type) => KEY_TYPES[type].encrypts))('%s', async (type) => {
    const key = await make(`enc-${type}`, { type });
    const bound = KEY_TYPES[type].family === 'rsa' ? {} : { associatedData: utf8('row 7') };
    t.secrets.add(`card number of ${type}`);
    const first = await enc(key, { plaintext: utf8(`card number of ${type}`), ...bound });
    expect(first).toMatch(/^vault:v1:[A-Za-z0-9+/]+=*$/);
    expect(await enc(key, { plaintext: utf8(`card number of ${type}`), ...bound })).not.toBe(first);
    expect(await dec(key, first, bound)).toBe(`card number of ${type}`);

    const empty = await enc(key, { plaintext: utf8(''), ...bound });
    expect(await dec(key, empty, bound)).toBe('');

    await rotateKey(t.vault, call(), key);
    expect(await dec(key, first, bound)).toBe(`card number of ${type}`);
    const second = await enc(key, { plaintext: utf8('new'), ...bound });
    expect(second).toMatch(/^vault:v2:/);
    const old = await enc(key, { plaintext: utf8('old'), keyVersion: 1, ...bound });
    expect(old).toMatch(/^vault:v1:/);
    const [moved] = await rewrap(t.vault, call(), key, [{ ciphertext: first, ...bound }]);
    expect(moved).toMatchObject({ ok: { keyVersion: 2 } });
    expect(await dec(key, (moved as { ok: { ciphertext: string } }).ok.ciphertext, bound)).toBe(
      `card number of ${type}`,
    );

    // Of another version, with one bit changed, cut short, without its associated data: it does not open.
    const wrong = [first.replace('v1', 'v2'), flipped(first), first.replace('v1', 'v3'), `${first.slice(0, 29)}=`];
    const other = KEY_TYPES[type].family === 'rsa' ? [] : [{ ciphertext: first, associatedData: utf8('row 8') }];
    const items = [...wrong.map((ciphertext) => ({ ciphertext, ...bound })), ...other];
    const results = await decrypt(t.vault, call(), key, items);
    expect(reasonOf(results).filter((reason) => reason === 'ok')).toEqual([]);
  });

  test('an RSA key takes no associated data, and no text longer than itself', async () => {
    const key = name('enc-rsa-2048');
    const items = [
      { plaintext: utf8('x'), associatedData: utf8('y') },
      { plaintext: Buffer.alloc(191) },
      { plaintext: Buffer.alloc(190) },
    ];
    expect(reasonOf(await encrypt(t.vault, call(), key, items))).toEqual([
      'aad_unsupported',
      'plaintext_too_long',
      'ok',
    ]);
  });
});

describe('derived and convergent keys', () => {
  test.each(CIPHERS)('%s, derived: the context is part of the key', async (type) => {
    const key = await make(`derived-${type}`, { type, derived: true });
    const bound = { context: utf8('customer 1') };
    const text = await enc(key, { plaintext: utf8('secret of a customer'), ...bound });
    expect(await enc(key, { plaintext: utf8('secret of a customer'), ...bound })).not.toBe(text);
    expect(await dec(key, text, bound)).toBe('secret of a customer');
    const items = [{ ciphertext: text }, { ciphertext: text, context: utf8('customer 2') }];
    expect(reasonOf(await decrypt(t.vault, call(), key, items))).toEqual(['context_missing', 'does_not_open']);
  });

  test.each(CIPHERS)('%s, convergent: equal only for equal plaintext, context and associated data', async (type) => {
    const key = await make(`convergent-${type}`, { type, derived: true, convergent: true });
    const item = { plaintext: utf8('iban'), context: utf8('a') };
    const text = await enc(key, item);
    expect(await enc(key, item)).toBe(text);
    const others = [
      await enc(key, { ...item, plaintext: utf8('ibaN') }),
      await enc(key, { ...item, context: utf8('b') }),
      await enc(key, { ...item, associatedData: utf8('x') }),
      await enc(key, { ...item, associatedData: utf8('xi'), plaintext: utf8('ban') }),
    ];
    const nonceOf = (text: string) => Buffer.from(text.split(':')[2]!, 'base64').subarray(0, 12).toString('hex');
    expect(new Set([text, ...others].map(nonceOf)).size).toBe(5);
    expect(await dec(key, others[2]!, { context: utf8('a'), associatedData: utf8('x') })).toBe('iban');
  });

  test('an exported key derives the same outside: HKDF-SHA-256 with the context as info', async () => {
    const key = await make('derived-export', { type: 'ed25519', derived: true, exportable: true });
    const { keys } = await exportKey(t.vault, call(), key, { kind: 'signing-key' });
    const seed = Buffer.from(keys[0]!.key, 'base64').subarray(0, 32);
    const derived = Buffer.from(hkdfSync('sha256', seed, '', 'ctx', 32));
    const pkcs8 = Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), derived]);
    const publicKey = createPublicKey({ key: pkcs8, format: 'der', type: 'pkcs8' } as never);
    const signed = only(await sign(t.vault, call(), key, SCHEME_DEFAULT, [{ input: utf8('m'), context: utf8('ctx') }]));
    const signature = Buffer.from(signed.signature.split(':')[2]!, 'base64');
    expect(verifySignature(null, utf8('m'), publicKey, signature)).toBe(true);
    expect(signed.publicKey).toBe(publicKey.export({ format: 'der', type: 'spki' }).subarray(-32).toString('base64'));
  });

  test('what cannot be derived or convergent is not made so', async () => {
    const refused: NewKey[] = [
      { type: 'rsa-2048', derived: true },
      { type: 'hpke', derived: true },
      { convergent: true },
      { type: 'ed25519', derived: true, convergent: true },
      { macBytes: 64 },
      { type: 'hmac', macBytes: 16 },
      { autoRotateSeconds: 60 },
    ];
    for (const wanted of refused) {
      await expect(createKey(t.vault, call(), name('refused'), wanted)).rejects.toMatchObject({
        code: 'invalid_request',
      });
    }
    await expect(readKey(t.vault, call(), name('refused'))).rejects.toMatchObject({ code: 'not_found' });
  });

  test('a context for a key that is not derived is refused, not ignored', async () => {
    const key = await make('plain');
    const results = await encrypt(t.vault, call(), key, [
      { plaintext: utf8('x'), context: utf8('c') },
      { plaintext: utf8('x') },
    ]);
    expect(reasonOf(results)).toEqual(['context_unexpected', 'ok']);
  });
});

describe('every type that signs', () => {
  const schemes: Partial<Record<KeyType, Partial<SignatureScheme>[]>> = {
    'rsa-2048': [{}, { saltLength: 'hash' }, { saltLength: 20 }, { padding: 'pkcs1v15', hash: 'sha2-512' }],
  };
  test.each(QUICK.filter((type) => KEY_TYPES[type].signs))('%s', async (type) => {
    const key = await make(`sign-${type}`, { type });
    const info = await readKey(t.vault, call(), key);
    expect(info.versions[0]!.publicKey).toMatch(type === 'ed25519' ? /^[A-Za-z0-9+/]{43}=$/ : /^-----BEGIN PUBLIC KEY/);
    for (const change of schemes[type] ?? [{}, { marshaling: 'jws' as const }, { hash: 'sha2-384' as const }]) {
      const scheme = { ...SCHEME_DEFAULT, ...change };
      const { signature } = only(await sign(t.vault, call(), key, scheme, [{ input: utf8('message') }]));
      expect(signature).toMatch(
        scheme.marshaling === 'jws' ? /^vault:v1:[A-Za-z0-9_-]+$/ : /^vault:v1:[A-Za-z0-9+/]+=*$/,
      );
      const valid = async (input: string, text: string, with_ = scheme) =>
        only(await verify(t.vault, call(), key, with_, [{ input: utf8(input), signature: text }])).valid;
      expect(await valid('message', signature)).toBe(true);
      expect(await valid('messagE', signature)).toBe(false);
      expect(await valid('message', flipped(signature, 10))).toBe(false);
      expect(await valid('message', 'vault:v1:')).toBe(false);
      if (type !== 'ed25519') expect(await valid('message', signature, { ...scheme, hash: 'sha3-256' })).toBe(false);
    }
    await rotateKey(t.vault, call(), key);
    const { signature } = only(await sign(t.vault, call(), key, SCHEME_DEFAULT, [{ input: utf8('m'), keyVersion: 1 }]));
    expect(signature).toMatch(/^vault:v1:/);
    const again = signature.replace('v1', 'v2');
    const results = await verify(t.vault, call(), key, SCHEME_DEFAULT, [
      { input: utf8('m'), signature },
      { input: utf8('m'), signature: again },
      { input: utf8('m'), signature: signature.replace('v1', 'v9') },
    ]);
    expect(results).toMatchObject([
      { ok: { valid: true } },
      { ok: { valid: false } },
      { fault: { reason: 'version_unknown' } },
    ]);
  });

  test('a public key verifies outside of the vault what was signed inside', async () => {
    const key = name('sign-ecdsa-p256');
    const { versions } = await readKey(t.vault, call(), key);
    const { signature, keyVersion } = only(await sign(t.vault, call(), key, SCHEME_DEFAULT, [{ input: utf8('out') }]));
    const publicKey = versions.find(({ version }) => version === keyVersion)!.publicKey!;
    expect(verifySignature('sha256', utf8('out'), publicKey, Buffer.from(signature.split(':')[2]!, 'base64'))).toBe(
      true,
    );
  });

  test('prehashed: RSA with pkcs1v15 signs the hash as it signs the message; nothing else takes one', async () => {
    const key = name('sign-rsa-2048');
    const scheme = { ...SCHEME_DEFAULT, padding: 'pkcs1v15', hash: 'sha2-512' } as const;
    const digest = await computeHash(t.vault, call(), { hash: 'sha2-512', input: utf8('message') });
    const whole = only(await sign(t.vault, call(), key, scheme, [{ input: utf8('message') }]));
    const pre = only(await sign(t.vault, call(), key, { ...scheme, prehashed: true }, [{ input: digest }]));
    expect(pre.signature).toBe(whole.signature);
    const ask = (input: Uint8Array) =>
      verify(t.vault, call(), key, { ...scheme, prehashed: true }, [{ input, signature: pre.signature }]);
    expect(only(await ask(digest)).valid).toBe(true);
    expect(only(await ask(Buffer.alloc(64))).valid).toBe(false);
    await expect(ask(utf8('short'))).rejects.toMatchObject({ code: 'invalid_request' });
    for (const other of ['sign-ecdsa-p256', 'sign-ed25519']) {
      const asked = sign(t.vault, call(), name(other), { ...SCHEME_DEFAULT, prehashed: true }, [{ input: digest }]);
      await expect(asked).rejects.toMatchObject({ code: 'invalid_request' });
    }
  });
});

describe('HMACs', () => {
  test('of every type but password, with every hash, checked against RFC 2104 outside', async () => {
    const key = await make('mac', { type: 'hmac', exportable: true, macBytes: 64 });
    const { keys } = await exportKey(t.vault, call(), key, { kind: 'hmac-key', version: 'latest' });
    const { createHmac } = await import('node:crypto');
    const expected = createHmac('sha256', Buffer.from(keys[0]!.key, 'base64')).update('x').digest('base64');
    const made = only(await hmac(t.vault, call(), key, 'sha2-256', [{ input: utf8('x') }]));
    expect(made.hmac).toBe(`vault:v1:${expected}`);
    const items = [
      { input: utf8('x'), hmac: made.hmac },
      { input: utf8('y'), hmac: made.hmac },
      { input: utf8('x'), hmac: 'vault:v1:AAAA' },
      { input: utf8('x'), hmac: expected },
    ];
    const results = await verifyHmac(t.vault, call(), key, 'sha2-256', items);
    expect(results).toMatchObject([
      { ok: { valid: true } },
      { ok: { valid: false } },
      { ok: { valid: false } },
      { fault: { reason: 'no_prefix' } },
    ]);
    const aes = await make('mac-aes');
    expect(only(await hmac(t.vault, call(), aes, 'sha3-512', [{ input: utf8('x') }])).hmac).toHaveLength(9 + 88);
    await expect(encrypt(t.vault, call(), key, [{ plaintext: utf8('x') }])).rejects.toMatchObject({
      details: { reason: 'encryption_not_supported' },
    });
    await expect(sign(t.vault, call(), key, SCHEME_DEFAULT, [{ input: utf8('x') }])).rejects.toMatchObject({
      details: { reason: 'signing_not_supported' },
    });
  });
});

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

describe('passwords', () => {
  test('hash, verify and needs_rehash; the pepper is the key, which leaves with its version', async () => {
    const key = await make('customers', { type: 'password' });
    t.secrets.add('a customer’s password');
    const { hash } = await hashPassword(t.vault, call(), key, { password: 'a customer’s password' });
    expect(hash).toMatch(/^vault:v1:\$argon2id\$v=19\$m=12288,t=3,p=1\$/);
    const check = (password: string, text = hash) => verifyPassword(t.vault, call(), key, { password, hash: text });
    expect(await check('a customer’s password')).toEqual({ valid: true, needsRehash: false });
    expect(await check('another password')).toEqual({ valid: false, needsRehash: false });
    await rotateKey(t.vault, call(), key);
    expect(await check('a customer’s password')).toEqual({ valid: true, needsRehash: true });
    expect(await check('a customer’s password', hash.replace('v1', 'v2'))).toMatchObject({ valid: false });
    await configureKey(t.vault, call(), key, { minDecryptionVersion: 2 });
    for (const text of [hash, hash.slice(9), hash.replace('v1', 'v3'), hash.replace('m=12288', 'm=1048576'), 'x']) {
      await expect(check('a customer’s password', text)).rejects.toMatchObject({ code: 'invalid_request' });
    }
    await expect(hashPassword(t.vault, call(), name('dek'), { password: 'x' })).rejects.toMatchObject({
      code: 'invalid_request',
    });
    await expect(hmac(t.vault, call(), key, 'sha2-256', [{ input: utf8('x') }])).rejects.toMatchObject({
      code: 'invalid_request',
    });
    await expect(hashPassword(t.vault, call(), name('nothing'), { password: 'x' })).rejects.toMatchObject({
      code: 'not_found',
    });
  });

  test('applications take no more than their share of the hashing queue', async () => {
    const node = await t.node({ env: { BULLA_HASH_QUEUE_MAX: '3', BULLA_HASH_CONCURRENCY: '1' } });
    const asked = Array.from({ length: 6 }, () => hashPassword(node, call(), name('customers'), { password: 'x' }));
    const codes = (await Promise.allSettled(asked)).map((one) => (one.status === 'fulfilled' ? 'ok' : one.reason.code));
    expect(codes.filter((code) => code === 'ok').length).toBeGreaterThanOrEqual(1);
    expect(codes.filter((code) => code === 'busy').length).toBeGreaterThanOrEqual(3);
  });
});

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
    const rsa = Array.from({ length: 63 }, () => ({ input: utf8('x') }));
    await expect(sign(t.vault, call(), name('sign-rsa-2048'), SCHEME_DEFAULT, rsa)).rejects.toMatchObject({
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

test('T-088 after all of this every ciphertext opens, and no plaintext, context or password stands in any table', async () => {
  for (const text of ['secret of a customer', 'for the vault only', 'one of the last']) t.secrets.add(text);
  await t.check();
});
