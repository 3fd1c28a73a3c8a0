/** The transcripts in test/wire/vault, had again with a real server: every endpoint under /v1, error texts included. */
import { randomUUID } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { KV1_ROUTES } from '../src/protocols/vault/kv1.ts';
import { KV2_ROUTES } from '../src/protocols/vault/kv2.ts';
import { matchRoute, type Route } from '../src/protocols/vault/route.ts';
import { FIXED } from '../src/protocols/vault/vault.ts';
import { type TestVault, testVault } from './harness.ts';

const DIRECTORY = fileURLToPath(new URL('wire/vault/', import.meta.url));
const FILES = readdirSync(DIRECTORY).filter((name) => name.endsWith('.txt'));

let t: TestVault;
let vaultAddress: string;
beforeAll(async () => {
  t = await testVault();
  vaultAddress = await t.address();
});
afterAll(async () => {
  await t.close();
});

type Step = {
  readonly verb: string;
  readonly path: string;
  readonly headers: readonly (readonly [string, string])[];
  readonly body: string | undefined;
  readonly answer: readonly string[];
  readonly kept: readonly (readonly [name: string, member: string])[];
};

const REQUEST = /^> ([A-Z]+) (\S+)((?: \[[A-Za-z-]+: [^\]]*\])*)$/;

function parse(text: string): { title: string; steps: Step[] } {
  const [title = '', ...lines] = text.trimEnd().split('\n');
  const steps: Step[] = [];
  for (const line of lines) {
    const request = REQUEST.exec(line);
    const last = steps.at(-1);
    if (request) {
      const headers = [...request[3]!.matchAll(/\[([A-Za-z-]+): ([^\]]*)\]/g)].map(
        ([, name, value]) => [name!, value!] as const,
      );
      steps.push({ verb: request[1]!, path: request[2]!, headers, body: undefined, answer: [], kept: [] });
    } else if (last && line.startsWith('> ')) steps[steps.length - 1] = { ...last, body: line.slice(2) };
    else if (last && line.startsWith('< ')) steps[steps.length - 1] = { ...last, answer: [...last.answer, line] };
    else if (last && line.startsWith('= ')) {
      const [, name, member] = line.split(' ');
      steps[steps.length - 1] = { ...last, kept: [...last.kept, [name!, member!]] };
    } else throw new Error(`a transcript has a line that is none: ${line}`);
  }
  return { title, steps };
}

