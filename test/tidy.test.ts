/**
 * The rules of the house (design §5) as tests: who imports whom, who owns which table, what is read where, what never
 * stands in the code. An exception stands here with its reason, or it is none.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { OWNERS, ownerOf, READERS } from './tables.ts';

const ROOT = fileURLToPath(new URL('../', import.meta.url));
const files = (dir: string, ending: string): string[] =>
  readdirSync(join(ROOT, dir), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(ending))
    .map((entry) => relative(ROOT, join(entry.parentPath, entry.name)))
    .sort();
const textOf = (file: string) => readFileSync(join(ROOT, file), 'utf8');

const SOURCES = files('src', '.ts');
const TESTS = files('test', '.ts');
/** Without comments, so that a rule speaks of code only. Good enough for our code: no comment starts inside a string here. */
const codeOf = (file: string) =>
  textOf(file)
    .replace(/\/\*[\s\S]*?\*\//g, (comment) => comment.replace(/[^\n]/g, ' '))
    .replace(/(^|[\s;{(,])\/\/.*$/gm, '$1');

type Import = { readonly from: string; readonly to: string; readonly types: boolean };

/** Every import or re-export of a file: `to` is a file of ours, or a package's name. */
function importsOf(file: string): Import[] {
  const found = textOf(file).matchAll(/^(?:import|export)\s+(type\s+)?(?:[^;'"]*?\sfrom\s+)?'([^']+)';/gm);
  const lazy = codeOf(file).matchAll(/import\(\s*'([^']+)'\s*\)/g);
  const to = (name: string) => (name.startsWith('.') ? normalize(join(dirname(file), name)) : name);
  return [
    ...[...found].map(([, types, name]) => ({ from: file, to: to(name!), types: types !== undefined })),
    ...[...lazy].map(([, name]) => ({ from: file, to: to(name!), types: false })),
  ];
}
const IMPORTS = SOURCES.flatMap(importsOf);
const OURS = IMPORTS.filter(({ to }) => to.startsWith('src/'));

const found = (pattern: RegExp, among = SOURCES) =>
  among.flatMap((file) => {
    const lines = codeOf(file).split('\n');
    return lines.flatMap((line, i) => (pattern.test(line) ? [`${file}:${i + 1} ${line.trim()}`] : []));
  });

describe('imports', () => {
  /** The first pattern that fits is the file's rank: design §5. */
  const RANKS: readonly (readonly [RegExp, number])[] = [
    [/^src\/(main\.ts|cli\/)/, 8],
    [/^src\/http\//, 7],
    [/^src\/protocols\//, 6],
    [/^src\/job\//, 5],
    [
      /^src\/policy\/(access|compiled|permit|record|together|give|draft|known|rows|read|succession|opened|refused)\.ts$/,
      3,
    ],
    [/^src\/approval\/redeem\.ts$/, 2],
    [/^src\/policy\/(store|group|explain|preview|who)\.ts$/, 4],
    [/^src\/policy\//, 0],
    [/^src\/tenant\/keyring\.ts$/, 2],
    [/^src\/audit\/(append|entry|halt|recorded)\.ts$/, 2],
    [/^src\/auth\/(use|issue)\.ts$/, 2],
    [/^src\/auth\/(method|claim|token-setting)\.ts$/, 0],
    [/^src\/auth\/(issuer-keys|signed-token)\.ts$/, 1],
    [/^src\/auth\/(issuer-client|methods\/oidc)\.ts$/, 2],
    [/^src\/auth\/methods\//, 1],
    [/^src\/lease\/backend\.ts$/, 0],
    [/^src\/lease\/backends\//, 1],
    [/^src\/(tenant|auth|secret|lease|transit|approval|audit)\//, 4],
    [/^src\/vault\.ts$/, 1.5],
    [/^src\/seal\/seal\.ts$/, 0],
    [/^src\/seal\//, 1],
    [/^src\/(errors|config(-\w+)?|outbound|webhook|private-file|rate-limiter|turns)\.ts$|^src\/(crypto|db)\//, 0],
    [/^src\/client\//, 0],
  ];
  const rankOf = (file: string) => {
    const rank = RANKS.find(([pattern]) => pattern.test(file))?.[1];
    if (rank === undefined) throw new Error(`${file} has no rank: give it one, as design §5 does`);
    return rank;
  };
  const folderOf = (file: string) => dirname(file);

  /** Pure files of a folder of verbs, which stand below it: what others speak in, and the verifier that runs anywhere. */
  const PURE =
    /^src\/(auth\/(certificate-name|envelopes)|secret\/(path|document|dotenv)|tenant\/(attempt|reencrypt)|audit\/(align|csv|hashes|ocsf|proof-format|tile-path|tree|verify|verify-log))\.ts$/;

  it('go down only, and between verbs only inside of one folder', () => {
    const upward = OURS.filter(({ from, to, types }) => {
      if (types || PURE.test(to)) return false;
      const [above, below] = [rankOf(from), rankOf(to)];
      return (
        below > above ||
        (below === above && below >= 3 && folderOf(from) !== folderOf(to) && below !== 6 && below !== 8)
      );
    });
    expect(upward.map(({ from, to }) => `${from} → ${to}`)).toEqual([]);
  });

  it('of types follow the same way but for what is spoken by all: Vault, Call, Permit, an entry', () => {
    const spoken = new Set(['src/vault.ts', 'src/policy/access.ts', 'src/policy/permit.ts', 'src/audit/entry.ts']);
    const upward = OURS.filter(({ from, to, types }) => types && !spoken.has(to) && rankOf(to) > rankOf(from));
    expect(upward.map(({ from, to }) => `${from} → ${to}`)).toEqual([]);
  });

  it('every file has a rank', () => {
    for (const file of SOURCES) expect(rankOf(file), file).toBeGreaterThanOrEqual(0);
  });

  it('make no cycle', () => {
    const graph = new Map(SOURCES.map((file) => [file, [] as string[]]));
    for (const { from, to, types } of OURS) if (!types) graph.get(from)!.push(to);
    const cycles: string[] = [];
    const done = new Set<string>();
    const visit = (file: string, path: readonly string[]) => {
      if (path.includes(file)) cycles.push([...path.slice(path.indexOf(file)), file].join(' → '));
      else if (!done.has(file)) {
        for (const next of graph.get(file) ?? []) visit(next, [...path, file]);
        done.add(file);
      }
    };
    for (const file of SOURCES) visit(file, []);
    expect(cycles).toEqual([]);
  });

  it('name files that are there, with their ending', () => {
    expect(OURS.filter(({ to }) => !SOURCES.includes(to)).map(({ from, to }) => `${from} → ${to}`)).toEqual([]);
  });

  it('protocols know verbs, never crypto, the database, a seal or a keyring', () => {
    const forbidden = /^src\/(crypto|db|seal)\/|^src\/tenant\/keyring\.ts$|^src\/audit\/append\.ts$/;
    const bad = OURS.filter(({ from, to, types }) => !types && from.startsWith('src/protocols/') && forbidden.test(to));
    expect(bad.map(({ from, to }) => `${from} → ${to}`)).toEqual([]);
  });

  // Readiness, the age of keys and stuck leases are asked for by no protocol: health and metrics look at them directly.
  it('http knows the protocols; crypto, members of seal and the client know nobody above them', () => {
    const http =
      /^src\/(http|protocols)\/|^src\/(vault|errors|config(-\w+)?|outbound|private-file|rate-limiter)\.ts$|^src\/tenant\/(ready|age)\.ts$|^src\/policy\/cidr\.ts$|^src\/lease\/summary\.ts$/;
    const bad = OURS.filter(
      ({ from, to }) =>
        (from.startsWith('src/http/') && !http.test(to)) ||
        (from.startsWith('src/crypto/') && !/^src\/(crypto\/|errors\.ts)/.test(to)) ||
        (from.startsWith('src/client/') && !/^src\/(client\/|errors\.ts|audit\/verify(-log)?\.ts)/.test(to)),
    );
    expect(bad.map(({ from, to }) => `${from} → ${to}`)).toEqual([]);
  });

  it('the client that applications import needs no package and of the server only the offline verifier', () => {
    const needed = new Set(SOURCES.filter((file) => file.startsWith('src/client/')));
    for (const file of needed) for (const { from, to, types } of IMPORTS) if (from === file && !types) needed.add(to);
    const verifier = /^src\/(audit\/(verify|verify-log|align|hashes|proof-format)|crypto\/(merkle|note)|errors)\.ts$/;
    expect([...needed].filter((name) => !/^src\/client\/|^node:/.test(name) && !verifier.test(name))).toEqual([]);
  });

  // A lease's backend is somebody else's database: it has nothing of the vault's own, and the transactions of src/db are no use there.
  it('of postgres stand in src/db only, and in the backend that is a PostgreSQL', () => {
    const places = /^src\/db\/|^src\/lease\/backends\/postgres\.ts$/;
    expect(IMPORTS.filter(({ from, to }) => to === 'postgres' && !places.test(from))).toEqual([]);
  });

  it('T-028 never bring noble’s AES, whose tables leak through the cache', () => {
    expect(
      IMPORTS.filter(({ to }) => /^@noble\/ciphers\/(aes|_|webcrypto)/.test(to) || to === '@noble/ciphers'),
    ).toEqual([]);
  });

  it('name only packages that package.json lists as needed at run time', () => {
    const { dependencies } = JSON.parse(textOf('package.json')) as { dependencies: Record<string, string> };
    const packageOf = (name: string) =>
      name
        .split('/')
        .slice(0, name.startsWith('@') ? 2 : 1)
        .join('/');
    const missing = IMPORTS.filter(({ to }) => !/^(src\/|node:)/.test(to) && !(packageOf(to) in dependencies));
    expect(missing.map(({ from, to }) => `${from} → ${to}`)).toEqual([]);
  });
});

describe('tables', () => {
  const STATEMENT = /\b(FROM|JOIN|INTO|UPDATE)\s+(?:bulla\.)?([a-z_]+)\b(?!\s*\()/g;
  const TABLES = files('sql', '.sql').flatMap((file) =>
    [...textOf(file).matchAll(/CREATE TABLE bulla\.(\w+)/g)].map(([, name]) => name!),
  );

  it('each has an owner', () => {
    expect(TABLES.filter((table) => ownerOf(table) === undefined)).toEqual([]);
    expect(Object.keys(OWNERS).filter((table) => !TABLES.includes(table))).toEqual([]);
  });

  it('are named in SQL by their owner only, and read by the few that say why', () => {
    const strangers = SOURCES.flatMap((file) => {
      const code = codeOf(file);
      return [...code.matchAll(STATEMENT)].flatMap(([statement, verb, table]) => {
        if (!TABLES.includes(table!) || file.startsWith(ownerOf(table!)!)) return [];
        const before = code.slice(Math.max(0, code.indexOf(statement) - 8), code.indexOf(statement));
        const reads = verb === 'JOIN' || (verb === 'FROM' && !/DELETE\s*$/.test(before));
        const allowed = reads && READERS.some((reader) => reader.file.test(file) && reader.tables.test(table!));
        return allowed ? [] : [`${file}: ${statement.replace(/\s+/g, ' ')}`];
      });
    });
    expect(strangers).toEqual([]);
  });

  it('no statement is put together from text that is not ours', () => {
    const loose = found(/\.unsafe\(/).filter(
      (line) => !/^src\/db\//.test(line) && !/unsafe\((COLUMNS|\w*_COLUMNS)\)/.test(line),
    );
    const known = [/^src\/tenant\/reencrypt\.ts:/, /^src\/job\//, /^src\/lease\/backends\/postgres\.ts:/];
    expect(loose.filter((line) => !known.some((place) => place.test(line)))).toEqual([]);
  });
});

describe('one place each', () => {
  it('process.env is read in config.ts and config-client.ts only, process.argv in main.ts only', () => {
    const env = found(/process\.env\b/).filter((line) => !/^src\/config(-client)?\.ts:/.test(line));
    const argv = found(/process\.argv\b/).filter((line) => !line.startsWith('src/main.ts'));
    expect([...env, ...argv]).toEqual([]);
  });

  it('every action is in docs/policy.md, every setting in docs/configuration.md', () => {
    const actions = [...textOf('src/policy/action.ts').matchAll(/^ {2}'([a-z-]+\.[a-z-]+)': \{/gm)].map(
      ([, name]) => name!,
    );
    const settings = SOURCES.filter((file) => /^src\/config[a-z-]*\.ts$/.test(file)).flatMap((file) =>
      [...codeOf(file).matchAll(/\bBULLA_[A-Z0-9_]+\b/g)].map(([name]) => name),
    );
    expect([actions.length > 100, settings.length > 50]).toEqual([true, true]);
    const [policy, configuration] = [textOf('docs/policy.md'), textOf('docs/configuration.md')];
    expect(actions.filter((name) => !policy.includes(`\n| \`${name}\` |`))).toEqual([]);
    expect(settings.filter((name) => !configuration.includes(`\`${name}`))).toEqual([]);
  });

  it('every error code has a status, and no other status stands beside it', () => {
    const union = /export type ErrorCode =([\s\S]*?);\n/.exec(textOf('src/errors.ts'))![1]!;
    const codes = [...union.matchAll(/\|\s*'([a-z_]+)'/g)].map(([, code]) => code!);
    const table = /const STATUS = \{([\s\S]*?)\n\} as const/.exec(textOf('src/http/error.ts'))![1]!;
    const rows = [...table.matchAll(/^\s{2}([a-z_]+): (\d{3}),/gm)].map(([, code]) => code!);
    expect(codes.length).toBeGreaterThan(15);
    expect([...rows].sort()).toEqual([...codes].sort());
  });

  it('VaultError is the only error that is thrown on purpose; the others are for ourselves', () => {
    const classes = found(/class \w+ extends (\w*Error)\b/).map((line) =>
      line.replace(/^(\S+):\d+ .*class (\w+) .*/, '$1 $2'),
    );
    const internal = /RetryTransaction|AccessMoved|Failed|Stopped|Unfinished|VaultError|BullaError/;
    const inCli = /^src\/(cli|client)\//;
    expect(classes.filter((line) => !internal.test(line) && !inCli.test(line))).toEqual([]);
  });
});

describe('what never stands in the code', () => {
  // Of a client's certificate the tenant decides, not the listener; this is the server's side.
  const asked = /^src\/http\/tls\.ts:\d+ rejectUnauthorized: false,$/;

  it.each([
    ['a note to do it later', /\b(TODO|FIXME|XXX|HACK)\b/],
    ['a print', /\bconsole\.\w+\(/],
    ['a type that is none', /(:|\bas|<)\s*any\b/],
    ['an enum, a namespace or a decorator', /^\s*(export\s+)?(const\s+)?enum\s|^\s*namespace\s|^\s*@\w+\(/],
    ['code from text', /\beval\(|new Function\(/],
    ['T-249 memory that was somebody else’s', /\ballocUnsafe(Slow)?\b|new Buffer\(/],
    ['a switched-off check of types or TLS', /@ts-(ignore|nocheck)|rejectUnauthorized:\s*false/],
    ['MD5 or SHA-1 as a hash of ours', /create(Hash|Hmac)\('(md5|sha1)'/],
  ])('%s', (_, pattern) => {
    expect(found(pattern).filter((line) => !asked.test(line))).toEqual([]);
  });

  it('comments to do it later', () => {
    const later = SOURCES.filter((file) => /\b(TODO|FIXME)\b/.test(textOf(file)));
    expect(later).toEqual([]);
  });

  it('randomness that can be guessed, but for the jitter of retries', () => {
    expect(found(/Math\.random\(/).filter((line) => !line.startsWith('src/client/'))).toEqual([]);
  });

  it('T-023 a comparison of secrets or their hashes that stops at the first difference', () => {
    const name = String.raw`[\w.]*([sS]ecret|[hH]ash|[pP]assword|[sS]hare|[mM]ac|[cC]ommitment)`;
    const value = String.raw`(?!null\b|undefined\b|'|"|\d|typeof\b)`;
    const compared = new RegExp(`${name}\\s*[!=]==?\\s*${value}[\\w.]+|[\\w.]+\\s*[!=]==?\\s*${name}\\b`);
    const known = [
      // Two hashes of the same row: nothing that came from outside.
      /phc [!=]== \w+\.phc/,
      // The new password against the one that was just proven right.
      /currentPassword !== newPassword/,
      // What the vault knows against what a login has just proven right.
      /const isNew = password !== current/,
    ];
    const lines = found(compared).filter((line) => !/[!=]==?\s*(null|undefined|true|false)\b/.test(line));
    expect(lines.filter((line) => !known.some((one) => one.test(line)) && !/\.length|sha256/.test(line))).toEqual([]);
  });
});

describe('every file', () => {
  it.each(['src', 'test'] as const)('of %s opens with what it is for', (dir) => {
    const bare = (dir === 'src' ? SOURCES : TESTS).filter((file) => !/^(#!.*\n)?\/(\*\*|\/ )/.test(textOf(file)));
    // Generated for the compiler, and data.
    expect(bare.filter((file) => !/^test\/(vectors|fixtures)\/|\.d\.[mc]?ts$/.test(file))).toEqual([]);
  });

  it.each(['src', 'test'] as const)('of %s has at most 450 lines', (dir) => {
    const written = (dir === 'src' ? ['.ts'] : ['.ts', '.mjs', '.go', '.py']).flatMap((ending) => files(dir, ending));
    const long = written.filter((file) => textOf(file).split('\n').length - 1 > 450);
    // Types that are generated from openapi.yaml.
    expect(long.filter((file) => file !== 'src/client/types.ts')).toEqual([]);
  });

  it('of sql is numbered without a gap and opens with a comment', () => {
    const numbered = files('sql', '.sql');
    numbered.forEach((file, i) => {
      expect(file).toMatch(new RegExp(`^sql/${String(i + 1).padStart(4, '0')}_[a-z0-9_]+\\.sql$`));
      expect(textOf(file)).toMatch(/^-- /);
    });
  });

  it('names things of the field: no utils, helpers, common, services', () => {
    const vague = /(^|\/)(utils?|helpers?|common|misc|shared|services?|managers?|lib)(\/|\.ts$)/;
    expect(SOURCES.filter((file) => vague.test(file.slice('src/'.length)) && !/service\.ts$/.test(file))).toEqual([]);
  });
});
