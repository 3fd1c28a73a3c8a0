/** Passwords: what may be configured and stored, and the queue. Their process: crypto.password-child.test.ts. */
import { readFileSync } from 'node:fs';
import { hash as argon2, argon2id } from 'argon2';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { SecretBytes } from '../src/crypto/keys.ts';
import { normalisePassword } from '../src/crypto/password.ts';
import { VaultError } from '../src/errors.ts';
import { hex, utf8 } from './crypto.reference.ts';
import { COST, children, closeHashers, failure, hasher, pepper } from './hashers.ts';

afterEach(closeHashers);

describe('hashing', () => {
  test('a password verifies against its own hash only, under its own pepper only', async () => {
    const passwords = hasher();
    const phc = await passwords.hash('correct horse', pepper);
    expect(phc).toMatch(/^\$argon2id\$v=19\$m=12288,t=3,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$/);
    expect(await passwords.verify(phc, 'correct horse', pepper)).toBe(true);
    expect(await passwords.verify(phc, utf8('correct horse'), pepper)).toBe(true);
    expect(await passwords.verify(phc, 'correct horsf', pepper)).toBe(false);
    expect(await passwords.verify(phc, 'correct horse', SecretBytes.fromBytes(new Uint8Array(32).fill(8)))).toBe(false);
    expect(await passwords.hash('correct horse', pepper)).not.toBe(phc);
    expect(pepper.use(hex)).toBe('09'.repeat(32));
  });

  test('what the child computes is what the argon2 package computes here', async () => {
    const phc = await hasher().hash('correct horse', pepper);
    const [, , , , salt, hash] = phc.split('$');
    const again = await argon2('correct horse', {
      raw: true,
      type: argon2id,
      salt: Buffer.from(salt!, 'base64'),
      secret: Buffer.alloc(32, 9),
      memoryCost: COST.memoryKib,
      timeCost: COST.passes,
      parallelism: COST.lanes,
    });
    expect(again.toString('base64').replaceAll('=', '')).toBe(hash);
  });

  test('RFC 9106 §5.3, Argon2id with secret and associated data', async () => {
    const tag = await argon2(Buffer.alloc(32, 1), {
      raw: true,
      type: argon2id,
      salt: Buffer.alloc(16, 2),
      secret: Buffer.alloc(8, 3),
      associatedData: Buffer.alloc(12, 4),
      memoryCost: 32,
      timeCost: 3,
      parallelism: 4,
    });
    expect(hex(tag)).toBe('0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659');
  });

  test('the self-test passes, in the child', async () => {
    const passwords = hasher();
    await passwords.selfTest();
    expect(children().length).toBe(1);
  });

  test('a decoy is never verified and costs what a hash costs', async () => {
    const passwords = hasher();
    const phc = await passwords.hash('x', pepper);
    // In the processor's time, which does not depend on what else the machine does; in ticks of 10 ms.
    const [pid] = children();
    const ticks = () => {
      const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
      return Number(fields[11]) + Number(fields[12]);
    };
    const costOf = async (act: () => Promise<unknown>) => {
      const before = ticks();
      for (let i = 0; i < 10; i++) await act();
      return ticks() - before;
    };
    const known = await costOf(() => passwords.verify(phc, 'wrong', pepper));
    const unknown = await costOf(() => passwords.verifyDecoy('wrong', pepper));
    expect(known).toBeGreaterThan(10);
    expect(await passwords.verifyDecoy('', pepper)).toBe(false);
    expect(unknown / known).toBeGreaterThan(0.5);
    expect(unknown / known).toBeLessThan(2);
  });

  test('other parameters verify and ask for a new hash', async () => {
    const phc = await hasher().hash('x', pepper);
    const today = hasher({ memoryKib: 19_456, passes: 2 });
    expect(await today.verify(phc, 'x', pepper)).toBe(true);
    expect(today.needsRehash(phc)).toBe(true);
    expect(today.needsRehash(await today.hash('x', pepper))).toBe(false);
    const weak = await argon2('x', {
      type: argon2id,
      secret: Buffer.alloc(32, 9),
      memoryCost: 64,
      timeCost: 1,
      parallelism: 1,
    });
    expect(await today.verify(weak, 'x', pepper)).toBe(true);
    expect(today.needsRehash(weak)).toBe(true);
  });
});

