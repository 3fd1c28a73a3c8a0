/** Keys act and never hand out bytes: wrapping, printing, wiping, caching. */
import { setImmediate as settled } from 'node:timers/promises';
import { inspect } from 'node:util';
import { describe, expect, test, vi } from 'vitest';
import { open, seal } from '../src/crypto/envelope.ts';
import { Key, KeyCache, rewrap, SecretBytes } from '../src/crypto/keys.ts';
import { VaultError } from '../src/errors.ts';
import { hex, referenceDerive, utf8 } from './crypto.reference.ts';

const SECRET = { label: 'secret', tenant: 'aaaaaaaaaaaaaaaa', secret: 'bbbbbbbbbbbbbbbb', version: 1 } as const;
const DATA_KEY = { label: 'data-key', tenant: 'aaaaaaaaaaaaaaaa', version: 1 } as const;
const PEPPER = { label: 'system-key', purpose: 'pepper', version: 1 } as const;

describe('wrapping', () => {
  test('a wrapped key opens again as the same key', () => {
    const root = Key.generate(1);
    const dataKey = Key.generate(1);
    const sealed = seal(dataKey, SECRET, utf8('value'));
    const again = root.unwrap(DATA_KEY, root.wrap(DATA_KEY, dataKey), 1);
    expect(again.fingerprint).toBe(dataKey.fingerprint);
    expect(Buffer.from(open(again, SECRET, sealed)).toString()).toBe('value');
  });

  test('a key is wrapped once: afterwards nobody, the wrapper included, can have its bytes', () => {
    const root = Key.generate(1);
    const dataKey = Key.generate(1);
    root.wrap(DATA_KEY, dataKey);
    expect(() => root.wrap(DATA_KEY, dataKey)).toThrow(/wrapped once/);
    expect(() => root.wrap(DATA_KEY, Key.fromBytes(1, new Uint8Array(32).fill(1)))).toThrow(/wrapped once/);
  });

  test('T-008 a wrapped key does not unwrap as another tenant’s, version or purpose', () => {
    const root = Key.generate(1);
    const wrapped = root.wrap(DATA_KEY, Key.generate(1));
    for (const context of [{ ...DATA_KEY, tenant: 'b' }, { ...DATA_KEY, version: 2 }, PEPPER]) {
      expect(() => root.unwrap(context, wrapped, 1)).toThrowError(VaultError);
    }
  });

  test('re-wrapping moves a key to a new wrapper: only the new one opens it', () => {
    const [oldRoot, newRoot] = [Key.generate(1), Key.generate(2)];
    const dataKey = Key.generate(1);
    const moved = rewrap(oldRoot, newRoot, DATA_KEY, oldRoot.wrap(DATA_KEY, dataKey));
    expect(newRoot.unwrap(DATA_KEY, moved, 1).fingerprint).toBe(dataKey.fingerprint);
    expect(() => oldRoot.unwrap(DATA_KEY, moved, 1)).toThrowError(VaultError);
    expect(() => rewrap(newRoot, oldRoot, { ...DATA_KEY, version: 2 }, moved)).toThrowError(VaultError);
  });

  test('other secret bytes wrap, unwrap and re-wrap', () => {
    const [oldRoot, newRoot] = [Key.generate(1), Key.generate(2)];
    const pepper = SecretBytes.generate(32);
    const wrapped = oldRoot.wrapSecret(PEPPER, pepper);
    const again = newRoot.unwrapSecret(PEPPER, rewrap(oldRoot, newRoot, PEPPER, wrapped));
    expect(again.use(hex)).toBe(pepper.use(hex));
  });

  test('bytes that are no key do not unwrap as one', () => {
    const root = Key.generate(1);
    const short = root.wrapSecret(DATA_KEY, SecretBytes.fromBytes(new Uint8Array(31).fill(1)));
    expect(() => root.unwrap(DATA_KEY, short, 1)).toThrowError(/does not hold 32 bytes/);
  });

  test('key versions are from 1 to 2^32-1 and keys have 32 bytes', () => {
    for (const version of [0, -1, 1.5, 2 ** 32, Number.NaN]) expect(() => Key.generate(version)).toThrow(/assertion/);
    for (const length of [0, 16, 31, 33]) expect(() => Key.fromBytes(1, new Uint8Array(length))).toThrow(/assertion/);
  });
});

