/**
 * Flat names and .env text, read back by the programs that people read them with.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { decidesCode } from '../src/cli/run.ts';
import { VaultError } from '../src/errors.ts';
import { type FlatSource, flatten, toDotenv } from '../src/secret/dotenv.ts';

let directory = '';
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'bulla-dotenv-'));
});
afterAll(() => rmSync(directory, { recursive: true }));

const PRINT = 'process.stdout.write(JSON.stringify(process.env))';

/** What a program started by each reader finds in its environment. */
const READERS = {
  node: (file: string) => [process.execPath, `--env-file=${file}`, '-e', PRINT],
  bash: (file: string) => [
    'bash',
    '--norc',
    '-c',
    'set -a; . "$1"; exec "$2" -e "$3"',
    'bash',
    file,
    process.execPath,
    PRINT,
  ],
  sh: (file: string) => ['sh', '-c', 'set -a; . "$1"; exec "$2" -e "$3"', 'sh', file, process.execPath, PRINT],
};

function readBack(reader: keyof typeof READERS, text: string): Record<string, string> {
  const file = join(directory, 'test.env');
  writeFileSync(file, text, { mode: 0o600 });
  const [command = '', ...args] = READERS[reader](file);
  // A locale in which the shell sees characters, not bytes: the harder case for its quoting.
  const env = { LC_ALL: 'C.UTF-8' };
  const { stdout, stderr, status } = spawnSync(command, args, { cwd: directory, env, encoding: 'utf8' });
  expect({ stderr, status }).toEqual({ stderr: '', status: 0 });
  return JSON.parse(stdout) as Record<string, string>;
}

function refusalOf(act: () => unknown): VaultError | undefined {
  try {
    act();
    return undefined;
  } catch (error) {
    if (error instanceof VaultError && error.code === 'invalid_request') return error;
    throw error;
  }
}

const hostileCharacter = fc.constantFrom(...'abcXYZ019 \t\n"\'`$\\#=!&|;<>(){}[]*?~%^@,.:/+-_é😀\u0001\u007f\u2028');
const hostileText = fc.oneof(
  fc.string({ unit: hostileCharacter, maxLength: 20 }),
  fc.string({ unit: 'binary', maxLength: 20 }),
  fc.constantFrom(
    '',
    ' ',
    ' leading and trailing ',
    '#not a comment',
    'a # b',
    '\\n',
    'a\\nb',
    'trailing\\',
    '\\',
    '"',
    "'",
    '`',
    '"quoted"',
    "'quoted'",
    "it's",
    "it's\ntwo lines",
    '$HOME $(id) `id`',
    '~',
    '~root',
    'a:~',
    'a=b=c',
    'export X=1',
    'p4$$w0rd!!',
    '{"json": [1, "two"], "nested": {"a": null}}',
    '-----BEGIN PRIVATE KEY-----\nMIIBVgIBADANBgkqhkiG9w0BAQEFAASCAUAwggE8AgEAAkEA\n-----END PRIVATE KEY-----\n',
    'postgres://user:p%40ss@db.internal:5432/app?sslmode=verify-full&x=1',
    '\nNEXT=1\n',
    "'\nNEXT=1\n",
  ),
);

