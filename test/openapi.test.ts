/** openapi.yaml is what is served: the file, the document, the live router and the true answers say the same. */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { createApp } from '../src/http/app.ts';
import { openapiDocument } from '../src/http/openapi.ts';
import { ENDPOINTS } from '../src/protocols/native/native.ts';
import { VERSION } from '../src/protocols/native/status.ts';
import { documentedOperations } from './document.ts';
import { type TestVault, testVault } from './harness.ts';
import { OPENAPI_FILE, openapiYaml } from './openapi.yaml.mjs';

const METHODS = ['get', 'put', 'post', 'patch', 'delete'];

const document = openapiDocument();
const operations = documentedOperations(document);

let t: TestVault;
beforeAll(async () => {
  t = await testVault();
});
afterAll(() => t.close());

describe('openapi.yaml', () => {
  it('is the document of the routes, byte for byte (npm run openapi writes it)', () => {
    expect(readFileSync(OPENAPI_FILE, 'utf8')).toBe(openapiYaml());
    expect(parse(openapiYaml())).toEqual(JSON.parse(JSON.stringify(document)));
  });

  it('is served as JSON and as YAML, and the document does not change from one making to the next', async () => {
    const json = await t.request('GET', '/openapi.json');
    expect(json.json).toEqual(JSON.parse(JSON.stringify(document)));
    const yaml = await t.request('GET', '/openapi.yaml');
    expect(yaml.text).toBe(readFileSync(OPENAPI_FILE, 'utf8'));
    expect(JSON.stringify(openapiDocument())).toBe(JSON.stringify(document));
  });

  it('T-068 documents every live route, and every documented route is live', () => {
    const { router } = createApp(t.vault);
    const live = router.routes.map(({ method, path }) => `${method} ${path.replace(/:(\w+)(\{[^}]*\})?/g, '{$1}')}`);
    const documented = operations.map(({ method, path }) => `${method.toUpperCase()} ${path}`);
    expect(live.sort()).toEqual(documented.sort());
    expect(new Set(live).size).toBe(live.length);
  });

  it('every documented route answers over the wire what it says it answers to nobody', async () => {
    for (const { method, path, operation } of operations) {
      const target = path
        .replace('{path}', 'a/b')
        .replace('{name}', 'a')
        .replace('{accessor}', 'a'.repeat(16))
        .replace('{secret}', 'a');
      const answer = await t.request(method.toUpperCase(), target);
      expect([method, path, String(answer.status) in operation.responses]).toEqual([method, path, true]);
      expect([method, path, answer.status === 404 || answer.status === 405]).toEqual([method, path, false]);
    }
  });

  it('every operation has an id, examples of what it takes and gives, and its error statuses', () => {
    const ids = operations.map(({ operation }) => operation.operationId);
    expect(new Set(ids).size).toBe(ids.length);
    for (const { method, path, operation } of operations) {
      const where = `${method} ${path}`;
      expect([where, METHODS.includes(method), operation.summary !== '', operation.tags.length]).toEqual([
        where,
        true,
        true,
        1,
      ]);
      const media = Object.values(operation.requestBody?.content ?? {});
      const statuses = Object.keys(operation.responses);
      for (const [status, response] of Object.entries(operation.responses)) {
        expect([where, status, response.description !== '']).toEqual([where, status, true]);
        const content = Object.entries(response.content ?? {});
        media.push(...content.map(([, body]) => body));
        if (Number(status) >= 400)
          expect([where, status, content.map(([type]) => type)]).toEqual([
            where,
            status,
            [path.startsWith('/oauth/') ? 'application/json' : 'application/problem+json'],
          ]);
      }
      for (const body of media)
        expect([where, body.example !== undefined || body.examples !== undefined]).toEqual([where, true]);
      expect([where, statuses.some((status) => Number(status) < 400), statuses.includes('500')]).toEqual([
        where,
        true,
        true,
      ]);
      if (!path.startsWith('/api/')) continue;
      for (const status of ['400', '503', '504']) expect([where, statuses.includes(status)]).toEqual([where, true]);
      if (operation.security === undefined)
        for (const status of ['401', '403']) expect([where, statuses.includes(status)]).toEqual([where, true]);
      if (operation.requestBody)
        for (const status of ['413', '415']) expect([where, statuses.includes(status)]).toEqual([where, true]);
      if (path.includes('{path}') && method === 'get') expect([where, statuses.includes('404')]).toEqual([where, true]);
    }
  });

  it('declares every parameter of a path, and every reference leads somewhere', () => {
    for (const { method, path, operation } of operations) {
      const inPath = (operation.parameters ?? []).filter((parameter) => parameter.in === 'path');
      const declared = inPath.map(({ name, required }) => [name, required]);
      expect([method, path, declared]).toEqual([
        method,
        path,
        Array.from(path.matchAll(/\{(\w+)\}/g), ([, name]) => [name, true]),
      ]);
    }
    const text = JSON.stringify(document);
    for (const [, reference] of text.matchAll(/"\$ref":"([^"]+)"/g)) {
      const found = reference!
        .slice(2)
        .split('/')
        .reduce<unknown>((at, key) => (at as Record<string, unknown>)?.[key], document);
      expect([reference, typeof found]).toEqual([reference, 'object']);
    }
  });

  it('every example of a body and of an answer is what its schema takes', () => {
    for (const { spec } of ENDPOINTS) {
      if (spec.body) expect([spec.id, spec.body.safeParse(spec.bodyExample).success]).toEqual([spec.id, true]);
      for (const [status, { schema, example }] of Object.entries(spec.answers)) {
        if (!schema) continue;
        const parsed = schema.safeParse(example);
        expect([spec.id, status, parsed.success && parsed.data]).toEqual([spec.id, status, example]);
      }
    }
  });

  it('T-248 names no version of the product; /status says the one of package.json', () => {
    const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
    expect(VERSION).toBe(version);
    expect(document.info.version).toBe('1');
  });
});

