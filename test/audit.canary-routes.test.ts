/**
 * T-088, T-089, T-223 on every route: in each field of each body, and beside them, stand values of every JSON type, where
 * they belong and where they do not. None is in an entry, a log line, a metric or an error, in any encoding.
 *
 * The fields are those of the examples in the document, and of the transcripts in test/wire/vault for /v1. A text in a field
 * that holds a name is a name, which entries say: there, only what is no text is tried.
 */
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { everySpelling, type Watched, watchedVault } from './canary.ts';
import { documentedOperations } from './document.ts';

let watched: Watched;
beforeAll(async () => {
  watched = await watchedVault();
});
afterAll(() => watched.close());

/** Every canary begins with one of these, so that one search finds any. */
const TEXT = `Cnry${randomBytes(12).toString('hex')}`;
const NUMBER = `7${BigInt(`0x${randomBytes(8).toString('hex')}`)
  .toString()
  .slice(0, 10)
  .padEnd(10, '3')}`;
const planted: string[] = [];

/** `where` is told of a canary that is found. */
function canary(where: string): string {
  planted.push(where);
  return `${TEXT}x${String(planted.length - 1).padStart(5, '0')}`;
}
function canaryNumber(where: string): number {
  planted.push(where);
  return Number(`${NUMBER}${String(planted.length - 1).padStart(5, '0')}`);
}

/** Fields whose text is nobody's to read, of either interface. */
const SECRET =
  /^(.*password|client_secret|secret_id|token|code|jwt|share|shares|key|totp|data|metadata|custom_metadata|plaintext|input|hash|hmac|signature|ciphertext|context|state|login|text|value)$/;

type Body = Record<string, unknown>;
type Path = readonly (string | number)[];

/** The places of all that is no object and no list. */
function leavesOf(value: unknown, at: Path = []): Path[] {
  if (value === null || typeof value !== 'object') return [at];
  return Object.entries(value).flatMap(([key, member]) =>
    leavesOf(member, [...at, Array.isArray(value) ? Number(key) : key]),
  );
}

function withAt(body: Body, path: Path, value: unknown): Body {
  const changed = structuredClone(body);
  const inner = memberAt(changed, path.slice(0, -1)) as Body;
  inner[path.at(-1)!] = value;
  return changed;
}

const memberAt = (body: Body, path: Path) => path.reduce<unknown>((at, key) => (at as Body)[key], body);

/** Bodies with a canary each: in a field, beside the fields, in what is no JSON. `lenient`: numbers and lists are texts. */
function* bodiesOf(name: string, body: Body, lenient: boolean): Generator<string> {
  for (const [i, path] of leavesOf(body).entries()) {
    if (path.length === 0) continue;
    const at = `${name} ${path.join('.')}`;
    const isSecret = path.some((key) => SECRET.test(String(key)));
    const wrong: (() => unknown)[] = [() => ({ [canary(`${at} as a key`)]: { deep: [canary(`${at} nested`)] } })];
    if (isSecret || !lenient) wrong.push(() => [canary(`${at} in a list`)]);
    if (isSecret || !(lenient || typeof memberAt(body, path) === 'number')) {
      wrong.push(() => canaryNumber(`${at} as a number`));
    }
    yield JSON.stringify(withAt(body, path, wrong[i % wrong.length]!()));
    if (isSecret) yield JSON.stringify(withAt(body, path, canary(`${at} as a text`)));
  }
  yield JSON.stringify({ ...body, [canary(`${name}, an unknown key`)]: canaryNumber(`${name}, an unknown value`) });
  yield `${JSON.stringify({ ...body, cut: canary(`${name}, cut`) }).slice(0, -2)}`;
  yield JSON.stringify([canary(`${name}, a list`)]);
}

async function expectNowhere(): Promise<void> {
  expect(planted.length).toBeGreaterThan(300);
  const said = Object.entries(await watched.said());
  const found = said.flatMap(([place, text]) =>
    [...everySpelling(TEXT), ...everySpelling(NUMBER)].flatMap((spelling) => {
      const at = text.indexOf(spelling);
      if (at < 0) return [];
      const which = /^.{5}/.exec(text.slice(at + spelling.length).replace(/^x/, ''))?.[0];
      return [`${place}: ${planted[Number(which)] ?? text.slice(Math.max(0, at - 200), at + 100)}`];
    }),
  );
  expect(found).toEqual([]);
}

/** Each sends hundreds: on a busy machine that takes minutes. */
const PATIENCE_MS = 300_000;

/** Some at once: they wait for the log, not for each other. */
const AT_ONCE = 8;

async function sendAll(requests: readonly { target: string; init: RequestInit }[]): Promise<void> {
  for (let at = 0; at < requests.length; at += AT_ONCE) {
    await Promise.all(requests.slice(at, at + AT_ONCE).map(({ target, init }) => watched.send(target, init)));
  }
}

/** Of these routes, whatever comes through would end the vault, or the token. */
const DESTRUCTIVE = /\/auth\/(logout|password)|\/seal\/|\/audit\/tail|revoke-self|\/sys\/seal$/;
const OPERATORS = /\/(tenants|root-key|peppers|sweeper|seal)\b/;

it(
  'T-088 T-089 T-223 no canary of a native route is said',
  async () => {
    const requests = documentedOperations().flatMap(({ method, path, operation }) => {
      const name = `${method} ${path}`;
      const target = path.replace(/\{[a-z_]+\}/g, 'x');
      const token = OPERATORS.test(path) ? watched.t.operator : watched.t.admin;
      const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
      const example = operation.requestBody?.content['application/json']?.example;
      const bodies = example === undefined ? [] : [...bodiesOf(name, example as Body, false)];
      const sent = bodies.map((body) => ({ target, init: { method: method.toUpperCase(), headers, body } }));
      if (DESTRUCTIVE.test(path)) return sent.filter(({ init }) => !/"(share|current_password)":"/.test(init.body));
      const query = `?${canary(`${name}, an unknown parameter`)}=1&limit=${canary(`${name}, limit`)}`;
      const inQuery = {
        target: target + query,
        init: { method: method.toUpperCase(), headers: { ...headers, 'x-vault-token': canary(`${name}, a header`) } },
      };
      return [...sent, inQuery];
    });
    await sendAll(requests);
    await expectNowhere();
  },
  PATIENCE_MS,
);

const DIRECTORY = fileURLToPath(new URL('wire/vault/', import.meta.url));

it(
  'T-088 T-089 T-223 no canary of a route of /v1 is said',
  async () => {
    const files = readdirSync(DIRECTORY).filter((name) => name.endsWith('.txt'));
    const lines = files.flatMap((name) => readFileSync(DIRECTORY + name, 'utf8').split('\n'));
    const steps = lines.flatMap((line, i) => {
      const [, method, path] = /^> ([A-Z]+) (\S+)/.exec(line) ?? [];
      const body = /^> (\{.*\})$/.exec(lines[i + 1] ?? '')?.[1];
      if (method === undefined || body === undefined || DESTRUCTIVE.test(`/v1/${path}`)) return [];
      try {
        return [{ method, path: path!, body: JSON.parse(body) as Body }];
      } catch {
        return [];
      }
    });
    expect(steps.length).toBeGreaterThan(100);
    const headers = { 'x-vault-token': watched.t.admin };
    const requests = steps.flatMap(({ method, path, body }) =>
      [...bodiesOf(`${method} ${path}`, body, true)].map((text) => ({
        target: `/v1/${path}`,
        init: { method, headers, body: text },
      })),
    );
    await sendAll(requests);
    await expectNowhere();
  },
  PATIENCE_MS,
);
