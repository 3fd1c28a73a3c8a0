/** The SDK against a real vault: what went in comes out, and an export proves itself. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Bulla, verifyExport } from '../src/client/index.ts';
import { all, closeAfterEach, closing, failure } from './client.served.ts';
import { PASSWORD, type TestVault, testVault } from './harness.ts';

closeAfterEach();

describe('against a real vault', () => {
  let vault: TestVault;
  let vaultAddress: string;
  let admin: Bulla;

  beforeAll(async () => {
    vault = await testVault();
    vaultAddress = await vault.address();
    admin = new Bulla({ address: vaultAddress, token: vault.admin });
  });
  afterAll(async () => {
    admin?.close();
    await vault?.close();
  });

  test('secrets of every kind come back as they went in', async () => {
    const { secrets } = admin;
    await secrets.put('sdk/data', {
      data: { user: 'app', nested: { a: [1, null] } },
      metadata: { owner: 'me' },
      cas: 0,
    });
    await secrets.put('sdk/text', { text: 'grüße\n' });
    const bytes = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
    await secrets.put('sdk/bytes', { bytes, content_type: 'application/x-test' });
    expect(await secrets.get('sdk/data')).toMatchObject({
      kind: 'data',
      data: { user: 'app' },
      metadata: { owner: 'me' },
    });
    expect((await secrets.get('sdk/text')).text).toBe('grüße\n');
    expect(await secrets.get('sdk/bytes')).toMatchObject({ bytes, content_type: 'application/x-test' });
    expect((await secrets.fetch({ prefixes: ['sdk'] })).map(({ path }) => path)).toEqual([
      'sdk/bytes',
      'sdk/data',
      'sdk/text',
    ]);
    expect(await secrets.fetchFlat({ paths: ['sdk/data'] })).toMatchObject({ SDK_DATA_USER: 'app' });
    expect(await secrets.fetchEnv({ prefixes: ['sdk'] })).toContain('DATA_USER=app\n');
  });

  test('what is too large is refused in the server’s words, not by a broken connection', async () => {
    for (const mebibytes of [1.5, 3, 20]) {
      const put = admin.secrets.put('sdk/large', { bytes: Buffer.alloc(mebibytes * 1024 * 1024) });
      expect(await failure(put)).toMatchObject({ code: 'too_large', status: 413 });
    }
    await admin.secrets.put('sdk/large', { bytes: Buffer.alloc(1024 * 1024, 1) });
    expect((await admin.secrets.get('sdk/large')).bytes).toHaveLength(1024 * 1024);
  });

  test('versions, metadata and moves', async () => {
    const { secrets } = admin;
    await secrets.put('sdk/v', { data: { a: 1 } });
    expect((await secrets.patch('sdk/v', { data: { b: 2 }, cas: 1 })).version).toBe(2);
    expect((await failure(secrets.patch('sdk/v', { data: { b: 3 }, cas: 1 }))).code).toBe('version_mismatch');
    expect((await secrets.get('sdk/v')).data).toEqual({ a: 1, b: 2 });
    expect((await secrets.get('sdk/v', { version: 1 })).data).toEqual({ a: 1 });
    await secrets.delete('sdk/v', { versions: [1] });
    await secrets.undelete('sdk/v', [1]);
    await secrets.destroy('sdk/v', [1]);
    expect((await secrets.versions('sdk/v')).items.map(({ state }) => state)).toEqual(['readable', 'destroyed']);
    expect((await secrets.patchMetadata('sdk/v', { metadata: { a: 'b' }, versions_kept: 3 })).versions_kept).toBe(3);
    expect(await secrets.move('sdk/v', 'sdk/w')).toEqual({ path: 'sdk/w', version: 2 });
    await secrets.remove('sdk/w');
    expect((await failure(secrets.get('sdk/w'))).code).toBe('not_found');
  });

  test('users, policies, tokens, keys and tenants', async () => {
    const policy = await admin.policies.put('sdk', {
      rules: [{ effect: 'allow', actions: ['secret.read'], resources: ['secret:sdk/**'] }],
    });
    expect((await failure(admin.policies.put('sdk', { rules: policy.rules }, { ifRevision: 9 }))).code).toBe(
      'version_mismatch',
    );
    expect((await admin.users.create({ username: 'sdk', policies: ['sdk'] })).one_time_password).toMatch(/./);
    const bulla = new Bulla({ address: vaultAddress });
    closing.push(() => bulla.close());
    const { one_time_password: once } = await admin.users.patch('sdk', { reset_password: true });
    expect(
      (await bulla.auth.login({ tenant: 'default', username: 'sdk', password: once! })).password_change_required,
    ).toBe(true);
    expect((await failure(bulla.secrets.get('sdk/text'))).code).toBe('password_change_required');
    await bulla.auth.changePassword(once!, `${PASSWORD} too`);
    const { accessor } = await bulla.auth.login({ tenant: 'default', username: 'sdk', password: `${PASSWORD} too` });
    expect((await bulla.auth.self()).policies).toEqual(['sdk']);
    expect((await bulla.auth.renew({ ttl: '10m' })).accessor).toBe(accessor);
    expect((await admin.tokens.get(accessor)).username).toBe('sdk');
    await admin.tokens.revoke(accessor);
    expect((await failure(bulla.auth.self())).code).toBe('unauthenticated');
    await admin.users.delete('sdk');
    await admin.policies.delete('sdk');
    const before = await all(admin.keys.list());
    expect((await admin.keys.rotate()).version).toBe(before.length + 1);
    expect((await failure(admin.rootKeys.rotate())).code).toBe('forbidden');
  });

  test('watch sees a change of a real secret', async () => {
    await admin.secrets.put('watched/a', { text: '1' });
    const seen: (string | undefined)[] = [];
    const watch = admin.watch('watched', ({ changed }) => void seen.push(changed[0]?.text), { intervalMs: 100 });
    closing.push(() => watch.close());
    await watch.ready;
    await admin.secrets.put('watched/a', { text: '2' });
    await expect.poll(() => seen).toEqual(['1', '2']);
  });

  test('an export proves itself, and a changed one does not', async () => {
    const entries = await all(await admin.audit.entries());
    const size = Buffer.concat(entries).toString().split('\n').length - 1;
    const tree = await all(await admin.audit.tree({ size }));
    expect(await verifyExport(entries, tree)).toMatchObject({ ok: true, lines: size, size });
    const file = Buffer.concat(entries).toString().replace('"ok"', '"no"');
    expect((await verifyExport([Buffer.from(file)], tree)).findings).toMatchObject([{ kind: 'edited' }]);
  });
});
