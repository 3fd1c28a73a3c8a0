/** The envelope: its written form, and every way in which one may not open. */
import { readdirSync, readFileSync } from 'node:fs';
import { inspect } from 'node:util';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CONTEXT_FIELDS, type Context, contextLabel, encodeContext, LABEL } from '../src/crypto/context.ts';
import {
  ENVELOPE_OVERHEAD,
  envelopeCommitment,
  envelopeFingerprint,
  envelopeKeyVersion,
  open,
  seal,
  sealInto,
} from '../src/crypto/envelope.ts';
import { Key } from '../src/crypto/keys.ts';
import { VaultError } from '../src/errors.ts';
import { type Fields, hex, referenceContext, referenceDerive, referenceSeal, unhex, utf8 } from './crypto.reference.ts';
import { ciphertextUnderTwoKeys, opensUnder } from './crypto.twokeys.ts';

const VECTORS = new URL('./vectors/', import.meta.url);
const KEY = Uint8Array.from({ length: 32 }, (_, i) => i);
const SECRET = { label: 'secret', tenant: 'aaaaaaaaaaaaaaaa', secret: 'bbbbbbbbbbbbbbbb', version: 1 } as const;

type Vector = {
  expect: 'ok' | 'integrity';
  key: string;
  key_version: number;
  context: Fields;
  envelope: string;
  plaintext?: string;
  encoded_context?: string;
  associated_data?: string;
  encryption_key?: string;
  commitment?: string;
};

function vector(name: string): Vector {
  return JSON.parse(readFileSync(new URL(name, VECTORS), 'utf8'));
}

/** Opens, and returns the error if there is one; anything but the one `integrity` error fails the test. */
function refusal(key: Key, context: Context, envelope: Uint8Array): string | undefined {
  try {
    open(key, context, envelope);
    return undefined;
  } catch (error) {
    expect(error).toBeInstanceOf(VaultError);
    expect((error as VaultError).code).toBe('integrity');
    expect((error as VaultError).cause).toBeUndefined();
    return (error as VaultError).message;
  }
}

describe('vectors', () => {
  const names = readdirSync(VECTORS).filter((name) => name.startsWith('envelope-'));

  test('there are some of each kind, named for what they expect', () => {
    expect(names.filter((name) => name.startsWith('envelope-ok-')).length).toBeGreaterThan(15);
    expect(names.filter((name) => name.startsWith('envelope-fail-')).length).toBeGreaterThan(25);
    for (const name of names) {
      expect(vector(name).expect, name).toBe(name.startsWith('envelope-ok-') ? 'ok' : 'integrity');
    }
  });

  test.each(names)('%s', (name) => {
    const { key, key_version, context, envelope, ...rest } = vector(name);
    const opener = Key.fromBytes(key_version, unhex(key));
    if (rest.expect === 'integrity') {
      expect(refusal(opener, context as Context, unhex(envelope))).toBeDefined();
      return;
    }
    expect(hex(open(opener, context as Context, unhex(envelope)))).toBe(rest.plaintext);
    expect(hex(encodeContext(context as Context))).toBe(hex(referenceContext(context)));
    expect(envelopeKeyVersion(unhex(envelope))).toBe(key_version);
    expect(hex(envelopeCommitment(unhex(envelope)))).toBe(hex(referenceDerive(unhex(key), 'bulla/v1/commit')));
    if (rest.encoded_context === undefined) return;
    expect(rest.encoded_context).toBe(hex(referenceContext(context)));
    expect(rest.commitment).toBe(hex(referenceDerive(unhex(key), 'bulla/v1/commit')));
    expect(rest.encryption_key).toBe(hex(referenceDerive(unhex(key), 'bulla/v1/encrypt')));
    const nonce = unhex(envelope).subarray(38, 62);
    const again = referenceSeal({
      key: unhex(key),
      keyVersion: key_version,
      context,
      nonce,
      plaintext: unhex(rest.plaintext!),
    });
    expect(hex(again.envelope)).toBe(envelope);
    expect(hex(again.associatedData)).toBe(rest.associated_data);
  });
});