describe('what is refused', () => {
  test('T-030 a cost below the floor is refused with a sentence that says what to set', () => {
    for (const [memoryKib, passes, lanes] of [
      [47_103, 1, 1],
      [19_455, 2, 1],
      [12_287, 3, 1],
      [12_287, 30, 1],
      [65_536, 0, 4],
      [65_536, 3, 0],
      [65_536.5, 3, 4],
      [Number.NaN, 3, 4],
    ] as const) {
      expect(() => hasher({ memoryKib, passes, lanes }), `${memoryKib} ${passes} ${lanes}`).toThrowError(
        /m=19456 with t=2/,
      );
    }
    for (const [memoryKib, passes, lanes] of [
      [47_104, 1, 1],
      [19_456, 2, 1],
      [12_288, 3, 1],
      [65_536, 3, 4],
    ] as const) {
      hasher({ memoryKib, passes, lanes });
    }
  });

  const SALT = 'AAAAAAAAAAAAAAAAAAAAAA';
  const HASH = 'A'.repeat(43);
  test.each([
    ['m of 4 GiB', `$argon2id$v=19$m=4194304,t=3,p=1$${SALT}$${HASH}`],
    ['t of a million', `$argon2id$v=19$m=12288,t=1000000,p=1$${SALT}$${HASH}`],
    ['p of 255', `$argon2id$v=19$m=12288,t=3,p=255$${SALT}$${HASH}`],
    ['m and t each allowed, hours together', `$argon2id$v=19$m=1048576,t=32,p=1$${SALT}$${HASH}`],
    ['less memory than lanes need', `$argon2id$v=19$m=8,t=3,p=2$${SALT}$${HASH}`],
    ['an empty salt', `$argon2id$v=19$m=12288,t=3,p=1$$${HASH}`],
    ['a short salt', `$argon2id$v=19$m=12288,t=3,p=1$AAAA$${HASH}`],
    ['an empty hash', `$argon2id$v=19$m=12288,t=3,p=1$${SALT}$`],
    ['a hash of one byte', `$argon2id$v=19$m=12288,t=3,p=1$${SALT}$AA`],
    ['version 16', `$argon2id$v=16$m=12288,t=3,p=1$${SALT}$${HASH}`],
    ['no version', `$argon2id$m=12288,t=3,p=1$${SALT}$${HASH}`],
    ['argon2i', `$argon2i$v=19$m=12288,t=3,p=1$${SALT}$${HASH}`],
    ['argon2d', `$argon2d$v=19$m=12288,t=3,p=1$${SALT}$${HASH}`],
    ['bcrypt', '$2b$12$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZabcde'],
    ['zero passes', `$argon2id$v=19$m=12288,t=0,p=1$${SALT}$${HASH}`],
    ['a leading zero', `$argon2id$v=19$m=012288,t=3,p=1$${SALT}$${HASH}`],
    ['another order', `$argon2id$v=19$t=3,m=12288,p=1$${SALT}$${HASH}`],
    ['associated data', `$argon2id$v=19$m=12288,t=3,p=1,data=AAAA$${SALT}$${HASH}`],
    ['base64 with other trailing bits', `$argon2id$v=19$m=12288,t=3,p=1$AAAAAAAAAAAAAAAAAAAAAB$${HASH}`],
    ['padding', `$argon2id$v=19$m=12288,t=3,p=1$${SALT}==$${HASH}`],
    ['a newline', `$argon2id$v=19$m=12288,t=3,p=1$${SALT}$${HASH}\n`],
    ['a megabyte', `$argon2id$v=19$m=12288,t=3,p=1$${SALT}$${'A'.repeat(1_000_000)}`],
    ['nothing', ''],
  ])('T-033 a stored string with %s is refused before any memory is taken', async (_, phc) => {
    const passwords = hasher();
    const error = await failure(passwords.verify(phc, 'x', pepper));
    expect(error.code).toBe('integrity');
    expect(error.message).not.toContain(SALT);
    expect(() => passwords.needsRehash(phc)).toThrowError(VaultError);
    expect(children()).toEqual([]);
  });

  test('T-035 nothing is cut off: the last of 200 characters and what stands behind a NUL count', async () => {
    const passwords = hasher();
    const long = 'p'.repeat(199);
    const phc = await passwords.hash(`${long}a`, pepper);
    expect(await passwords.verify(phc, `${long}b`, pepper)).toBe(false);
    expect(await passwords.verify(phc, `${long}a`, pepper)).toBe(true);
    const nul = await passwords.hash('a\u0000b', pepper);
    expect(await passwords.verify(nul, 'a\u0000c', pepper)).toBe(false);
    expect(await passwords.verify(nul, 'a\u0000b', pepper)).toBe(true);
  });

  test('T-035 the length is capped at 1,024 bytes before any hashing', async () => {
    const passwords = hasher();
    expect(normalisePassword('p'.repeat(1024)).length).toBe(1024);
    for (const tooLong of ['p'.repeat(1025), 'é'.repeat(513), 'p'.repeat(1 << 20), new Uint8Array(1025)]) {
      const error = await failure(passwords.hash(tooLong, pepper));
      expect([error.code, error.message]).toEqual(['invalid_request', expect.stringContaining('1024 bytes')]);
      expect((await failure(passwords.verifyDecoy(tooLong, pepper))).code).toBe('invalid_request');
    }
    expect(children()).toEqual([]);
  });

  test('T-036 NFC and NFD are one password; compatibility forms and case are not folded', () => {
    expect(hex(normalisePassword('p\u00e4ss'))).toBe(hex(normalisePassword('pa\u0308ss')));
    expect(hex(normalisePassword('\ufb01'))).not.toBe(hex(normalisePassword('fi')));
    expect(hex(normalisePassword(' A '))).toBe(hex(utf8(' A ')));
    // Longer than the cap as typed, within it once composed.
    expect(normalisePassword('a\u0308'.repeat(400)).length).toBe(800);
  });

  test('T-036 lone surrogates are refused, without the password in the error', async () => {
    for (const text of ['\ud800', 'hunter2\udfff', '\udc00\ud800']) {
      const error = await failure(hasher().hash(text, pepper));
      expect(error.code).toBe('invalid_request');
      expect(error.message).not.toContain('hunter2');
    }
  });
});

