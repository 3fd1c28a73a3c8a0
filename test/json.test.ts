/**
 * Strict JSON and the texts of documents, against JSON.parse and plain evaluators.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { VaultError } from '../src/errors.ts';
import { JSON_LIMITS, parseStrictJson } from '../src/protocols/native/json.ts';
import { membersOf, mergePatch } from '../src/secret/document.ts';
import { cpuMs } from './cost.ts';

const bytesOf = (text: string) => new TextEncoder().encode(text);

function parseText(text: string): unknown {
  return parseStrictJson(bytesOf(text)).value;
}

/** The message of the refusal, or undefined when the text is accepted. */
function refusalOf(bytes: Uint8Array): string | undefined {
  try {
    parseStrictJson(bytes);
    return undefined;
  } catch (error) {
    if (error instanceof VaultError && error.code === 'invalid_json') return error.message;
    throw error;
  }
}

function judge(text: string): { value: unknown } | undefined {
  try {
    return { value: JSON.parse(text) };
  } catch {
    return undefined;
  }
}

const space = fc.string({ unit: fc.constantFrom(' ', '\t', '\n', '\r'), maxLength: 2 });
/** Several spellings of few keys, so that objects meet the same key twice. */
const keyTexts = ['"a"', '"\\u0061"', '"\\u0041"', '"A"', '""', '"\\""', '"constructor"', '"1"', '"é"', '"\\u00E9"'];
const scalarText = fc.oneof(
  fc.constantFrom('0', '-0', '1e400', '-1.50E+2', '12345678901234567890', '0.1', 'true', 'false', 'null', '""'),
  fc.constantFrom('"\\ud83d\\ude00"', '"😀"', '"\\u0000"', '"\\\\\\"\\/\\b\\f\\n\\r\\t"', '"{[,:]}"', '"\u2028"'),
);

type Tree = { text: string; hasTwin: boolean };

/** Valid JSON written by hand with random white space, and whether an object in it has a key twice. */
const { tree } = fc.letrec<{ tree: Tree }>((tie) => ({
  tree: fc.oneof(
    { maxDepth: 4, depthSize: 'small' },
    scalarText.map((text) => ({ text, hasTwin: false })),
    fc.array(fc.tuple(space, tie('tree'), space), { maxLength: 4 }).map((items) => ({
      text: `[${items.map(([before, item, after]) => before + item.text + after).join(',')}]`,
      hasTwin: items.some(([, item]) => item.hasTwin),
    })),
    fc.array(fc.tuple(fc.constantFrom(...keyTexts), space, tie('tree'), space), { maxLength: 4 }).map((items) => ({
      text: `{${items.map(([key, s1, item, s2]) => `${s1}${key}${s2}:${s2}${item.text}${s1}`).join(',')}}`,
      hasTwin:
        items.some(([, , item]) => item.hasTwin) ||
        new Set(items.map(([key]) => JSON.parse(key) as string)).size < items.length,
    })),
  ),
}));