describe('true answers', () => {
  it('T-118 are as documented, with no field more', async () => {
    const api = '/api/v1';
    const sent: [method: string, path: string, token: string, body?: unknown][] = [
      ['POST', '/auth/login', '', { tenant: 'default', username: 'admin', password: 'correct horse battery staple' }],
      ['GET', '/auth/self', t.admin],
      ['POST', '/auth/renew', t.admin, { ttl: '30m' }],
      ['POST', '/users', t.admin, { username: 'documented' }],
      ['GET', '/users', t.admin],
      ['GET', '/users/documented', t.admin],
      ['PATCH', '/users/documented', t.admin, { reset_password: true }],
      ['POST', '/users/documented/unlock', t.admin],
      ['PUT', '/policies/documented', t.admin, { rules: [{ effect: 'deny', actions: ['*'], resources: ['**'] }] }],
      ['GET', '/policies', t.admin],
      ['GET', '/policies/documented', t.admin],
      ['PUT', '/secrets/a/b', t.admin, { data: { n: 1 }, metadata: { k: 'v' }, ttl: '1h' }],
      ['PUT', '/secrets/a/b', t.admin, { text: 'x', content_type: 'text/x' }],
      ['GET', '/secrets/a/b', t.admin],
      ['GET', '/secrets/a/b?version=1', t.admin],
      ['GET', '/secrets', t.admin],
      ['GET', '/secrets?recursive=true', t.admin],
      ['GET', '/versions/a/b', t.admin],
      ['GET', '/metadata/a/b', t.admin],
      ['PATCH', '/metadata/a/b', t.admin, { metadata: { k: null } }],
      ['POST', '/fetch', t.admin, { paths: ['a/b'] }],
      ['POST', '/fetch', t.admin, { paths: ['a/b'], format: 'flat' }],
      ['POST', '/move', t.admin, { from: 'a/b', to: 'a/c' }],
      ['GET', '/secrets/a/b', t.admin],
      ['POST', '/versions/a/c/destroy', t.admin, { versions: [1] }],
      ['GET', '/versions/a/c', t.admin],
      ['DELETE', '/secrets/a/c', t.admin],
      ['DELETE', '/metadata/a/c', t.admin],
      ['POST', '/keys/rotate', t.admin],
      ['GET', '/keys', t.admin],
      ['GET', '/root-keys', t.operator],
      ['POST', '/root-keys/rotate', t.operator],
      ['POST', '/tenants', t.operator, { name: 'documented' }],
      ['GET', '/tenants', t.operator],
      ['GET', '/tenants/documented', t.operator],
      ['PATCH', '/tenants/documented', t.operator, { state: 'suspended' }],
      ['DELETE', '/tenants/documented', t.operator],
      ['GET', '/tenants', t.admin],
      ['GET', '/status', t.admin],
      ['GET', '/audit/entries', t.admin],
      ['GET', '/audit/tree', t.admin],
      ['DELETE', '/policies/documented', t.admin],
      ['DELETE', '/users/documented', t.admin],
    ];
    for (const [method, path, token, body] of sent) {
      const answer = await t.request(method, api + path, {
        ...(token === '' ? {} : { token }),
        ...(body === undefined ? {} : { body }),
      });
      const where = `${method} ${path} ${answer.status}`;
      const endpoint = ENDPOINTS.find(
        ({ spec }) => spec.method === method.toLowerCase() && patternOf(spec.path).test(path.split('?')[0]!),
      )!;
      const operation = operations.find(({ operation }) => operation.operationId === endpoint.spec.id)!.operation;
      expect([where, Object.keys(operation.responses).includes(String(answer.status))]).toEqual([where, true]);
      const type = answer.headers.get('content-type')?.split(';')[0];
      const documented = operation.responses[answer.status]!.content;
      expect([where, documented === undefined ? type === undefined : type! in documented]).toEqual([where, true]);
      const schema = endpoint.spec.answers[answer.status]?.schema;
      if (answer.json === undefined || schema === undefined) continue;
      const parsed = schema.safeParse(answer.json);
      expect([where, parsed.success && parsed.data]).toEqual([where, answer.json]);
    }
  });
});

function patternOf(path: string): RegExp {
  return new RegExp(`^${path.replace('{path}', '.+').replace(/\{\w+\}/, '[^/]+')}$`);
}
