/**
 * The main job, as its users do it: the real process, the real command line, curl and openssl.
 *
 * An operator makes a tenant; its admin stores a TLS certificate, a database URL, an .env and a large binary; an
 * application serves TLS with what it fetched; keys rotate; an auditor proves the log; nobody else gets anything; and
 * nothing that was stored stands readable in the database, its files or its log.
 */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import postgres from 'postgres';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { spellings } from './harness.ts';
import {
  firstCredentials,
  MAIN,
  type Person,
  person,
  run,
  type Server,
  startServer,
  temporaryDirectory,
} from './process.ts';

const PASSWORDS = {
  operator: 'the operator chose this one',
  admin: 'the admin of acme chose this',
  app: 'applications like long ones',
  eve: 'eve audits what others do',
};
/** The length of the database's URL, and the beginning of one setting. */
const EXPECTED_ANSWER = '46 value 100';
const place = temporaryDirectory('e2e');
const secrets: string[] = [...Object.values(PASSWORDS)];
let server: Server;
let operator: Person;
let admin: Person;
let app: Person;
let eve: Person;
let stranger: Person;
const file = (name: string) => join(place.path, name);

const ok = async (running: ReturnType<Person>) => {
  const ran = await running;
  if (ran.code !== 0) throw new Error(`exit ${ran.code}: ${ran.stderr}`);
  return ran.stdout;
};

beforeAll(async () => {
  server = await startServer(join(place.path, 'data'));
  const people = ['operator', 'admin', 'app', 'eve', 'stranger'].map((name) => person(server.address, file(name)));
  [operator, admin, app, eve, stranger] = people as [Person, Person, Person, Person, Person];
});

afterAll(async () => {
  await server?.end('SIGTERM');
  place.remove();
});

async function makeTenant(name: string, who: Person, password: string): Promise<void> {
  const made = JSON.parse((await ok(operator(['tenant', 'create', name, '--json']))).toString());
  await ok(who(['login', name, 'admin'], `${made.admin.one_time_password}\n${password}\n`));
}