describe('sealing and opening', () => {
  const key = Key.fromBytes(3, KEY);

  test('what is sealed opens, and has the written form byte for byte, at every length', () => {
    for (const length of [0, 1, 15, 16, 17, 63, 64, 65, 200, 1024, 16_384, 1_048_576]) {
      const plaintext = Uint8Array.from({ length }, (_, i) => i * 7);
      const envelope = seal(key, SECRET, plaintext);
      expect(envelope.length).toBe(length + ENVELOPE_OVERHEAD);
      expect(Buffer.compare(open(key, SECRET, envelope), plaintext)).toBe(0);
      const nonce = envelope.slice(38, 62);
      const again = referenceSeal({ key: KEY, keyVersion: 3, context: SECRET, nonce, plaintext }).envelope;
      expect(Buffer.compare(again, envelope)).toBe(0);
    }
  });

  test('sealing changes nothing of what it was given, and opening neither', () => {
    const plaintext = utf8('value');
    const envelope = seal(key, SECRET, plaintext);
    expect(plaintext).toEqual(utf8('value'));
    const kept = envelope.slice();
    expect(new TextDecoder().decode(open(key, SECRET, envelope))).toBe('value');
    expect(envelope).toEqual(kept);
  });

  test('an envelope inside a larger buffer opens', () => {
    const envelope = seal(key, SECRET, utf8('value'));
    const larger = new Uint8Array(envelope.length + 6);
    larger.set(envelope, 3);
    expect(Buffer.from(open(key, SECRET, larger.subarray(3, 3 + envelope.length))).toString()).toBe('value');
  });

  test('the fingerprint of a key is that of its envelopes', () => {
    const envelope = seal(key, SECRET, utf8('value'));
    expect(envelopeFingerprint(envelope)).toBe(key.fingerprint);
    expect(key.fingerprint).toBe(hex(referenceDerive(KEY, 'bulla/v1/commit')).slice(0, 16));
  });

  test('reading the header of what is no envelope is an integrity error', () => {
    for (const bytes of [new Uint8Array(0), new Uint8Array(200), unhex(`0102${'00'.repeat(100)}`)]) {
      expect(() => envelopeKeyVersion(bytes)).toThrowError(VaultError);
      expect(() => envelopeFingerprint(bytes)).toThrowError(VaultError);
    }
  });
});

describe('sealing into a place', () => {
  const key = Key.generate(1);

  test('writes one envelope there, and nothing beside it', () => {
    for (const length of [0, 1, 63, 64, 1024, 5000]) {
      const plaintext = new Uint8Array(length).fill(7);
      const place = new Uint8Array(ENVELOPE_OVERHEAD + length + 20).fill(0xaa);
      const end = 10 + ENVELOPE_OVERHEAD + length;
      sealInto(key, SECRET, plaintext, place.subarray(10, end));
      expect(hex(open(key, SECRET, place.subarray(10, end)))).toBe(hex(plaintext));
      expect(hex(place.subarray(0, 10)) + hex(place.subarray(end))).toBe('aa'.repeat(20));
    }
  });

  test('a place of another length is refused, and nothing is written', () => {
    for (const wrong of [-1, 1]) {
      const place = new Uint8Array(ENVELOPE_OVERHEAD + 5 + wrong);
      expect(() => sealInto(key, SECRET, utf8('12345'), place)).toThrow(/as long as/);
      expect(place.every((byte) => byte === 0)).toBe(true);
    }
  });
});