describe('strict JSON', () => {
  test('every text that JSON.stringify writes is read as JSON.parse reads it', () => {
    const value = fc.jsonValue({ stringUnit: 'binary', maxDepth: 6 });
    const spacing = fc.constantFrom('', ' ', '\t\n', 4);
    fc.assert(
      fc.property(value, spacing, (input, indent) => {
        const text = JSON.stringify(input, null, indent);
        fc.pre(!text.includes('"__proto__"') && !/\\ud[89a-f]/.test(text));
        expect(parseText(text)).toEqual(JSON.parse(text));
      }),
      { numRuns: 2000 },
    );
  });

  test('a key twice in one object is refused at any depth and in any spelling, and nothing else is', () => {
    const seen = { twin: 0, single: 0 };
    fc.assert(
      fc.property(tree, space, ({ text, hasTwin }, around) => {
        seen[hasTwin ? 'twin' : 'single']++;
        const refusal = refusalOf(bytesOf(around + text + around));
        if (hasTwin) expect(refusal).toContain('a key twice');
        else expect(parseText(around + text)).toEqual(JSON.parse(text));
      }),
      { numRuns: 5000 },
    );
    expect(Math.min(seen.twin, seen.single)).toBeGreaterThan(250);
  });

  test('what JSON.parse refuses is refused, and what is refused beyond that has one of the written reasons', () => {
    const junk = fc.constantFrom(
      ...'{}[]:,"\\u0123.-+eE tfnx\u0000\u00a0\ufeff\'/*',
      '\\ud800',
      '__proto__',
      '00',
      ',,',
    );
    const cut = fc.tuple(tree, fc.nat(), fc.nat(3), junk).map(([{ text }, place, removed, added]) => {
      const at = place % (text.length + 1);
      return text.slice(0, at) + added + text.slice(at + removed);
    });
    const seen = { accepted: 0, stricter: 0, refused: 0 };
    fc.assert(
      fc.property(cut, (text) => {
        // Cutting may leave half of a raw pair, which no UTF-8 text holds.
        fc.pre(!/\p{Surrogate}/u.test(text));
        const judged = judge(text);
        const refusal = refusalOf(bytesOf(text));
        seen[refusal === undefined ? 'accepted' : judged === undefined ? 'refused' : 'stricter']++;
        if (refusal === undefined) expect(parseText(text)).toEqual(judged?.value);
        else if (judged !== undefined) expect(refusal).toMatch(/a key twice|__proto__|half of a surrogate pair/);
      }),
      { numRuns: 10_000 },
    );
    expect(Math.min(seen.accepted, seen.refused)).toBeGreaterThan(500);
  });

  test.each([
    ['nothing', ''],
    ['white space only', ' \n'],
    ['a byte order mark', '\ufeff{}'],
    ['a trailing comma', '{"a":1,}'],
    ['a comment', '{"a":1/**/}'],
    ['single quotes', "{'a':1}"],
    ['a key without quotes', '{a:1}'],
    ['a number as a key', '{1:1}'],
    ['two values', '{}{}'],
    ['NaN', 'NaN'],
    ['Infinity', '[-Infinity]'],
    ['undefined', 'undefined'],
    ['a leading zero', '[01]'],
    ['a leading plus', '[+1]'],
    ['a bare point', '[1.]'],
    ['hex', '[0x10]'],
    ['a raw control character', '"\u0001"'],
    ['a raw line feed in a string', '"a\nb"'],
    ['an unknown escape', '"\\x41"'],
    ['a short escape', '"\\u12"'],
    ['a blank in an escape', '"\\u 123"'],
    ['a sign in an escape', '"\\u+123"'],
    ['a cut string', '"abc'],
    ['a cut escape', '"abc\\'],
    ['a cut object', '{"a":1'],
    ['crossed brackets', '[{]}'],
    ['a vertical tab as white space', '[\v1]'],
    ['a no-break space as white space', '[\u00a01]'],
    ['half of a pair, high', '"\\ud800"'],
    ['half of a pair, low', '"\\udc00"'],
    ['halves the wrong way round', '"\\udc00\\ud800"'],
    ['a high half before an ordinary escape', '"\\ud800\\u0061"'],
    ['a high half before something beyond the low ones', '"\\ud800\\uffff"'],
    ['a high half before a raw pair', '"\\ud83d😀"'],
    ['half of a pair in a key', '{"\\uD800":1}'],
    ['__proto__', '{"__proto__":{}}'],
    ['__proto__ further down', '{"data":[{"x":{"__proto__":1}}]}'],
    ['__proto__ spelled with escapes', '{"\\u005f_proto_\\u005F":1}'],
  ])('%s is refused', (_, text) => {
    expect(refusalOf(bytesOf(text))).toBeDefined();
  });

  test.each([
    ['an overlong slash', [0x22, 0xc0, 0xaf, 0x22]],
    ['a surrogate as UTF-8', [0x22, 0xed, 0xa0, 0x80, 0x22]],
    ['a lone continuation byte', [0x22, 0x80, 0x22]],
    ['a cut sequence', [0x22, 0xe2, 0x82, 0x22]],
    ['a code point beyond Unicode', [0x22, 0xf4, 0x90, 0x80, 0x80, 0x22]],
    ['UTF-16', [0xff, 0xfe, 0x7b, 0x00, 0x7d, 0x00]],
  ])('%s is refused', (_, bytes) => {
    expect(refusalOf(Uint8Array.from(bytes))).toBe('the body is not valid UTF-8');
  });

  test('T-088 a refusal never quotes what was sent', () => {
    for (const text of [
      '{"hunter2":hunter2}',
      '{"hunter2":1,"hunter2":2}',
      '"hunter2',
      '["hunter2\\x"]',
      '"hunter2"x',
    ]) {
      const refusal = refusalOf(bytesOf(text));
      expect(refusal).toMatch(/at character \d+$/);
      expect(refusal).not.toContain('hunter2');
    }
  });

  test('T-104 nesting, keys and digits are bounded, exactly', () => {
    const nested = (depth: number) => '['.repeat(depth) + ']'.repeat(depth);
    const keyed = (count: number) => `{${Array.from({ length: count }, (_, index) => `"${index}":0`).join(',')}}`;
    expect(refusalOf(bytesOf(nested(JSON_LIMITS.depthMax)))).toBeUndefined();
    expect(refusalOf(bytesOf(nested(JSON_LIMITS.depthMax + 1)))).toContain('nested deeper than 32');
    expect(refusalOf(bytesOf(keyed(JSON_LIMITS.keysMax)))).toBeUndefined();
    expect(refusalOf(bytesOf(keyed(JSON_LIMITS.keysMax + 1)))).toContain('more than 20000 keys');
    expect(refusalOf(bytesOf('9'.repeat(JSON_LIMITS.numberLengthMax)))).toBeUndefined();
    expect(refusalOf(bytesOf('9'.repeat(JSON_LIMITS.numberLengthMax + 1)))).toContain('more than 1000 characters');
    expect(refusalOf(bytesOf(`[${'[],'.repeat(50)}[]]`))).toBeUndefined();
  });

  test.each([
    ['1 MB of [', '['.repeat(1 << 20)],
    ['1 MB of {"a":', '{"a":'.repeat(200_000)],
    ['10^5 keys', `{${Array.from({ length: 100_000 }, (_, index) => `"k${index}":1`).join(',')}}`],
    ['10^5 integer-like keys', `{${Array.from({ length: 100_000 }, (_, index) => `"${index * 65536}":1`).join(',')}}`],
    ['a number of 10^6 digits', `{"n":${'9'.repeat(1_000_000)}}`],
    ['a string that never ends', `"${'\\\\'.repeat(500_000)}`],
  ])('T-104 %s is refused in less than 100 ms', async (_, text) => {
    const bytes = bytesOf(text);
    // The best of three: what is compiled and collected meanwhile is not the parser's.
    const costs: number[] = [];
    for (let i = 0; i < 3; i += 1) costs.push(await cpuMs(() => expect(refusalOf(bytes)).toBeDefined()));
    expect(Math.min(...costs)).toBeLessThan(100);
  });

  test('T-105 constructor and prototype are ordinary keys that change nothing', () => {
    const before = Object.getOwnPropertyNames(Object.prototype);
    const { value, raw } = parseStrictJson(bytesOf('{"constructor":{"prototype":{"x":1}},"toString":2}'));
    expect(Object.keys(value as object)).toEqual(['constructor', 'toString']);
    expect(raw('constructor')).toBe('{"prototype":{"x":1}}');
    expect(parseStrictJson(bytesOf('{}')).raw('constructor')).toBeUndefined();
    expect(Object.getOwnPropertyNames(Object.prototype)).toEqual(before);
    expect(({} as Record<string, unknown>).x).toBeUndefined();
  });

  test('raw is the received text of a top-level member', () => {
    const text = ' { "ttl" : 1.50 ,\n"data" : { "b" : 12345678901234567890, "a":[ 1 ,2 ] } , "\\u0074ext":"\\u0061" } ';
    const { raw } = parseStrictJson(bytesOf(text));
    expect(raw('ttl')).toBe('1.50');
    expect(raw('data')).toBe('{ "b" : 12345678901234567890, "a":[ 1 ,2 ] }');
    expect(raw('text')).toBe('"\\u0061"');
    expect(raw('a')).toBeUndefined();
    expect(parseStrictJson(bytesOf('[{"a":1}]')).raw('a')).toBeUndefined();
  });

  test('raw and the members of a document agree with JSON.parse', () => {
    fc.assert(
      fc.property(tree, ({ text, hasTwin }) => {
        fc.pre(!hasTwin && text.startsWith('{'));
        const value = JSON.parse(text) as Record<string, unknown>;
        const members = membersOf(text);
        const { raw } = parseStrictJson(bytesOf(text));
        expect(members.map(({ key }) => key).sort()).toEqual(Object.keys(value).sort());
        for (const { key, keyText, valueText } of members) {
          expect(JSON.parse(keyText)).toBe(key);
          expect(JSON.parse(valueText)).toEqual(value[key]);
          expect(raw(key)).toBe(valueText);
        }
      }),
    );
  });
});