/** Starts the application under `bulla run`, asks it over TLS with curl, and ends it. */
async function appAnswers(): Promise<string> {
  const child = spawn(
    process.execPath,
    [MAIN, 'run', '--prefix', 'prod/web', '--except', 'LOGO', '--', process.execPath, file('app.mjs')],
    {
      env: { PATH: process.env.PATH, HOME: file('app'), BULLA_ADDR: server.address },
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  const ended = new Promise((done) => child.once('exit', done));
  const port = await new Promise<string>((found) =>
    child.stdout.once('data', (chunk: Buffer) => found(chunk.toString().trim())),
  );
  try {
    const url = `https://localhost:${port}/`;
    return (await ok(run('curl', ['-sS', '--cacert', file('cert.pem'), url]))).toString();
  } finally {
    child.kill('SIGTERM');
    await ended;
  }
}

describe('the main job', () => {
  it('the operator makes a tenant, and its admin stores what the application needs', async () => {
    const first = firstCredentials(server.dataDir);
    secrets.push(first.system.password, first.default.password);
    await ok(operator(['login', 'system', 'operator'], `${first.system.password}\n${PASSWORDS.operator}\n`));
    await makeTenant('acme', admin, PASSWORDS.admin);

    const openssl = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=localhost'];
    await ok(
      run('openssl', [
        ...openssl,
        '-addext',
        'subjectAltName=DNS:localhost',
        '-keyout',
        file('key.pem'),
        '-out',
        file('cert.pem'),
      ]),
    );
    const variables = Array.from(
      { length: 200 },
      (_, i) => `SETTING_${i}="value ${i} ${randomBytes(9).toString('base64')}"`,
    );
    writeFileSync(file('.env'), `${variables.join('\n')}\n`);
    const url = `postgres://app:${randomBytes(12).toString('hex')}@db/app`;
    const logo = randomBytes(512 * 1024);
    const key = readFileSync(file('key.pem'), 'utf8');
    secrets.push(
      url,
      key.split('\n')[5]!,
      variables[100]!.split('"')[1]!,
      logo.subarray(1000, 1030).toString('latin1'),
    );

    await ok(
      admin([
        'secret',
        'put',
        'prod/web/tls',
        '--key-file',
        `cert=${file('cert.pem')}`,
        '--key-file',
        `key=${file('key.pem')}`,
      ]),
    );
    await ok(admin(['secret', 'put', 'prod/web/database', '--text'], url));
    await ok(admin(['secret', 'put', 'prod/web/settings', '--env-file', file('.env')]));
    await ok(admin(['secret', 'put', 'prod/web/logo', '--bytes'], logo));
    await ok(admin(['secret', 'put', 'prod/db', '--text'], 'only for administrators'));
    expect(await ok(admin(['secret', 'get', 'prod/web/logo']))).toEqual(logo);
    expect((await ok(admin(['secret', 'get', 'prod/web/database']))).toString().trim()).toBe(url);
  });

  it('an application starts with its secrets and serves TLS with the stored certificate', async () => {
    const rules = {
      rules: [{ effect: 'allow', actions: ['secret.read', 'secret.list'], resources: ['secret:prod/web/**'] }],
    };
    await ok(admin(['policy', 'put', 'app'], JSON.stringify(rules)));
    await ok(admin(['user', 'create', 'app', '--policy', 'app', '--password'], `${PASSWORDS.app}\n`));
    await ok(admin(['user', 'create', 'eve', '--policy', 'auditor', '--password'], `${PASSWORDS.eve}\n`));
    await ok(app(['login', 'acme', 'app'], `${PASSWORDS.app}\n`));
    await ok(eve(['login', 'acme', 'eve'], `${PASSWORDS.eve}\n`));
    writeFileSync(
      file('app.mjs'),
      `import { createServer } from 'node:https';
       const { TLS_CERT: cert, TLS_KEY: key, DATABASE, SETTINGS_SETTING_100 } = process.env;
       const server = createServer({ cert, key }, (_, answer) => answer.end([DATABASE.length, SETTINGS_SETTING_100.slice(0, 9)].join(' ')));
       server.listen(0, '127.0.0.1', () => console.log(server.address().port));`,
    );
    expect(await appAnswers()).toBe(EXPECTED_ANSWER);
  });

  it('every key rotates while it runs, and the application starts again', async () => {
    await ok(admin(['key', 'rotate']));
    await ok(operator(['root-key', 'rotate']));
    expect(await appAnswers()).toBe(EXPECTED_ANSWER);
    const keys = JSON.parse((await ok(operator(['root-key', 'list', '--json']))).toString());
    expect(keys.map((key: { state: string }) => key.state)).toEqual(['active', 'destroyed']);
  });

  it('nobody gets what is not theirs', async () => {
    expect((await eve(['secret', 'get', 'prod/web/database'])).code).toBe(4);
    expect((await app(['secret', 'get', 'prod/db'])).code).toBe(4);
    await makeTenant('other', stranger, PASSWORDS.admin);
    expect((await stranger(['secret', 'get', 'prod/web/database'])).code).toBe(5);
    expect((await stranger(['secret', 'list', '--recursive', '--json'])).stdout.toString()).toBe('[]\n');
  });

  it('the auditor proves the log offline, sees every access by name and no value', async () => {
    await ok(eve(['audit', 'export', file('log.ndjson')]));
    const lines = readFileSync(file('log.ndjson'), 'utf8').trimEnd().split('\n');
    const entries = lines.map((line) => JSON.parse(line));
    const reads = entries.filter(
      (entry) => entry.action === 'secret.read' && entry.actor.name === 'app' && entry.outcome === 'ok',
    );
    for (const name of ['tls', 'database', 'settings', 'logo']) {
      expect(reads.some((entry) => entry.resource === `secret:prod/web/${name}`)).toBe(true);
    }
    expect(
      entries.some(
        (entry) => entry.resource === 'secret:prod/db' && entry.actor.name === 'app' && entry.outcome === 'denied',
      ),
    ).toBe(true);
    const log = readFileSync(file('log.ndjson'));
    for (const secret of secrets) for (const spelling of spellings(secret)) expect(log.includes(spelling)).toBe(false);
    expect((await run(process.execPath, [MAIN, 'audit', 'verify', file('log.ndjson')])).code).toBe(0);

    const tampered: Record<string, string[]> = {
      edited: lines.map((line, i) => (i === 5 ? line.replace('"outcome":"ok"', '"outcome":"no"') : line)),
      dropped: lines.filter((_, i) => i !== 5),
      moved: [...lines.slice(0, 5), lines[6]!, lines[5]!, ...lines.slice(7)],
    };
    for (const [how, changed] of Object.entries(tampered)) {
      writeFileSync(file(`${how}.ndjson`), `${changed.join('\n')}\n`);
      const verified = await run(process.execPath, [
        MAIN,
        'audit',
        'verify',
        file(`${how}.ndjson`),
        '--tree',
        file('log.ndjson.tree'),
      ]);
      expect(verified.code, how).toBe(1);
      expect(verified.stdout.toString() + verified.stderr, how).toMatch(/\b(entry|line) [56]\b/);
    }
  });

  it('nothing that was stored stands readable in the tables, the data files or their log', async () => {
    const credentials = JSON.parse(readFileSync(join(server.dataDir, 'pg-credentials.json'), 'utf8'));
    for (const [home, token] of ['operator', 'admin', 'app', 'eve'].map((name) => [name, tokenOf(file(name))])) {
      expect(token, home).toMatch(/^bulla_/);
      secrets.push(token!.split('.')[1]!);
    }
    secrets.push(readFileSync(join(server.dataDir, 'seal.key'), 'utf8').split(':')[1]!.trim());
    const sql = postgres({
      host: join(server.dataDir, 'socket'),
      port: 5432,
      database: 'bulla',
      username: 'bulla_owner',
      password: credentials.bulla_owner,
      max: 1,
    });
    const wanted = secrets.flatMap(spellings);
    const tables = await sql`SELECT tablename FROM pg_tables WHERE schemaname = 'bulla'`;
    expect(tables.length).toBeGreaterThan(10);
    for (const { tablename } of tables) {
      const rows = await sql`SELECT t::text AS row FROM bulla.${sql(tablename)} t`;
      const text = Buffer.from(rows.map((row) => row.row).join('\n'));
      expect(
        wanted.filter((spelling) => text.includes(spelling)),
        tablename,
      ).toEqual([]);
    }
    await sql.end();
    const files = filesUnder(join(server.dataDir, 'pg'));
    expect(files.some((path) => path.includes('pg_wal'))).toBe(true);
    for (const path of files) {
      const bytes = readFileSync(path);
      expect(
        wanted.filter((spelling) => bytes.includes(spelling)),
        path,
      ).toEqual([]);
    }
    expect(wanted.filter((spelling) => Buffer.from(server.output()).includes(spelling))).toEqual([]);
  });
});

function tokenOf(home: string): string | undefined {
  const found = filesUnder(home).map(
    (path) => /bulla_[a-z0-9_]+\.[A-Za-z0-9_-]+/.exec(readFileSync(path, 'utf8'))?.[0],
  );
  return found.find((token) => token !== undefined);
}

function filesUnder(directory: string): string[] {
  if (!existsSync(directory)) return [];
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .map((name) => join(directory, name))
    .filter((path) => statSync(path).isFile());
}
