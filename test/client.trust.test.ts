/** Whom a client takes for the server: by authority, by host and by pinned key. */
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Bulla } from '../src/client/index.ts';
import { EC, type Made, make, makeServer, newKeys } from './fixtures/certificate.ts';
import { type TestVault, testVault } from './harness.ts';
import { MAIN, run } from './process.ts';
import { type Served, serveTls } from './tls-server.ts';

let t: TestVault;
let authority: Made;
let pair: Made;
let server: Served;

beforeAll(async () => {
  t = await testVault();
  authority = await make({ name: 'Authority', ca: true });
  pair = await makeServer(authority);
  server = await serveTls(t, [pair]);
});
afterAll(async () => {
  await server.close();
  await t.close();
});

const pinOf = ({ cert }: Made) =>
  `sha256/${createHash('sha256').update(new Uint8Array(cert.publicKey.rawData)).digest('base64')}`;
const ANOTHER = `sha256/${'A'.repeat(43)}=`;

const ready = (port: number, pins: readonly string[], ca = authority.pem) => {
  const bulla = new Bulla({ address: `https://localhost:${port}`, ca, pins, retries: 0 });
  return bulla.ready().finally(() => bulla.close());
};

describe('pinned keys', () => {
  it('take the server by its key, by a backup beside it, or by the key of its authority', async () => {
    await ready(server.port, []);
    await ready(server.port, [pinOf(pair)]);
    await ready(server.port, [ANOTHER, pinOf(pair)]);
    expect(server.tls.status().certificates[0]!.pin).toBe(pinOf(pair));
    // The server sends its authority along here; a client learns the others from what it trusts.
    await ready(server.port, [pinOf(authority)]);
  });

  it('refuse another key of the same authority, and say what to do', async () => {
    await expect(ready(server.port, [ANOTHER])).rejects.toMatchObject({
      code: 'untrusted_server',
      message: expect.stringMatching(
        /^The certificate of localhost is trusted, but its key sha256\/\S+ is none of the 1 that are pinned: .*BULLA_PINS/,
      ),
    });
  });

  it('do not stand in for an authority: a pinned key with a certificate that is not trusted is refused', async () => {
    const other = await make({ name: 'Authority', ca: true });
    await expect(ready(server.port, [pinOf(pair)], other.pem)).rejects.toMatchObject({ code: 'untrusted_server' });
  });

  it('are not fooled by a certificate that is sent along and signed nothing', async () => {
    // Another authority that the client trusts, by the same name, and the pinned one's certificate behind it.
    const rogue = await make({ name: 'Authority', ca: true });
    const theirs = await makeServer(rogue, { keys: await newKeys(EC) });
    const fake = await serveTls(t, [{ pem: theirs.pem, key: theirs.key }]);
    await expect(ready(fake.port, [pinOf(authority)], authority.pem + rogue.pem)).rejects.toMatchObject({
      code: 'untrusted_server',
    });
    await fake.close();
  });

  it('that are none are refused before anything is sent', () => {
    for (const pin of ['', 'sha256/short', `sha1/${'A'.repeat(43)}=`, 'A'.repeat(44)]) {
      expect(() => new Bulla({ address: 'https://localhost', pins: [pin] })).toThrow(/A pin is "sha256/);
    }
  });

  it('come from --pin or BULLA_PINS at the command line, and the first wins', async () => {
    const ca = join(t.dataDir, 'ca.crt');
    writeFileSync(ca, authority.pem);
    const env = {
      HOME: t.dataDir,
      BULLA_ADDR: `https://localhost:${server.port}`,
      BULLA_CACERT: ca,
      BULLA_PINS: `${ANOTHER}, ${ANOTHER}`,
    };
    const status = (...args: string[]) => run(process.execPath, [MAIN, 'status', ...args], { env });
    const [pinned, given] = await Promise.all([status(), status('--pin', ANOTHER, '--pin', pinOf(pair))]);
    expect([pinned.code, pinned.stderr]).toEqual([1, expect.stringContaining('none of the 2 that are pinned')]);
    expect([given.code, given.stdout.toString()]).toEqual([0, expect.stringContaining('ready:')]);
  });
});
