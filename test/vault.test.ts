/** The gate, secrets and the log, through the verbs: what must hold whatever the protocol. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readSecret } from '../src/policy/read.ts';
import { putSecret } from '../src/secret/secret.ts';
import { parsePath } from '../src/secret/path.ts';
import { type TestVault, testVault } from './harness.ts';

let t: TestVault;
beforeAll(async () => {
  t = await testVault();
});
afterAll(() => t.close());

const data = (json: string) => ({ kind: 'data' as const, body: Buffer.from(json) });

describe('the gate', () => {
  it('stores and reads a secret, and the log proves', async () => {
    t.secrets.add('a-value-nobody-may-see');
    const path = parsePath('prod/web/db');
    const written = await putSecret(t.vault, t.call(t.admin), path, data('{"url":"a-value-nobody-may-see"}'));
    expect(written).toMatchObject({ created: true, version: 1 });
    const read = await readSecret(t.vault, t.call(t.admin), path, 0);
    expect(Buffer.from(read.body).toString()).toBe('{"url":"a-value-nobody-may-see"}');
    await t.check();
  });
});
