/** What every answer has, and what none says: headers, problems, the log and the metrics. */
import { describe, expect, it } from 'vitest';
import { loadConfig } from '../src/config.ts';
import { createApp } from '../src/http/app.ts';
import { listen } from '../src/http/listener.ts';
import { spellings } from './harness.ts';
import {
  CLOSE,
  expectHeaders,
  expectProblem,
  get,
  HOST,
  log,
  ownVault,
  post,
  server,
  start,
  t,
  vault,
} from './http.served.ts';
import { talk } from './http.wire.ts';

ownVault();

describe('what every answer has and none says', () => {
  it('T-114 T-115 T-116 T-248 every kind of error is a problem with the same headers, and no-store is on answers too', async () => {
    const token = `Authorization: Bearer ${t.admin}\r\n`;
    const answers = await Promise.all(
      [
        get('/healthz'),
        get('/api/v1/secrets/wire/a', token),
        get('/api/v1/secrets/wire/a'),
        get('/api/v1/secrets/wire/none', token),
        get('/openapi.json'),
        get('/metrics'),
        get('/nothing'),
        post(CLOSE),
        `DELETE /healthz HTTP/1.1\r\n${HOST}${CLOSE}\r\n`,
        'nonsense\r\n\r\n',
      ].map(async (bytes) => (await talk(server.address, bytes)).answers[0]!),
    );
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 401, 404, 200, 200, 404, 400, 405, 400]);
    for (const answer of answers) {
      expectHeaders(answer);
      if (answer.status < 400) continue;
      expectProblem(answer, answer.status);
      expect(answer.body).not.toMatch(/node_modules|\.js:|SELECT |postgres|\/work\/|at Object/i);
    }
  });

  it('T-117 no origin is allowed, whatever it is', async () => {
    for (const origin of ['null', 'https://evil.example', 'https://localhost.evil.example', 'http://localhost']) {
      const preflight = `OPTIONS /api/v1/auth/login HTTP/1.1\r\n${HOST}Origin: ${origin}\r\nAccess-Control-Request-Method: POST\r\n${CLOSE}\r\n`;
      const asked = (await talk(server.address, preflight)).answers[0]!;
      const simple = (await talk(server.address, get('/healthz', `Origin: ${origin}\r\n`))).answers[0]!;
      expect([asked.status, simple.status]).toEqual([405, 200]);
      for (const { headers } of [asked, simple]) {
        expect([...headers.keys()].filter((name) => name.startsWith('access-control') || name === 'vary')).toEqual([]);
      }
    }
  });

  it('T-119 T-222 a defect is a 500 that says nothing, is whole in the log but for values, and the process lives', async () => {
    const canary = 'hunter2-canary';
    const broken = await start(undefined, (app) => {
      app.router.get('/parse', () => JSON.parse(`"${canary}`));
      app.router.get('/token', () => {
        throw new TypeError(`cannot use bulla_${canary} here`, { cause: new Error(`no "${canary}" in it`) });
      });
      app.router.get('/string', () => {
        throw canary;
      });
      app.router.get('/late', async (c) => {
        c.env.outgoing.writeHead(200);
        c.env.outgoing.write('begun');
        throw new Error('late');
      });
    });
    const before = log.length;
    for (const path of ['/parse', '/token', '/string']) {
      const { answers } = await talk(broken.address, get(path));
      expectProblem(answers[0], 500, 'internal');
      expect(answers[0]!.body).not.toContain(canary);
    }
    expect((await talk(broken.address, get('/late'))).raw).toMatch(/begun\r\n$/);
    expect((await talk(broken.address, get('/healthz'))).answers[0]?.status).toBe(200);
    const said = log.slice(before);
    expect(said).toContain('http.answer.test.ts');
    expect(said).toContain('TypeError');
    for (const spelling of spellings(canary)) expect(said).not.toContain(spelling.toString());
    await broken.close();
  });

  it('T-220 T-230 a token in the query is refused, and the log holds no token, path, query or body', async () => {
    const before = log.length;
    for (const name of ['token', 'access_token', 'Token', '%74oken', 'access%5Ftoken']) {
      const { answers } = await talk(
        server.address,
        get(`/api/v1/secrets/wire/a?${name}=${t.admin}`, `Referer: http://x/?q=${t.admin}\r\n`),
      );
      expectProblem(answers[0], 400, 'invalid_request');
      expect(answers[0]!.body).not.toContain(t.admin);
      expectProblem((await talk(server.address, get(`/healthz?${name}=x`))).answers[0], 400);
    }
    await talk(
      server.address,
      get(
        '/api/v1/secrets/wire/very-secret-name?version=7',
        `Authorization: Bearer ${t.admin}\r\nCookie: c=cookie-canary\r\n`,
      ),
    );
    await talk(server.address, get('/very-secret-name'));
    await talk(
      server.address,
      post(
        `${CLOSE}Content-Length: 60\r\n`,
        `{"tenant":"t","username":"user-canary","password":"pw-canary"}`.slice(0, 60),
      ),
    );
    await expect.poll(() => log.slice(before).split('\n').length).toBeGreaterThan(12);
    const said = log.slice(before);
    const forbidden = [
      t.admin,
      t.admin.split('.')[1]!,
      'very-secret-name',
      'cookie-canary',
      'user-canary',
      'pw-canary',
      'version=7',
    ];
    for (const text of forbidden) expect(said).not.toContain(text);
    const lines = said
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(lines.find((line) => line.route === '/api/v1/secrets/{path}' && line.status === 404)).toMatchObject({
      msg: 'request',
      method: 'GET',
      code: 'not_found',
      source: '127.0.0.1',
      tenant: expect.stringMatching(/^[a-z2-7]{16}$/),
    });
  });

  it('T-241 metrics are by route pattern, and only for a loopback peer or who has the token', async () => {
    const { answers } = await talk(server.address, get('/metrics'));
    expect(answers[0]!.body).toMatch(
      /bulla_http_requests_total\{method="GET",route="\/api\/v1\/secrets\/\{path\}",status="200"\} \d/,
    );
    expect(answers[0]!.body).not.toMatch(/wire|default|very-secret/);
    const token = 'a-metrics-token-of-some-length';
    const env = {
      BULLA_LISTEN: '127.0.0.1:0',
      BULLA_METRICS_TOKEN: token,
      BULLA_SERVE_PLAIN_HTTP_BEHIND_A_TLS_TERMINATING_PROXY: 'true',
    };
    const config = loadConfig(env);
    const behind = await listen(vault, createApp({ ...vault, config }), config);
    const scrape = (header = '') => talk(behind.address, get('/metrics', header)).then((wire) => wire.answers[0]!);
    expectProblem(await scrape(), 401);
    expectProblem(await scrape('Authorization: Bearer another\r\n'), 401);
    expect((await scrape(`Authorization: Bearer ${token}\r\n`)).status).toBe(200);
    await behind.close();
  });

  it('is ready while the database answers, and alive either way', async () => {
    expect((await talk(server.address, get('/readyz'))).answers[0]?.status).toBe(200);
    const head = await talk(server.address, `HEAD /healthz HTTP/1.1\r\n${HOST}${CLOSE}\r\n`);
    expect(head.raw).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
    expect(head.raw.endsWith('\r\n\r\n')).toBe(true);
    const yaml = (await talk(server.address, get('/openapi.yaml'))).answers[0]!;
    expect([yaml.status, yaml.headers.get('content-type')]).toEqual([200, 'application/yaml']);
  });
});
