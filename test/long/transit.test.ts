/** RSA keys whose making takes seconds: the contract of test/transit.test.ts for 3072 and 4096 bits. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { decrypt, encrypt } from '../../src/transit/cipher.ts';
import { createKey } from '../../src/transit/key.ts';
import { parseKeyName } from '../../src/transit/name.ts';
import { rotateKey } from '../../src/transit/rotate.ts';
import { SCHEME_DEFAULT, sign, verify } from '../../src/transit/sign.ts';
import { callOf, type TestVault, testVault } from '../harness.ts';

let t: TestVault;
beforeAll(async () => {
  t = await testVault();
});
afterAll(() => t.close());

const utf8 = (text: string) => Buffer.from(text);

test.each(['rsa-3072', 'rsa-4096'] as const)(
  '%s encrypts and signs, over a rotation',
  { timeout: 240_000 },
  async (type) => {
    const key = parseKeyName(type);
    const call = () => callOf(t.admin);
    await createKey(t.vault, call(), key, { type });
    const [encrypted] = await encrypt(t.vault, call(), key, [{ plaintext: utf8('x') }]);
    const [signed] = await sign(t.vault, call(), key, SCHEME_DEFAULT, [{ input: utf8('m') }]);
    if (!encrypted || 'fault' in encrypted || !signed || 'fault' in signed) throw new Error('an item failed');
    await rotateKey(t.vault, call(), key);
    const { ciphertext } = encrypted.ok;
    expect(await decrypt(t.vault, call(), key, [{ ciphertext }])).toMatchObject([{ ok: { keyVersion: 1 } }]);
    const { signature } = signed.ok;
    const asked = await verify(t.vault, call(), key, SCHEME_DEFAULT, [
      { input: utf8('m'), signature },
      { input: utf8('n'), signature },
    ]);
    expect(asked).toMatchObject([{ ok: { valid: true } }, { ok: { valid: false } }]);
    // As many as are allowed at once, within the deadline of a request.
    const most = Array.from({ length: type === 'rsa-4096' ? 15 : 31 }, () => ({ input: utf8('m') }));
    expect(await sign(t.vault, call(), key, SCHEME_DEFAULT, most)).toHaveLength(most.length);
    expect(
      await decrypt(
        t.vault,
        call(),
        key,
        most.map(() => ({ ciphertext })),
      ),
    ).toHaveLength(most.length);
  },
);