describe('refusing', () => {
  const key = Key.fromBytes(1, KEY);
  const envelope = seal(key, SECRET, utf8('plain text'));

  test('T-005 each flipped bit of an envelope fails, and all fail alike', () => {
    const messages = new Set<string | undefined>();
    for (let bit = 0; bit < envelope.length * 8; bit++) {
      const flipped = envelope.slice();
      flipped[bit >> 3]! ^= 1 << (bit & 7);
      messages.add(refusal(key, SECRET, flipped));
    }
    expect(messages.size).toBe(1);
    expect(messages.has(undefined)).toBe(false);
  });

  test('T-006 an envelope cut or lengthened at every byte fails with the same error', () => {
    const messages = new Set<string | undefined>();
    for (let n = 0; n < envelope.length; n++) {
      messages.add(refusal(key, SECRET, envelope.slice(0, n)));
      messages.add(refusal(key, SECRET, envelope.slice(envelope.length - n)));
      messages.add(
        refusal(key, SECRET, Buffer.concat([envelope.subarray(0, n), Uint8Array.of(0), envelope.subarray(n)])),
      );
    }
    messages.add(refusal(key, SECRET, Buffer.concat([envelope, new Uint8Array(1)])));
    expect([...messages]).toEqual([refusal(key, SECRET, new Uint8Array(0))]);
  });

  test('T-007 T-008 no ciphertext opens in the place of another, of another kind, tenant, id or version', () => {
    const ids = ['aaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbb'];
    const contexts: Context[] = ids.flatMap((a) => [
      ...ids.flatMap((b): Context[] => [
        { label: 'secret', tenant: a, secret: b, version: 1 },
        { label: 'secret', tenant: a, secret: b, version: 2 },
        { label: 'secret-metadata', tenant: a, secret: b },
        { label: 'lease-credential', tenant: a, lease: b },
        { label: 'backend-config', tenant: a, backend: b },
        { label: 'static-account', tenant: a, account: b },
        { label: 'rotator', tenant: a, secret: b },
        { label: 'totp-seed', tenant: a, user: b },
        { label: 'issuer-secret', tenant: a, issuer: b },
        { label: 'cubbyhole', tenant: a, token: b, path: 'c' },
        { label: 'transit-key', tenant: a, key: b, version: 1 },
        { label: 'kept-answer', tenant: a, actor: b, key: a },
        { label: 'kept-answer', tenant: a, actor: b, key: 'cccccccccccccccc' },
      ]),
      { label: 'data-key', tenant: a, version: 1 },
      { label: 'data-key', tenant: a, version: 2 },
      { label: 'root-key', deployment: a, version: 1 },
    ]);
    contexts.push(
      { label: 'system-key', purpose: 'pepper', version: 1 },
      { label: 'system-key', purpose: 'log-signing', version: 1 },
    );
    const sealed = contexts.map((context) => seal(key, context, utf8('x')));
    for (const [i, context] of contexts.entries()) {
      for (const [j, other] of sealed.entries()) {
        expect(refusal(key, context, other) === undefined, `${JSON.stringify(context)} and ${j}`).toBe(i === j);
      }
    }
  });

  test('T-009 a ciphertext built to decrypt under two keys opens under the one it commits to only', () => {
    const ok = vector('envelope-ok-two-keys.json');
    const fail = vector('envelope-fail-two-keys.json');
    expect(fail.envelope).toBe(ok.envelope);
    const envelope = unhex(ok.envelope);
    const aad = Buffer.concat([envelope.subarray(0, 38), referenceContext(ok.context)]);
    const [nonce, body] = [envelope.slice(38, 62), envelope.slice(62)];
    const own = referenceDerive(unhex(ok.key), 'bulla/v1/encrypt');
    const other = referenceDerive(unhex(fail.key), 'bulla/v1/encrypt');
    // How it was made; the cipher alone accepts it under both.
    expect(hex(ciphertextUnderTwoKeys(own, other, nonce, aad))).toBe(hex(body));
    for (const key of [own, other]) expect(opensUnder(key, nonce, aad, body).length).toBe(48);
    expect(refusal(Key.fromBytes(1, unhex(ok.key)), SECRET, envelope)).toBeUndefined();
    expect(refusal(Key.fromBytes(1, unhex(fail.key)), SECRET, envelope)).toBeDefined();
  });

  test('T-021 an unknown format version or algorithm is refused although everything else is right', () => {
    for (let value = 0; value < 256; value++) {
      if (value === 1) continue;
      const parts = { key: KEY, context: SECRET, nonce: new Uint8Array(24), plaintext: utf8('x') };
      expect(refusal(key, SECRET, referenceSeal({ ...parts, formatVersion: value }).envelope)).toBeDefined();
      expect(refusal(key, SECRET, referenceSeal({ ...parts, algorithm: value }).envelope)).toBeDefined();
    }
  });

  test('T-022 bad tag, bad context, unknown key and bad version are one error with one text', () => {
    const tag = envelope.slice();
    tag[tag.length - 1]! ^= 0x80;
    const version = envelope.slice();
    version[0] = 9;
    const messages = [
      refusal(key, SECRET, tag),
      refusal(key, { ...SECRET, version: 2 }, envelope),
      refusal(Key.generate(1), SECRET, envelope),
      refusal(Key.fromBytes(2, KEY), SECRET, envelope),
      refusal(key, SECRET, version),
    ];
    expect(new Set(messages).size).toBe(1);
    expect(messages[0]).toBeDefined();
  });
});