/** What is different each time, by what it looks like or by the member that it is. */
function masked(text: string, kept: ReadonlyMap<string, string>): string {
  let shown = text;
  for (const [name, value] of kept) shown = shown.replaceAll(value, `{${name}}`);
  return shown
    .replace(/"(request_id)":"[0-9a-f-]{36}"/g, '"$1":"<uuid>"')
    .replace(/"\d{4}-\d{2}-\d{2}T[\d:.]+Z"/g, (time) =>
      time.startsWith('"0001') || time.startsWith('"1970') ? time : '"<time>"',
    )
    .replace(/bulla(?:cs)?_[a-z0-9_]+\.[A-Za-z0-9_-]+/g, '<token>')
    .replace(/"(accessor|wrapped_accessor|secret_id_accessor)":"[a-z2-7]{16}"/g, '"$1":"<id>"')
    .replace(/"role_id":"[a-z2-7]{16}\.[a-z2-7]{16}"/g, '"role_id":"<id>"')
    .replace(/"accessor":"kv_[a-z2-7]{8}"/g, '"accessor":"kv_<id>"')
    .replace(/("accessor":"kv_<id>"[^{}]*(?:\{[^{}]*\})?[^{}]*"uuid":)"[0-9a-f-]{36}"/g, '$1"<uuid>"')
    .replace(/"(keys)":\[("[a-z2-7]{16}",?)+\]/g, '"$1":["<id>"]')
    .replace(/"(creation_time|server_time_utc|ttl|lease_duration)":(\d+)/g, (all, name, number) =>
      name === 'lease_duration' && (number === '0' || number === '2764800') ? all : `"${name}":<number>`,
    )
    .replace(/"(\d+)":1[0-9]{9}([,}])/g, '"$1":<number>$2')
    .replace(/"(random_bytes|plaintext|public_key)":"(?!aGVsbG8=)[^"]+"/g, '"$1":"<text>"')
    .replace(/vault:v(\d+):[A-Za-z0-9+/=]+/g, 'vault:v$1:<text>')
    .replace(/("keys":\{"\d+":)"[A-Za-z0-9+/=]{40,}"/g, '$1"<text>"')
    .replace(/-----BEGIN[^"]+/g, '<text>');
}

const member = (value: unknown, path: string): string =>
  String(path.split('.').reduce<unknown>((at, key) => (at as Record<string, unknown>)?.[key], value));

/** The requests that showed a token and were not told that it is nobody's. */
const heard = new Map<string, string>();

async function say(step: Step, kept: Map<string, string>): Promise<string[]> {
  const fill = (text: string) => text.replace(/\{([A-Z]+)\}/g, (all, name: string) => kept.get(name) ?? all);
  const headers: Record<string, string> = { 'X-Vault-Token': t.admin };
  for (const [name, value] of step.headers) headers[name === 'token' ? 'X-Vault-Token' : name] = fill(value);
  if (headers['X-Vault-Token'] === '') delete headers['X-Vault-Token'];
  const id = randomUUID();
  headers['X-Request-Id'] = id;
  const answer = await fetch(`${vaultAddress}/v1/${fill(step.path)}`, {
    ...{ method: step.verb, headers },
    ...(step.body === undefined ? {} : { body: fill(step.body) }),
  });
  const text = await answer.text();
  const mine = headers['X-Vault-Token'] !== undefined && !isOpen(step.path);
  if (mine && ![401, 403, 429, 503].includes(answer.status)) heard.set(id, `${step.verb} ${step.path}`);
  for (const [name, path] of step.kept) kept.set(name, member(JSON.parse(text), path));
  return [`< ${answer.status}`, ...(text === '' ? [] : [`< ${masked(text, kept)}`])];
}

/** What anybody may ask, or asks for a token with. */
function isOpen(path: string): boolean {
  const bare = path.replace(/\?.*/, '');
  return FIXED.some(
    ({ at, routes }) => bare.startsWith(`${at}/`) && matchRoute(routes, bare.slice(at.length + 1))?.route.open,
  );
}

function written({ title, steps }: { title: string; steps: readonly Step[] }, answers: readonly string[][]): string {
  const lines = steps.flatMap((step, i) => [
    `> ${step.verb} ${step.path}${step.headers.map(([name, value]) => ` [${name}: ${value}]`).join('')}`,
    ...(step.body === undefined ? [] : [`> ${step.body}`]),
    ...answers[i]!,
    ...step.kept.map(([name, path]) => `= ${name} ${path}`),
  ]);
  return `${[title, ...lines].join('\n')}\n`;
}

it.each(FILES)('%s', async (name) => {
  const file = `${DIRECTORY}${name}`;
  const transcript = parse(readFileSync(file, 'utf8'));
  const kept = new Map<string, string>();
  const answers: string[][] = [];
  for (const step of transcript.steps) answers.push(await say(step, kept));
  const text = written(transcript, answers);
  if (process.env.WRITE) writeFileSync(file, text);
  expect(text).toBe(readFileSync(file, 'utf8'));
});

it('T-087 every request of a transcript that was heard has entries with its id', async () => {
  expect(heard.size).toBeGreaterThan(200);
  const rows = await t.owner`SELECT lines FROM audit_segments`;
  const lines = rows.map((row) => row.lines.toString('utf8')).join('');
  expect([...heard].filter(([id]) => !lines.includes(`"request":"${id}"`)).map(([, what]) => what)).toEqual([]);
});

it('every endpoint stands in a transcript, with each of its verbs', () => {
  const steps = FILES.flatMap((name) => parse(readFileSync(`${DIRECTORY}${name}`, 'utf8')).steps);
  const seen = steps.map(({ verb, path }) => {
    const [bare = '', query = ''] = path.split('?');
    const list = verb === 'GET' && query.startsWith('list=');
    return [
      list ? 'LIST' : verb === 'PUT' ? 'POST' : verb,
      bare.replace(/\/$/, '').replace(/\{[A-Z]+\}/g, 'x'),
    ] as const;
  });
  const tables: { at: string; routes: readonly Route[] }[] = [
    ...FIXED,
    { at: 'secret', routes: KV2_ROUTES },
    { at: 'old', routes: KV1_ROUTES },
  ];
  const missing = tables.flatMap(({ at, routes }) =>
    routes.flatMap((route) =>
      Object.keys(route.verbs)
        .filter(
          (verb) =>
            !seen.some(
              ([said, path]) =>
                said === verb &&
                (path === at || path.startsWith(`${at}/`)) &&
                matchRoute(routes, path.slice(at.length + 1))?.route === route,
            ),
        )
        .map((verb) => `${verb} ${at}/${route.pattern}`),
    ),
  );
  expect(missing).toEqual([]);
});