describe('.env text', () => {
  test.each(['node', 'bash', 'sh'] as const)(
    '%s reads back every value that is written, and nothing more',
    (reader) => {
      fc.assert(
        fc.property(fc.array(hostileText, { minLength: 150, maxLength: 200, size: 'max' }), (values) => {
          const entries = values
            .map((value, index) => [`V${index}`, value] as const)
            .filter(([name, value]) => refusalOf(() => toDotenv({ [name]: value })) === undefined);
          const found = readBack(reader, toDotenv(Object.fromEntries(entries)));
          expect(Object.fromEntries(Object.entries(found).filter(([name]) => /^V\d|NEXT/.test(name)))).toEqual(
            Object.fromEntries(entries),
          );
        }),
        { numRuns: 4 },
      );
    },
  );

  test('only what no reader could give back is refused', () => {
    fc.assert(
      fc.property(hostileText, (value) => {
        const hopeless = /[\0\r]|\p{Surrogate}/u.test(value) || (value.includes("'") && /["$`\\]/.test(value));
        expect(refusalOf(() => toDotenv({ V: value })) !== undefined).toBe(hopeless);
      }),
      { numRuns: 2000 },
    );
  });

  test('plain values stand without quotes, for readers that know none', () => {
    expect(toDotenv({ A: 'postgres://u:p@h:5432/d', B: 'a b', C: "it's", D: '', E: 'c2VjcmV0Cg==' })).toBe(
      "A=postgres://u:p@h:5432/d\nB='a b'\nC=\"it's\"\nD=''\nE=c2VjcmV0Cg==\n",
    );
  });

  test('a value is never run as a command by a shell', () => {
    const canary = join(directory, 'canary');
    const values = [`$(touch ${canary})`, `\`touch ${canary}\``, `';touch ${canary};'`, `"\n touch ${canary}\n"`];
    for (const [index, value] of values.entries()) {
      if (refusalOf(() => toDotenv({ V: value })) !== undefined) continue;
      expect(readBack('sh', toDotenv({ V: value })).V, String(index)).toBe(value);
    }
    expect(existsSync(canary)).toBe(false);
  });

  test.each([
    ['a NUL', 'a\0hunter2'],
    ['a carriage return', 'hunter2\r\nb'],
    ['half of a surrogate pair', 'hunter2\ud800'],
    ['a single quote beside a dollar', "hunter2'$x"],
    ['a single quote beside a double quote', `hunter2'"`],
    ['a single quote beside a backslash', "hunter2'\\"],
  ])('%s is refused by the name of its variable and without the value', (_, value) => {
    const refusal = refusalOf(() => toDotenv({ FINE: 'x', DB_PASSWORD: value }));
    expect(refusal?.message).toMatch(/^DB_PASSWORD cannot be written/);
    expect(refusal?.details).toEqual({ name: 'DB_PASSWORD' });
    expect(refusal?.message).not.toContain('hunter2');
  });

  test.each(['', '1A', 'A-B', 'A B', 'A=B', 'A\nB', 'É', 'A.B'])('the name %j is refused', (name) => {
    expect(refusalOf(() => toDotenv({ [name]: 'x' }))).toBeDefined();
  });
});

describe('flat names', () => {
  const data = (path: string, text: string, prefix = ''): FlatSource => ({ path, prefix, kind: 'data', data: text });
  const text = (path: string, value: string, prefix = ''): FlatSource => ({ path, prefix, kind: 'text', text: value });

  test('a name is the path below the prefix and the key', () => {
    const secrets = [
      data('prod/app/db', '{"user":"app","pass-word":"x"}', 'prod/app'),
      data('prod/app', '{"at.prefix":"y"}', 'prod/app'),
      data('other/db', '{"user":"z"}'),
      text('prod/app/tls/key.pem', 'PEM', 'prod/app'),
      text('prod/web', 'T', 'prod/web'),
      data('prod/app/2fa', '{"seed":"s"}', 'prod/app'),
      data('prod/x', '{"":"empty","é😀":"u"}', 'prod/x'),
    ];
    expect(flatten(secrets)).toEqual({
      DB_USER: 'app',
      DB_PASS_WORD: 'x',
      AT_PREFIX: 'y',
      OTHER_DB_USER: 'z',
      TLS_KEY_PEM: 'PEM',
      WEB: 'T',
      _2FA_SEED: 's',
      _: 'empty',
      __: 'u',
    });
  });

  test('values come out as they went in, integers beyond 2^53 too', () => {
    const document =
      '{"s":"a\\u0022\\n\\ud83d\\ude00","i":9007199254740993,"f":1.50,"e":-1E+2,"t":true,"n":null,"o":{ "b":1, "a": [12345678901234567890] },"l":[ ]}';
    expect(flatten([data('x', document, 'x')])).toEqual({
      S: 'a"\n😀',
      I: '9007199254740993',
      F: '1.50',
      E: '-1E+2',
      T: 'true',
      N: '',
      O: '{ "b":1, "a": [12345678901234567890] }',
      L: '[ ]',
    });
  });

  test('bytes come out as base64', () => {
    const bytes = Uint8Array.from([0, 255, 1, 254]).subarray(1);
    expect(flatten([{ path: 'a/blob', prefix: 'a', kind: 'bytes', bytes }])).toEqual({ BLOB: '/wH+' });
  });

  test.each([
    [[data('a/b', '{"c-d":1,"c_d":2}')], 'two keys of a/b become A_B_C_D', ['a/b', 'a/b']],
    [[data('a/b', '{"c":1}'), data('a', '{"b/c":1}')], 'keys of a/b and of a both become A_B_C', ['a/b', 'a']],
    [[text('a-b', '1'), text('a.b', '2')], 'keys of a-b and of a.b both become A_B', ['a-b', 'a.b']],
    [[data('x/a', '{"k":1}', 'x'), data('y/a', '{"k":1}', 'y')], 'keys of x/a and of y/a', ['x/a', 'y/a']],
    [[data('a', '{"Key":1,"KEY":2}')], 'two keys of a become A_KEY', ['a', 'a']],
  ])('two values for one name are refused, naming both', (secrets, message, paths) => {
    const refusal = refusalOf(() => flatten(secrets));
    expect(refusal?.message).toContain(message);
    expect(refusal?.details).toMatchObject({ paths });
  });

  test('every name that comes out may stand in an .env file, whatever the path and keys', () => {
    const path = fc.stringMatching(/^[A-Za-z0-9._~@+=-]{1,8}(\/[A-Za-z0-9._~@+=-]{1,8}){0,2}$/);
    const document = fc.dictionary(fc.string({ unit: 'binary', maxLength: 6 }), fc.integer(), { maxKeys: 3 });
    fc.assert(
      fc.property(path, document, (where, members) => {
        const secrets = [data(where, JSON.stringify(members), where)];
        fc.pre(refusalOf(() => flatten(secrets)) === undefined);
        const flat = flatten(secrets);
        expect(Object.values(flat).sort()).toEqual(Object.values(members).map(String).sort());
        expect(toDotenv(flat).split('\n')).toHaveLength(Object.keys(members).length + 1);
      }),
      { numRuns: 500 },
    );
  });

  test('a name that decides what code programs load, or whom they trust, is known as one', () => {
    const names = ['LD_PRELOAD', 'Node_Options', 'ZDOTDIR', 'HOME', 'LESSOPEN', 'SSL_CERT_FILE', 'NODE_EXTRA_CA_CERTS'];
    const more = [
      'PYTHONPYCACHEPREFIX',
      'RUSTC_WRAPPER',
      'ERL_AFLAGS',
      'MAVEN_OPTS',
      'PSQLRC',
      'R_PROFILE_USER',
      'GOFLAGS',
    ];
    expect([...names, ...more].filter((name) => !decidesCode(name))).toEqual([]);
    expect(['DATABASE_URL', 'ENV', 'HOMEPAGE', 'MY_PATH', 'LESSON'].filter(decidesCode)).toEqual([]);
  });
});
