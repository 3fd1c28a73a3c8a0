/** KV under /v1: versions, check-and-set, soft deletion and settings, in the shapes, statuses and texts that clients branch on. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type TestVault, testVault } from './harness.ts';
import { errors, v1Of } from './v1.ts';

let t: TestVault;
beforeAll(async () => {
  t = await testVault();
});
afterAll(() => t.close());

const v1 = v1Of(() => t);

const PATCH = { 'content-type': 'application/merge-patch+json' };

describe('a secret of a mount of version 2', () => {
  it('is written, read, versioned and listed, and the native interface sees the same', async () => {
    const first = await v1('PUT', 'secret/data/kv/one', { data: { a: 1 } });
    expect(first.status).toBe(200);
    expect(first.headers.get('content-type')).toBe('application/json');
    expect(first.headers.get('cache-control')).toBe('no-store');
    expect(first.json).toEqual({
      request_id: first.headers.get('x-request-id'),
      lease_id: '',
      renewable: false,
      lease_duration: 0,
      data: {
        created_time: expect.stringMatching(/^\d{4}-.*Z$/),
        custom_metadata: null,
        deletion_time: '',
        destroyed: false,
        version: 1,
      },
      wrap_info: null,
      warnings: null,
      auth: null,
      mount_type: 'kv',
    });
    expect((await v1('POST', 'secret/data/kv/one', { data: { a: 2 } })).json.data.version).toBe(2);
    const read = await v1('GET', 'secret/data/kv/one');
    expect(read.json.data).toEqual({
      data: { a: 2 },
      metadata: {
        created_time: expect.any(String),
        custom_metadata: null,
        deletion_time: '',
        destroyed: false,
        version: 2,
      },
    });
    expect((await v1('GET', 'secret/data/kv/one?version=1')).json.data.data).toEqual({ a: 1 });
    expect((await v1('GET', 'secret/data/kv/one?version=0')).json.data.data).toEqual({ a: 2 });
    const native = await t.request('GET', '/api/v1/secrets/kv/one', { token: t.admin });
    expect(native.json).toMatchObject({ path: 'kv/one', version: 2, data: { a: 2 } });
  });

  it('comes back as the text that was written: integers beyond 2^53, 1.0 and the order of keys', async () => {
    const text = '{"z":12345678901234567890,"a":1.0,"1":0.10,"0":-0,"n":{"b":1e400,"a":[ 1 ,2]}}';
    await v1('POST', 'secret/data/kv/text', `{"options":{},"data": ${text} ,"x":1}`);
    const read = await v1('GET', 'secret/data/kv/text');
    expect(read.text).toContain(`"data":{"data":${text},"metadata":`);
    await v1('PATCH', 'secret/data/kv/text', '{"data":{"a":null,"m":2.50}}', undefined, PATCH);
    expect((await v1('GET', 'secret/data/kv/text')).text).toContain(
      '"data":{"data":{"z":12345678901234567890,"1":0.10,"0":-0,"n":{"b":1e400,"a":[ 1 ,2]},"m":2.50},"metadata":',
    );
  });

  it('LIST and GET ?list are the same, with and without a slash at the end, whole and in order', async () => {
    for (const name of ['list/b', 'list/a', 'list/c/deep/er', 'list/c'])
      await v1('PUT', `secret/data/${name}`, { data: {} });
    for (const [method, path] of [
      ['LIST', 'secret/metadata/list'],
      ['LIST', 'secret/metadata/list/'],
      ['GET', 'secret/metadata/list?list=true'],
      ['GET', 'secret/metadata/list/?list=1'],
    ] as const) {
      const answer = await v1(method, path);
      expect([method, path, answer.status, answer.json.data]).toEqual([
        method,
        path,
        200,
        { keys: ['a', 'b', 'c', 'c/'] },
      ]);
    }
    expect((await v1('LIST', 'secret/metadata/')).json.data.keys).toContain('list/');
    expect((await v1('LIST', 'secret/metadata')).json.data.keys).toContain('list/');
    expect((await v1('LIST', 'secret/metadata/list?after=a&limit=2')).json.data.keys).toEqual(['b', 'c']);
    expect(errors(await v1('LIST', 'secret/metadata/nothing/here'))).toEqual([404, []]);
    expect(errors(await v1('GET', 'secret/metadata/list?list=perhaps'))).toEqual([
      400,
      [expect.stringContaining('list')],
    ]);
  });

  it('T-080 check-and-set has the texts that clients compare, and two writers have one winner', async () => {
    const put = (cas: unknown) => v1('PUT', 'secret/data/kv/cas', { data: { n: 1 }, options: { cas } });
    expect((await put(0)).status).toBe(200);
    expect(errors(await put(0))).toEqual([400, ['check-and-set parameter did not match the current version']]);
    expect(errors(await put('x'))).toEqual([400, ['error parsing check-and-set parameter']]);
    const both = await Promise.all([put(1), put(1)]);
    expect(both.map(({ status }) => status).sort()).toEqual([200, 400]);
    expect(errors(await v1('PUT', 'secret/data/kv/cas', { options: {} }))).toEqual([400, ['no data provided']]);
    expect(
      (await v1('PATCH', 'secret/data/kv/cas', { data: { m: 1 }, options: { cas: 2 } }, undefined, PATCH)).json.data
        .version,
    ).toBe(3);
    expect((await v1('PATCH', 'secret/data/kv/cas', { data: { m: 1 } })).status).toBe(415);
  });

  it('deleted, undeleted and destroyed: what is gone is 404 with what is known of it', async () => {
    await v1('PUT', 'secret/data/kv/gone', { data: { n: 1 } });
    await v1('PUT', 'secret/data/kv/gone', { data: { n: 2 } });
    await v1('POST', 'secret/metadata/kv/gone', { custom_metadata: { owner: 'web' } });
    expect((await v1('DELETE', 'secret/data/kv/gone')).status).toBe(204);
    const gone = await v1('GET', 'secret/data/kv/gone');
    expect(gone.status).toBe(404);
    expect(gone.json).toMatchObject({
      lease_id: '',
      data: {
        data: null,
        metadata: {
          version: 2,
          destroyed: false,
          deletion_time: expect.stringMatching(/Z$/),
          custom_metadata: { owner: 'web' },
        },
      },
    });
    expect((await v1('PATCH', 'secret/data/kv/gone', { data: { n: 3 } }, undefined, PATCH)).json.data).toMatchObject({
      version: 2,
    });
    expect((await v1('GET', 'secret/data/kv/gone?version=1')).status).toBe(200);
    expect((await v1('POST', 'secret/undelete/kv/gone', { versions: [2] })).status).toBe(204);
    expect((await v1('GET', 'secret/data/kv/gone')).status).toBe(200);
    expect((await v1('PUT', 'secret/delete/kv/gone', { versions: '1,2,77' })).status).toBe(204);
    expect((await v1('PUT', 'secret/destroy/kv/gone', { versions: [1] })).status).toBe(204);
    const destroyed = await v1('GET', 'secret/data/kv/gone?version=1');
    expect([destroyed.status, destroyed.json.data.metadata.destroyed]).toEqual([404, true]);
    const metadata = await v1('GET', 'secret/metadata/kv/gone');
    expect(metadata.json.data).toMatchObject({
      current_version: 2,
      oldest_version: 0,
      max_versions: 0,
      cas_required: false,
      delete_version_after: '0s',
      custom_metadata: { owner: 'web' },
      versions: { 1: { destroyed: true }, 2: { destroyed: false, deletion_time: expect.stringMatching(/Z$/) } },
    });
    expect(errors(await v1('GET', 'secret/data/kv/never'))).toEqual([404, []]);
    expect(errors(await v1('GET', 'secret/data/kv/gone?version=9'))).toEqual([404, []]);
    expect((await v1('DELETE', 'secret/data/kv/never')).status).toBe(204);
    for (const act of ['delete', 'undelete', 'destroy']) {
      const none = act === 'destroy' ? 'no version number provided' : 'No version number provided';
      expect(errors(await v1('POST', `secret/${act}/kv/gone`, { versions: [] }))).toEqual([400, [none]]);
      expect((await v1('POST', `secret/${act}/kv/never`, { versions: [1] })).status).toBe(204);
    }
    expect((await v1('DELETE', 'secret/metadata/kv/gone')).status).toBe(204);
    expect(errors(await v1('GET', 'secret/metadata/kv/gone'))).toEqual([404, []]);
    expect((await v1('PUT', 'secret/data/kv/gone', { data: {}, options: { cas: 0 } })).json.data.version).toBe(1);
  });

  it('settings of a secret and of its mount hold for every protocol', async () => {
    expect(
      (
        await v1('POST', 'secret/metadata/kv/set', {
          max_versions: 2,
          cas_required: true,
          delete_version_after: '3h25m19s',
        })
      ).status,
    ).toBe(204);
    expect((await v1('GET', 'secret/metadata/kv/set')).json.data).toMatchObject({
      ...{ current_version: 0, max_versions: 2, cas_required: true, delete_version_after: '3h25m19s', versions: {} },
    });
    expect(errors(await v1('PUT', 'secret/data/kv/set', { data: {} }))).toEqual([
      400,
      ['check-and-set parameter required for this call'],
    ]);
    const native = await t.request('PUT', '/api/v1/secrets/kv/set', { token: t.admin, body: { text: 'x' } });
    expect([native.status, native.json.code]).toEqual([400, 'invalid_request']);
    for (const cas of [0, 1, 2]) {
      const made = await v1('PUT', 'secret/data/kv/set', { data: { cas }, options: { cas } });
      expect(Date.parse(made.json.data.deletion_time) - Date.parse(made.json.data.created_time)).toBe(
        (3 * 3600 + 25 * 60 + 19) * 1000,
      );
    }
    expect(Object.keys((await v1('GET', 'secret/metadata/kv/set')).json.data.versions)).toEqual(['2', '3']);
    expect((await v1('GET', 'secret/metadata/kv/set')).json.data.oldest_version).toBe(2);
    expect(
      (
        await v1(
          'PATCH',
          'secret/metadata/kv/set',
          { cas_required: false, custom_metadata: { a: 'b' } },
          undefined,
          PATCH,
        )
      ).status,
    ).toBe(204);
    expect(
      (await v1('PATCH', 'secret/metadata/kv/never-there', { cas_required: false }, undefined, PATCH)).status,
    ).toBe(404);
    expect((await v1('POST', 'secret/config', { cas_required: true, max_versions: 3 })).status).toBe(204);
    expect((await v1('GET', 'secret/config')).json.data).toEqual({
      cas_required: true,
      delete_version_after: '0s',
      max_versions: 3,
    });
    expect((await v1('PUT', 'secret/data/kv/set', { data: {} })).status).toBe(400);
    const told = await v1('POST', 'secret/metadata/kv/set', { cas_required: false });
    expect([told.status, told.json.warnings]).toEqual([200, [expect.stringContaining('mandated by backend config')]]);
    await v1('POST', 'secret/config', { cas_required: false, max_versions: 0 });
    const many = Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`k${i}`, 'v']));
    for (const custom_metadata of [many, { ['k'.repeat(129)]: 'v' }, { k: 'v'.repeat(513) }, { k: 1 }]) {
      expect(errors(await v1('POST', 'secret/metadata/kv/set', { custom_metadata }))).toEqual([
        400,
        [expect.stringMatching(/^custom_metadata validation failed: /)],
      ]);
    }
  });

  it('subkeys show the shape and no value', async () => {
    await v1('PUT', 'secret/data/kv/sub', '{"data":{"a":{"b":1,"c":{"d":"secret text"}},"e":[1],"f":{}}}');
    const all = await v1('GET', 'secret/subkeys/kv/sub');
    expect(all.json.data.subkeys).toEqual({ a: { b: null, c: { d: null } }, e: null, f: null });
    expect(all.json.data.metadata.version).toBe(1);
    expect(all.text).not.toContain('secret text');
    expect((await v1('GET', 'secret/subkeys/kv/sub?depth=1')).json.data.subkeys).toEqual({ a: null, e: null, f: null });
    await v1('DELETE', 'secret/data/kv/sub');
    const gone = await v1('GET', 'secret/subkeys/kv/sub');
    expect([gone.status, gone.json.data.subkeys, gone.json.data.metadata.version]).toEqual([404, null, 1]);
  });

  it('a path of version 1 is told so, and texts and bytes of the native interface are objects', async () => {
    const wrong = await v1('GET', 'secret/kv/one');
    expect([wrong.status, wrong.json.warnings]).toEqual([
      404,
      [expect.stringMatching(/^Invalid path for a versioned K\/V secrets engine\..*'vault kv get'/)],
    ]);
    expect((await v1('PUT', 'secret/kv/one', {})).json.warnings[0]).toContain("'vault kv put'");
    expect((await v1('GET', 'secret')).json.warnings).toEqual([
      'Non-listing operations on the root of a K/V v2 mount are not supported.',
    ]);
    await t.request('PUT', '/api/v1/secrets/kv/native', { token: t.admin, body: { text: 'plain' } });
    expect((await v1('GET', 'secret/data/kv/native')).json.data.data).toEqual({ text: 'plain' });
  });
});

describe('mounts', () => {
  it('of version 1 hold one value a secret; of version 2 their own part of the tree', async () => {
    expect((await v1('POST', 'sys/mounts/old', { type: 'kv', description: 'as it was' })).status).toBe(204);
    expect((await v1('POST', 'sys/mounts/team/new/', { type: 'kv', options: { version: '2' } })).status).toBe(400);
    expect((await v1('POST', 'sys/mounts/team/new', { type: 'kv', options: { version: '2' } })).status).toBe(204);
    const text = '{"n":12345678901234567890,"ttl":"1h"}';
    expect((await v1('PUT', 'old/a/b', text)).status).toBe(204);
    const read = await v1('GET', 'old/a/b');
    expect(read.text).toContain(`"lease_duration":3600,"data":${text},`);
    await v1('PUT', 'old/a/b', '{"n":2}');
    expect((await v1('GET', 'old/a/b')).json).toMatchObject({ lease_duration: 2764800, data: { n: 2 } });
    const history = await t.request('GET', '/api/v1/versions/old/a/b', { token: t.admin });
    expect(history.json.items).toHaveLength(1);
    expect((await v1('LIST', 'old')).json.data.keys).toEqual(['a/']);
    expect((await v1('LIST', 'old/a/')).json.data.keys).toEqual(['b']);
    expect(errors(await v1('PUT', 'old/a/b', '{}'))).toEqual([400, ['missing data fields']]);
    expect((await v1('DELETE', 'old/a/b')).status).toBe(204);
    expect((await v1('DELETE', 'old/a/b')).status).toBe(204);
    expect(errors(await v1('GET', 'old/a/b'))).toEqual([404, []]);
    await v1('PUT', 'team/new/data/x', { data: { y: 1 } });
    expect((await v1('GET', 'team/new/data/x')).json.data.data).toEqual({ y: 1 });
    expect((await t.request('GET', '/api/v1/secrets/team/new/x', { token: t.admin })).json.data).toEqual({ y: 1 });
  });

  it('are what the questions before a command say they are', async () => {
    const ui = await v1('GET', 'sys/internal/ui/mounts/secret/some/path');
    expect(ui.json.data).toMatchObject({ type: 'kv', path: 'secret/', options: { version: '2' } });
    expect((await v1('GET', 'sys/internal/ui/mounts/old/x')).json.data).toMatchObject({
      path: 'old/',
      options: { version: '1' },
    });
    expect(errors(await v1('GET', 'sys/internal/ui/mounts/none/x'))).toEqual([
      403,
      [`preflight capability check returned 403, please ensure client's policies grant access to path "none/x/"`],
    ]);
    const tune = await v1('GET', 'sys/mounts/secret/tune');
    expect(tune.json).toMatchObject({
      options: { version: '2' },
      default_lease_ttl: 2764800,
      data: { options: { version: '2' } },
    });
    const all = await v1('GET', 'sys/mounts');
    expect(Object.keys(all.json.data)).toEqual([...Object.keys(all.json.data)].sort());
    expect(all.json.data['team/new/']).toEqual(all.json['team/new/']);
    expect(all.json.data).toMatchObject({
      'cubbyhole/': {},
      'identity/': {},
      'sys/': {},
      'secret/': { accessor: expect.stringMatching(/^kv_/) },
    });
    const bare = await t.request('GET', '/v1/sys/internal/ui/mounts');
    expect(bare.json.data).toEqual({ secret: {}, auth: {} });
    expect(errors(await v1('GET', 'sys/mounts/none'))).toEqual([400, ['No secret engine mount at none/']]);
    expect(errors(await v1('POST', 'sys/mounts/old/inner', { type: 'kv' }))).toEqual([
      400,
      ['path is already in use at old/'],
    ]);
    expect(errors(await v1('POST', 'sys/mounts/transit', { type: 'transit' }))).toEqual([
      400,
      ['path is already in use at transit/'],
    ]);
    expect(errors(await v1('POST', 'sys/mounts/x', { type: 'aws' }))).toEqual([
      400,
      [expect.stringMatching(/^plugin not found in the catalog/)],
    ]);
    // Settings reach what lies under the prefix: a leave for one name is none for another's secrets.
    const rule = { effect: 'allow', actions: ['mount.write'], resources: ['mount:mine'] };
    const mounter = await t.user('mounter', [], [rule]);
    const over = { type: 'kv', options: { version: '2', prefix: 'prod' } };
    expect((await v1('POST', 'sys/mounts/mine', over, mounter)).status).toBe(403);
    expect((await v1('POST', 'sys/mounts/mine', { type: 'kv' }, mounter)).status).toBe(204);
    expect((await v1('DELETE', 'sys/mounts/team/new')).status).toBe(400);
    expect((await v1('DELETE', 'sys/mounts/old')).status).toBe(204);
    expect((await v1('DELETE', 'sys/mounts/old')).status).toBe(204);
    expect(errors(await v1('GET', 'old/x'))).toEqual([404, ['no handler for route "old/x". route entry not found.']]);
  });
});
