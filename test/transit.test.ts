/**
 * Named keys: a contract that every type of key keeps: ciphertexts, derivation, signatures, HMACs, and an audit log without
 * values. What happens to keys over time is in transit.version.test.ts, who may use them in transit.use.test.ts.
 */
import { createPublicKey, hkdfSync, verify as verifySignature } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { KEY_TYPES, type KeyType } from '../src/crypto/named-key.ts';
import { decrypt, encrypt, rewrap } from '../src/transit/cipher.ts';
import { exportKey } from '../src/transit/export.ts';
import { configureKey, createKey, type NewKey, readKey } from '../src/transit/key.ts';
import { computeHash } from '../src/transit/keyless.ts';
import { hashPassword, verifyPassword } from '../src/transit/password.ts';
import { rotateKey } from '../src/transit/rotate.ts';
import { hmac, SCHEME_DEFAULT, type SignatureScheme, sign, verify, verifyHmac } from '../src/transit/sign.ts';
import {
  CIPHERS,
  call,
  dec,
  enc,
  flipped,
  make,
  name,
  only,
  ownVault,
  QUICK,
  reasonOf,
  t,
  utf8,
} from './transit.vault.ts';

ownVault();

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
    await expect(hashPassword(t.vault, call(), await make('no-password'), { password: 'x' })).rejects.toMatchObject({
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

test('T-088 after all of this every ciphertext opens, and no plaintext, context or password stands in any table', async () => {
  await t.check();
});