describe('hiding', () => {
  const bytes = Uint8Array.from({ length: 32 }, (_, i) => 0xa0 + i);
  const forms = (raw: Uint8Array) => {
    const buffer = Buffer.from(raw);
    return [buffer.toString('hex'), buffer.toString('base64').slice(0, 40), [...raw].join(', '), [...raw].join(',')];
  };
  const prints = (value: unknown) => [
    String(value),
    JSON.stringify({ value }),
    inspect(value, { showHidden: true, depth: 9, getters: true }),
    inspect({ nested: [value] }, { showHidden: true, depth: 9, customInspect: false }),
    inspect(Object.entries(value as object)),
  ];

  test('a key prints its version and fingerprint, never its bytes or what is derived from them', () => {
    const key = Key.fromBytes(7, bytes);
    expect(String(key)).toBe(`[Key v7 ${key.fingerprint}]`);
    expect(inspect(key)).toBe(String(key));
    const hidden = [bytes, referenceDerive(bytes, 'bulla/v1/encrypt')].flatMap(forms);
    for (const printed of prints(key)) for (const form of hidden) expect(printed).not.toContain(form);
  });

  test('secret bytes print their length only', () => {
    const secret = SecretBytes.fromBytes(bytes);
    expect(String(secret)).toBe('[SecretBytes 32]');
    for (const printed of prints(secret)) for (const form of forms(bytes)) expect(printed).not.toContain(form);
  });

  test('both copy what they are given', () => {
    const given = bytes.slice();
    const [key, secret] = [Key.fromBytes(1, given), SecretBytes.fromBytes(given)];
    const envelope = seal(key, SECRET, utf8('x'));
    given.fill(0);
    expect(Buffer.from(open(key, SECRET, envelope)).toString()).toBe('x');
    expect(secret.use(hex)).toBe(hex(bytes));
  });

  test('a wiped key or secret refuses to act', () => {
    const [key, secret, root] = [Key.generate(1), SecretBytes.generate(32), Key.generate(1)];
    const envelope = seal(key, SECRET, utf8('x'));
    const lent = secret.use((raw) => raw);
    key.wipe();
    secret.wipe();
    expect(key.wiped && secret.wiped).toBe(true);
    expect(lent).toEqual(new Uint8Array(32));
    expect(() => open(key, SECRET, envelope)).toThrow(/wiped/);
    expect(() => seal(key, SECRET, utf8('x'))).toThrow(/wiped/);
    expect(() => root.wrap(DATA_KEY, key)).toThrow(/wrapped once/);
    expect(() => secret.use(hex)).toThrow(/wiped/);
  });
});

describe('the cache', () => {
  const at = (cache: (now: () => number) => KeyCache) => {
    let now = 0;
    return { cache: cache(() => now), advance: (ms: number) => (now += ms) };
  };

  test('keeps a key for its time to live from when it was set, however often it is used, then wipes it', async () => {
    const { cache, advance } = at((now) => new KeyCache(1000, now));
    const key = Key.generate(1);
    cache.set('a/1', key);
    for (let i = 0; i < 9; i++) {
      advance(111);
      expect(cache.get('a/1')).toBe(key);
    }
    advance(1);
    expect(cache.get('a/1')).toBeUndefined();
    await settled();
    expect(key.wiped).toBe(true);
    expect(cache.size).toBe(0);
    cache.clear();
  });

  test('wipes expired keys that nobody asks for', async () => {
    const cache = new KeyCache(20, () => performance.now());
    const keys = [Key.generate(1), Key.generate(2)];
    for (const key of keys) cache.set(`a/${key.version}`, key);
    await vi.waitFor(() => expect(keys.every((key) => key.wiped)).toBe(true));
    expect(cache.size).toBe(0);
  });

  test('holds a bounded number: the oldest goes first, wiped', async () => {
    const cache = new KeyCache(60_000, () => 0, 2);
    const keys = [1, 2, 3].map((version) => Key.generate(version));
    for (const key of keys) cache.set(String(key.version), key);
    await settled();
    expect(keys.map((key) => key.wiped)).toEqual([true, false, false]);
    expect(cache.size).toBe(2);
    cache.clear();
  });

  test('wipes what it drops, by id, by prefix, by replacement and all', async () => {
    const cache = new KeyCache(60_000, () => 0);
    const put = (id: string) => {
      const key = Key.generate(1);
      cache.set(id, key);
      return key;
    };
    const keys = ['t1/1', 't1/2', 't2/1', 't3/1', 't3/1'].map(put);
    await settled();
    expect(keys[3]!.wiped).toBe(true);
    cache.set('t3/1', keys[4]!);
    await settled();
    expect(keys[4]!.wiped).toBe(false);
    cache.drop('t2/1');
    await settled();
    expect(keys[2]!.wiped).toBe(true);
    cache.dropPrefix('t1/');
    await settled();
    expect([keys[0]!.wiped, keys[1]!.wiped, keys[4]!.wiped]).toEqual([true, true, false]);
    cache.clear();
    expect(keys[4]!.wiped).toBe(true);
    expect(cache.size).toBe(0);
  });

  test('a key on its way to its caller survives being replaced or dropped, and clearing wipes at once', async () => {
    const cache = new KeyCache(60_000, () => 0);
    const root = Key.generate(1);
    const wrapped = root.wrap(DATA_KEY, Key.generate(1));
    const load = async () => {
      await Promise.resolve();
      const key = root.unwrap(DATA_KEY, wrapped, 1);
      cache.set('a', key);
      return key;
    };
    const use = async (key: Promise<Key>) => seal(await key, SECRET, utf8('x')).length;
    expect(await Promise.all([use(load()), use(load()), use(load())])).toEqual([79, 79, 79]);
    const last = cache.get('a')!;
    cache.drop('a');
    cache.clear();
    expect(last.wiped).toBe(true);
  });

  test('never gives out a key that was wiped elsewhere', () => {
    const cache = new KeyCache(60_000, () => 0);
    const key = Key.generate(1);
    cache.set('a', key);
    key.wipe();
    expect(cache.get('a')).toBeUndefined();
    cache.clear();
  });
});
