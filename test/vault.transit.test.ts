/** transit/ under /v1: the texts and shapes of named keys as their clients know them. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type TestVault, testVault } from './harness.ts';
import { errors, v1Of } from './v1.ts';

let t: TestVault;
beforeAll(async () => {
  t = await testVault();
});
afterAll(() => t.close());

const v1 = v1Of(() => t, 'transit/');
const b64 = (text: string) => Buffer.from(text).toString('base64');

describe('transit', () => {
  it('makes, shows, lists, configures, rotates, trims and deletes keys', async () => {
    const made = await v1('POST', 'keys/app', {});
    expect(made.json).toMatchObject({
      mount_type: 'transit',
      warnings: null,
      data: {
        ...{
          name: 'app',
          type: 'aes256-gcm96',
          derived: false,
          deletion_allowed: false,
          exportable: false,
          imported_key: false,
        },
        ...{ latest_version: 1, min_decryption_version: 1, min_encryption_version: 0, min_available_version: 0 },
        ...{ supports_encryption: true, supports_decryption: true, supports_signing: false, supports_derivation: true },
        keys: { 1: expect.any(Number) },
      },
    });
    expect((await v1('POST', 'keys/app', {})).json.warnings).toEqual(['key app already existed']);
    expect((await v1('POST', 'keys/app/rotate')).json.data.latest_version).toBe(2);
    expect(
      (await v1('POST', 'keys/app/config', { min_decryption_version: 2, deletion_allowed: true })).json.data
        .min_decryption_version,
    ).toBe(2);
    expect((await v1('POST', 'keys/app/trim', { min_available_version: 2 })).json.data.keys).toEqual({
      2: expect.any(Number),
    });
    expect((await v1('LIST', 'keys')).json.data.keys).toEqual(['app']);
    await v1('POST', 'keys/kept', { type: 'ed25519' });
    expect((await v1('GET', 'keys/kept')).json.data.keys[1]).toMatchObject({
      name: 'ed25519',
      public_key: expect.any(String),
    });
    expect(errors(await v1('DELETE', 'keys/kept'))).toEqual([
      400,
      ['error deleting policy kept: deletion is not allowed for this key'],
    ]);
    expect((await v1('DELETE', 'keys/app')).status).toBe(204);
    expect(errors(await v1('GET', 'keys/app'))).toEqual([404, []]);
    expect(errors(await v1('POST', 'keys/none/rotate'))).toEqual([400, ['key not found']]);
    expect((await v1('POST', 'keys/odd', { type: 'des' })).status).toBe(400);
  });

  it('encrypts, decrypts and rewraps, with every text of a mistake', async () => {
    await v1('POST', 'keys/enc', {});
    const { ciphertext, key_version } = (
      await v1('POST', 'encrypt/enc', { plaintext: b64('hello'), associated_data: b64('aad') })
    ).json.data;
    expect([ciphertext.startsWith('vault:v1:'), key_version]).toEqual([true, 1]);
    const opened = await v1('POST', 'decrypt/enc', { ciphertext, associated_data: b64('aad') });
    expect(opened.json.data).toEqual({ plaintext: b64('hello') });
    await v1('POST', 'keys/enc/rotate');
    const rewrapped = await v1('POST', 'rewrap/enc', { ciphertext, associated_data: b64('aad') });
    expect(rewrapped.json.data.ciphertext).toMatch(/^vault:v2:/);
    for (const [body, text] of [
      [{ ciphertext }, 'cipher: message authentication failed'],
      [{ ciphertext: 'x' }, 'invalid ciphertext: no prefix'],
      [{ ciphertext: 'vault:v9:AAAA' }, 'invalid ciphertext: version is too new'],
      [{ ciphertext: 'vault:v1:***' }, 'invalid ciphertext: could not decode base64'],
      [{}, 'missing ciphertext to decrypt'],
      [{ ciphertext, context: '***' }, 'illegal base64 data at input byte 0'],
    ] as const) {
      expect([text, ...errors(await v1('POST', 'decrypt/enc', body))]).toEqual([text, 400, [text]]);
    }
    expect(errors(await v1('POST', 'encrypt/enc', {}))).toEqual([400, ['missing plaintext to encrypt']]);
    expect(errors(await v1('POST', 'decrypt/none', { ciphertext }))).toEqual([400, ['encryption key not found']]);
    await v1('POST', 'keys/enc/config', { min_decryption_version: 2 });
    expect(errors(await v1('POST', 'decrypt/enc', { ciphertext, associated_data: b64('aad') }))).toEqual([
      400,
      ['ciphertext or signature version is disallowed by policy (too old)'],
    ]);
    // The first use makes a key, for whoever may make keys.
    expect((await v1('POST', 'encrypt/by-use', { plaintext: b64('x') })).json.data.key_version).toBe(1);
    const narrow = (
      await t.request('PUT', '/v1/sys/policies/acl/only-encrypt', {
        headers: { 'x-vault-token': t.admin },
        raw: JSON.stringify({ policy: 'path "transit/encrypt/+" { capabilities = ["update"] }' }),
      })
    ).status;
    expect(narrow).toBe(204);
    const token = (
      await t.request('POST', '/v1/auth/token/create', {
        headers: { 'x-vault-token': t.admin },
        raw: '{"policies":["only-encrypt"]}',
      })
    ).json.auth.client_token;
    expect((await v1('POST', 'encrypt/enc', { plaintext: b64('x') }, token)).status).toBe(200);
    expect(errors(await v1('POST', 'encrypt/not-there', { plaintext: b64('x') }, token))).toEqual([
      400,
      ['encryption key not found'],
    ]);
    expect((await v1('POST', 'decrypt/enc', { ciphertext }, token)).status).toBe(403);
  });

  it('answers batches in their order, 400 with the envelope when one fails', async () => {
    await v1('POST', 'keys/batch', {});
    const items = ['a', 'b'].map((text) => ({ plaintext: b64(text), reference: text }));
    const made = await v1('POST', 'encrypt/batch', { batch_input: items });
    expect(made.json.data.batch_results).toEqual(
      ['a', 'b'].map((reference) => ({ ciphertext: expect.stringMatching(/^vault:v1:/), key_version: 1, reference })),
    );
    const mixed = [{ ciphertext: made.json.data.batch_results[0].ciphertext }, { ciphertext: 'x', reference: 'r' }];
    const partly = await v1('POST', 'decrypt/batch', { batch_input: mixed });
    expect([partly.status, partly.json.errors, partly.json.data.batch_results]).toEqual([
      400,
      undefined,
      [{ plaintext: b64('a') }, { error: 'invalid ciphertext: no prefix', reference: 'r' }],
    ]);
    expect((await v1('POST', 'decrypt/batch', { batch_input: mixed, partial_failure_response_code: 200 })).status).toBe(
      200,
    );
    expect(errors(await v1('POST', 'decrypt/batch', { batch_input: [] }))).toEqual([
      400,
      ['missing batch input to process'],
    ]);
    expect(
      errors(
        await v1('POST', 'encrypt/batch', { batch_input: [{ plaintext: '', context: 'eA==' }, { plaintext: '' }] }),
      ),
    ).toEqual([400, ['context should be set either in all the request blocks or in none']]);
  });

  it('derived and convergent keys, data keys, signatures, HMACs, hashes and randomness', async () => {
    await v1('POST', 'keys/derived', { derived: true, convergent_encryption: true });
    const encrypt = async () =>
      (await v1('POST', 'encrypt/derived', { plaintext: b64('x'), context: b64('c') })).json.data.ciphertext;
    expect(await encrypt()).toBe(await encrypt());
    expect((await v1('POST', 'encrypt/derived', { plaintext: b64('x') })).json.errors[0]).toMatch(
      /^missing 'context' for key derivation;/,
    );
    const plain = (await v1('POST', 'datakey/plaintext/batch', { bits: 512 })).json.data;
    expect(Buffer.from(plain.plaintext, 'base64')).toHaveLength(64);
    expect((await v1('POST', 'decrypt/batch', { ciphertext: plain.ciphertext })).json.data.plaintext).toBe(
      plain.plaintext,
    );
    expect((await v1('POST', 'datakey/wrapped/batch', {})).json.data.plaintext).toBeUndefined();
    expect(errors(await v1('POST', 'datakey/plaintext/batch', { bits: 7 }))).toEqual([400, ['invalid bit length']]);
    for (const type of ['ed25519', 'ecdsa-p256', 'rsa-2048']) {
      await v1('POST', `keys/sign-${type}`, { type });
      const { signature } = (await v1('POST', `sign/sign-${type}`, { input: b64('m') })).json.data;
      expect(signature).toMatch(/^vault:v1:/);
      expect((await v1('POST', `verify/sign-${type}/sha2-256`, { input: b64('m'), signature })).json.data).toEqual({
        valid: true,
      });
      expect((await v1('POST', `verify/sign-${type}`, { input: b64('n'), signature })).json.data).toEqual({
        valid: false,
      });
    }
    const { hmac } = (await v1('POST', 'hmac/batch/sha2-512', { input: b64('m') })).json.data;
    expect((await v1('POST', 'verify/batch/sha2-512', { input: b64('m'), hmac })).json.data).toEqual({ valid: true });
    expect(errors(await v1('POST', 'sign/none', { input: b64('m') }))).toEqual([400, ['signing key not found']]);
    expect((await v1('POST', 'hash/sha2-256', { input: b64('abc') })).json.data.sum).toBe(
      'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad',
    );
    expect((await v1('POST', 'random/8', { format: 'hex' })).json.data.random_bytes).toMatch(/^[0-9a-f]{16}$/);
    expect((await v1('POST', 'random/platform/8')).status).toBe(200);
    await v1('POST', 'keys/out', { exportable: true });
    expect((await v1('GET', 'export/encryption-key/out')).json.data).toMatchObject({
      name: 'out',
      keys: { 1: expect.any(String) },
    });
    expect(errors(await v1('GET', 'export/encryption-key/batch'))).toEqual([
      400,
      ['private key material is not exportable'],
    ]);
  });
});