describe('contexts', () => {
  const text = fc
    .string({ minLength: 1, maxLength: 40, unit: 'binary' })
    .filter((value) => !/\p{Surrogate}/u.test(value));
  const integer = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });
  const INTEGERS = new Set(['version']);
  const context = fc
    .constantFrom(...(Object.keys(CONTEXT_FIELDS) as Context['label'][]))
    .chain((label) =>
      fc.record(
        Object.fromEntries([
          ['label', fc.constant(label)],
          ...CONTEXT_FIELDS[label].map((name) => [name, INTEGERS.has(name) ? integer : text]),
        ]),
      ),
    ) as fc.Arbitrary<Context & Fields>;

  /** Reads an encoding back without knowing any label: that it can be read in one way only is what injective means. */
  function decode(bytes: Uint8Array): (string | number)[] {
    const buffer = Buffer.from(bytes);
    const fields: (string | number)[] = [];
    let at = 0;
    while (at < buffer.length) {
      const type = String.fromCharCode(buffer[at]!);
      const end = at + 5 + buffer.readUInt32BE(at + 1);
      const body = buffer.subarray(at + 5, end);
      fields.push(type === 'i' ? Number(body.readBigUInt64BE()) : body.toString('utf8'));
      at = end;
    }
    expect(at).toBe(buffer.length);
    return fields;
  }

  test('T-028 an encoded context reads back as exactly what went in', () => {
    fc.assert(
      fc.property(context, (value) => {
        const encoded = encodeContext(value);
        expect(decode(encoded)).toEqual([
          contextLabel(value.label),
          ...CONTEXT_FIELDS[value.label].map((name) => value[name as string]),
        ]);
        expect(hex(encoded)).toBe(hex(referenceContext(value)));
      }),
      { numRuns: 500 },
    );
  });

  test('T-028 ("ab", "c") is not ("a", "bc"), 1 is not "1", and two Unicode forms are two contexts', () => {
    const encoded = (value: object) => hex(encodeContext({ ...SECRET, ...value } as Context));
    const values = [
      { tenant: 'ab', secret: 'c' },
      { tenant: 'a', secret: 'bc' },
      { tenant: 'c', secret: 'ab' },
      { tenant: '1', secret: 'c', version: 1 },
      { tenant: '1', secret: 'c', version: '1' },
      { tenant: '\u00e9', secret: 'c' },
      { tenant: 'e\u0301', secret: 'c' },
      { tenant: 'a\u0000', secret: 'bc' },
    ];
    expect(new Set(values.map(encoded)).size).toBe(values.length);
  });

  test('T-028 what UTF-8 would fold together, and what is no value, is refused', () => {
    for (const tenant of [
      '\ud800',
      'a\udfff',
      '',
      'x'.repeat(1025),
      undefined,
      null,
      {},
      1.5,
      -1,
      2 ** 53,
      Number.NaN,
    ]) {
      expect(() => encodeContext({ ...SECRET, tenant } as unknown as Context)).toThrow(/assertion failed/);
    }
    expect(() => encodeContext({ label: 'toString' } as unknown as Context)).toThrow(/assertion failed/);
    expect(() => encodeContext({ label: 'new' } as unknown as Context)).toThrow(/assertion failed/);
  });

  test('T-017 no two labels are equal, and what is derived with them is fixed', () => {
    const fixed = JSON.parse(readFileSync(new URL('labels.json', VECTORS), 'utf8')) as {
      key: string;
      hkdf: Record<string, string>;
      hash: string[];
      context: string[];
    };
    const all = [...Object.values(LABEL), ...(Object.keys(CONTEXT_FIELDS) as Context['label'][]).map(contextLabel)];
    expect(new Set(all).size).toBe(all.length);
    expect(all.sort()).toEqual([...Object.keys(fixed.hkdf), ...fixed.hash, ...fixed.context].sort());
    for (const [label, derived] of Object.entries(fixed.hkdf)) {
      expect(hex(referenceDerive(unhex(fixed.key), label))).toBe(derived);
    }
    const key = Key.fromBytes(1, unhex(fixed.key));
    expect(hex(envelopeCommitment(seal(key, SECRET, utf8(''))))).toBe(fixed.hkdf['bulla/v1/commit']);
    expect(inspect(key)).not.toContain(fixed.hkdf['bulla/v1/encrypt']);
  });
});