describe('merge patch', () => {
  /** RFC 7396 §2, its pseudocode on values. */
  function applied(target: unknown, patch: unknown): unknown {
    if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) return patch;
    const isPlain = typeof target === 'object' && target !== null && !Array.isArray(target);
    const result = new Map<string, unknown>(isPlain ? Object.entries(target) : []);
    for (const [key, value] of Object.entries(patch)) {
      if (value === null) result.delete(key);
      else result.set(key, applied(result.get(key), value));
    }
    return Object.fromEntries(result);
  }

  // RFC 7396, Appendix A.
  test.each([
    ['{"a":"b"}', '{"a":"c"}', '{"a":"c"}'],
    ['{"a":"b"}', '{"b":"c"}', '{"a":"b","b":"c"}'],
    ['{"a":"b"}', '{"a":null}', '{}'],
    ['{"a":"b","b":"c"}', '{"a":null}', '{"b":"c"}'],
    ['{"a":["b"]}', '{"a":"c"}', '{"a":"c"}'],
    ['{"a":"c"}', '{"a":["b"]}', '{"a":["b"]}'],
    ['{"a":{"b":"c"}}', '{"a":{"b":"d","c":null}}', '{"a":{"b":"d"}}'],
    ['{"a":[{"b":"c"}]}', '{"a":[1]}', '{"a":[1]}'],
    ['["a","b"]', '["c","d"]', '["c","d"]'],
    ['{"a":"b"}', '["c"]', '["c"]'],
    ['{"a":"foo"}', 'null', 'null'],
    ['{"a":"foo"}', '"bar"', '"bar"'],
    ['{"e":null}', '{"a":1}', '{"e":null,"a":1}'],
    ['[1,2]', '{"a":"b","c":null}', '{"a":"b"}'],
    ['{}', '{"a":{"bb":{"ccc":null}}}', '{"a":{"bb":{}}}'],
  ])('%s with %s is %s', (target, patch, result) => {
    expect(mergePatch(target, patch)).toBe(result);
  });

  test('the result means what the RFC says it means', () => {
    fc.assert(
      fc.property(tree, tree, (target, patch) => {
        fc.pre(!target.hasTwin && !patch.hasTwin);
        const result = mergePatch(target.text, patch.text);
        expect(parseText(result)).toEqual(applied(JSON.parse(target.text), JSON.parse(patch.text)));
      }),
      { numRuns: 5000 },
    );
  });

  test('what the patch does not name keeps its text, its place and its spelling', () => {
    const target =
      '{ "z": 12345678901234567890,\n "10": { "x" : 1.0 , "big": 9007199254740993 }, "\\u0061": [ 1, 2 ], "1": "\\u00e9" }';
    expect(mergePatch(target, '{}')).toBe(
      '{"z":12345678901234567890,"10":{ "x" : 1.0 , "big": 9007199254740993 },"\\u0061":[ 1, 2 ],"1":"\\u00e9"}',
    );
    expect(mergePatch(target, '{"10":{"x":null,"new":1e2},"a": 0.10 ,"y":18446744073709551615}')).toBe(
      '{"z":12345678901234567890,"10":{"big":9007199254740993,"new":1e2},"\\u0061":0.10,"1":"\\u00e9","y":18446744073709551615}',
    );
  });

  test('T-105 a patch of constructor reaches no prototype', () => {
    expect(mergePatch('{}', '{"constructor":{"prototype":{"x":1}}}')).toBe('{"constructor":{"prototype":{"x":1}}}');
    expect(({} as Record<string, unknown>).x).toBeUndefined();
  });
});