describe('the queue', () => {
  test('beyond the queue a login is told when to come back, and what waits is done in order', async () => {
    const passwords = hasher({ queueMax: 2 });
    const done: number[] = [];
    const running = [0, 1, 2].map((i) => passwords.verifyDecoy('x', pepper).then(() => done.push(i)));
    const error = await failure(passwords.verifyDecoy('x', pepper));
    expect(error.code).toBe('busy');
    expect(error.retryAfterSeconds).toBeGreaterThanOrEqual(1);
    await Promise.all(running);
    expect(done).toEqual([0, 1, 2]);
    expect(await passwords.verifyDecoy('x', pepper)).toBe(false);
  });

  test('T-107 of many at once, who will find no room for a hash is turned away before anything is done for them', async () => {
    const passwords = hasher({ queueMax: 2 });
    let begun = 0;
    const login = () =>
      passwords.admit(async () => {
        begun += 1;
        return passwords.verifyDecoy('x', pepper);
      });
    const ends = await Promise.allSettled(Array.from({ length: 20 }, login));
    const refused = ends.flatMap((end) => (end.status === 'rejected' ? [end.reason] : []));
    expect([begun, refused.length]).toEqual([3, 17]);
    for (const error of refused) expect(error).toMatchObject({ code: 'busy', retryAfterSeconds: expect.any(Number) });
    expect(await login()).toBe(false);
    await expect(passwords.admit(() => Promise.reject(new Error('lost')))).rejects.toThrow('lost');
    expect(await Promise.all([login(), login(), login()])).toEqual([false, false, false]);
  });

  test('no more than the configured number run at once', async () => {
    // Each running hash has its memory; one child with n at once shows n times the memory, and no more.
    const passwords = hasher({ concurrency: 2, memoryKib: 65_536, passes: 4 });
    await passwords.verifyDecoy('x', pepper);
    const [pid] = children();
    const memory = () => Number(/VmRSS:\s+([0-9]+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]);
    const idle = memory();
    let finished = false;
    // So few that, on however busy a machine, they are not many: many give way, and may have another child in the end.
    const all = Promise.all(Array.from({ length: 3 }, () => passwords.verifyDecoy('x', pepper))).finally(() => {
      finished = true;
    });
    let peak = 0;
    await vi.waitFor(
      () => {
        if (!finished) peak = Math.max(peak, memory() - idle);
        expect(finished).toBe(true);
      },
      { timeout: 110_000, interval: 5 },
    );
    await all;
    expect(peak).toBeGreaterThan(65_536);
    expect(peak).toBeLessThan(2.6 * 65_536);
    expect(children()).toHaveLength(1);
  });

  test('the pepper may be wiped while a login waits', async () => {
    const passwords = hasher();
    const phc = await passwords.hash('x', pepper);
    const own = SecretBytes.fromBytes(new Uint8Array(32).fill(9));
    const waiting = [passwords.verify(phc, 'x', own), passwords.verify(phc, 'x', own)];
    own.wipe();
    expect(await Promise.all(waiting)).toEqual([true, true]);
  });
});
