/** The SDK: TLS, and watching secrets through changes and outages. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import type { Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { BullaError, type Change } from '../src/client/index.ts';
import { type Answer, client, closeAfterEach, closing, failure, json, serve } from './client.served.ts';

closeAfterEach();

describe('TLS', () => {
  let directory: string;
  let tls: { key: Buffer; cert: Buffer };

  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'bulla-client-'));
    const [key, cert] = [join(directory, 'key.pem'), join(directory, 'cert.pem')];
    const subject = ['-subj', '/CN=vault', '-addext', 'subjectAltName=IP:127.0.0.1'];
    execFileSync(
      'openssl',
      [
        'req',
        '-x509',
        '-newkey',
        'ec',
        '-pkeyopt',
        'ec_paramgen_curve:P-256',
        '-nodes',
        '-days',
        '1',
        '-keyout',
        key,
        '-out',
        cert,
        ...subject,
      ],
      { stdio: 'pipe' },
    );
    tls = { key: readFileSync(key), cert: readFileSync(cert) };
  });
  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  const secure = (answer: Answer) => serve(answer, (listener) => createTlsServer(tls, listener) as unknown as Server);

  test('a certificate that is not trusted is refused before anything is sent', async () => {
    const { seen, port } = await secure((response) => json(response, 200, {}));
    expect((await failure(client(`https://127.0.0.1:${port}`).status())).code).toBe('untrusted_server');
    const ca = tls.cert.toString();
    expect((await failure(client(`https://localhost:${port}`, { ca }).status())).code).toBe('untrusted_server');
    expect(seen).toEqual([]);
  });

  test('a CA of the caller’s is trusted', async () => {
    const { seen, port } = await secure((response) => json(response, 200, { tenant: 'default' }));
    const bulla = client(`https://127.0.0.1:${port}`, { ca: tls.cert.toString() });
    expect((await bulla.status()).tenant).toBe('default');
    expect(seen).toHaveLength(1);
  });
});

describe('watch', () => {
  type Stored = { path: string; version: number; created_at: string };
  const stored = (path: string, version: number, created_at = `t${version}`): Stored => ({ path, version, created_at });

  /** Answers POST /fetch as the vault does, with an ETag over what is stored. */
  async function watched() {
    const state: { secrets: Stored[]; down: boolean } = { secrets: [], down: false };
    const server = await serve((response, { headers }) => {
      if (state.down) {
        response.destroy();
        return;
      }
      const etag = `"${state.secrets.map(({ path, version, created_at }) => path + version + created_at).join()}"`;
      if (headers['if-none-match'] === etag) response.writeHead(304, { etag }).end();
      else json(response, 200, { items: state.secrets }, { etag });
    });
    return { ...server, state };
  }

  function collector() {
    const changes: Change[] = [];
    const waiting: (() => void)[] = [];
    const onChange = (change: Change) => {
      changes.push(change);
      for (const wake of waiting.splice(0)) wake();
    };
    const reach = async (count: number): Promise<Change> => {
      while (changes.length < count) await new Promise<void>((wake) => waiting.push(wake));
      return changes[count - 1]!;
    };
    return { changes, onChange, reach };
  }

  test('calls back with everything first, then with what changed and what is gone', async () => {
    const { address, state } = await watched();
    const { onChange, reach } = collector();
    state.secrets = [stored('p/a', 1), stored('p/b', 1)];
    const watch = client(address).watch('p', onChange, { intervalMs: 100 });
    closing.push(() => watch.close());
    await watch.ready;
    expect((await reach(1)).changed.map(({ path }) => path)).toEqual(['p/a', 'p/b']);
    state.secrets = [stored('p/b', 2), stored('p/c', 1)];
    const second = await reach(2);
    expect(second.changed.map(({ path, version }) => [path, version])).toEqual([
      ['p/b', 2],
      ['p/c', 1],
    ]);
    expect(second.removed).toEqual(['p/a']);
    expect([...second.secrets.keys()]).toEqual(['p/b', 'p/c']);
    // Removed and made again: the same number, another secret.
    state.secrets = [stored('p/b', 2), stored('p/c', 1, 'later')];
    expect((await reach(3)).changed.map(({ path }) => path)).toEqual(['p/c']);
  });

  test('does not call back while nothing changes, and costs one 304 each time', async () => {
    const { address, state, seen } = await watched();
    const { changes, onChange } = collector();
    state.secrets = [stored('p/a', 1)];
    const watch = client(address).watch('p', onChange, { intervalMs: 100 });
    closing.push(() => watch.close());
    await expect.poll(() => seen.length).toBeGreaterThan(3);
    expect(changes).toHaveLength(1);
    expect(seen.slice(1).every(({ headers }) => headers['if-none-match'] !== undefined)).toBe(true);
  });

  test('survives an outage from the start and one in between', async () => {
    const { address, state } = await watched();
    const { onChange, reach } = collector();
    const errors: unknown[] = [];
    state.down = true;
    const bulla = client(address, { retries: 0 });
    const watch = bulla.watch('p', onChange, { intervalMs: 100, onError: (error) => errors.push(error) });
    closing.push(() => watch.close());
    await expect.poll(() => errors.length).toBeGreaterThan(0);
    state.secrets = [stored('p/a', 1)];
    state.down = false;
    await watch.ready;
    state.down = true;
    const before = errors.length;
    await expect.poll(() => errors.length).toBeGreaterThan(before);
    state.secrets = [stored('p/a', 2)];
    state.down = false;
    expect((await reach(2)).changed[0]!.version).toBe(2);
    expect(errors.every((error) => error instanceof BullaError && error.code === 'unreachable')).toBe(true);
  });

  test('delivers a change again until the callback has taken it', async () => {
    const { address, state } = await watched();
    state.secrets = [stored('p/a', 1)];
    const errors: unknown[] = [];
    let calls = 0;
    const watch = client(address).watch(
      'p',
      async ({ changed }) => {
        calls += 1;
        expect(changed).toHaveLength(1);
        if (calls < 3) throw new Error('not yet');
      },
      { intervalMs: 100, onError: (error) => errors.push(error) },
    );
    closing.push(() => watch.close());
    await watch.ready;
    expect(calls).toBe(3);
    expect(errors).toHaveLength(2);
  });

  test('ends with close, in the middle of a poll too, and calls back no more', async () => {
    const { address, seen } = await serve(() => {});
    const errors: unknown[] = [];
    const { changes, onChange } = collector();
    const watch = client(address).watch('p', onChange, { intervalMs: 100, onError: (error) => errors.push(error) });
    await expect.poll(() => seen.length).toBe(1);
    watch.close();
    await new Promise((done) => setTimeout(done, 300));
    expect([seen.length, changes.length, errors.length]).toEqual([1, 0, 0]);
  });
});
