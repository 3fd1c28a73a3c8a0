/**
 * T-121: text that means something to SQL, to patterns, to paths or to nobody, in every place of every operation: each name
 * in the path, each parameter, each header, each field of the body and each name of a field.
 */
import { expect } from 'vitest';
import { furnish, makeMaterial, wishOf } from './furnish.ts';
import type { TestVault } from './harness.ts';
import { leaseTarget } from './lease-target.ts';
import { type Asked, type Operation, operations, send } from './operation.ts';
import { rowsHash, tenantId } from './witness.ts';

export const HOSTILE: readonly string[] = [
  `'; SELECT pg_sleep(20); DROP SCHEMA bulla CASCADE; --`,
  `' OR '1'='1`,
  `") OR 1=1 UNION SELECT envelope FROM secret_versions --`,
  '%_%\\',
  '$1$2::int',
  '\u0000',
  'a\u0000b',
  '\ud800',
  '\u2028\u202e\ufeff',
  '\u0130ſß\u{1f600}',
  '../../../etc/passwd',
  `\${user.name}/**`,
  '__proto__',
  '99999999999999999999',
  '-1',
  '1e309',
  '9999-99-99T99:99:99Z',
  '{"a":',
  '\r\nX-Injected: 1',
  'A'.repeat(70_000),
];

/** Values of another kind in the place of a field. */
const OTHERS: readonly unknown[] = [null, true, -1, 2 ** 53, [], {}, [[]], { a: { b: [null] } }];

const percent = (text: string) =>
  [...Buffer.from(text)].map((byte) => `%${byte.toString(16).padStart(2, '0')}`).join('');
const headable = (text: string) => /^[\x20-\x7e]{1,1000}$/.test(text);
/** With these the token ends that is shown. */
const ENDING = /\/auth\/(logout|token\/revoke-self)$/;
/** What one answer may hold: more than anything that this tenant has. */
const ANSWER_BYTES_MAX = 4 * 1024 * 1024;
const AT_ONCE = 6;

/** Every body in which one field, or the name of one, is another. */
function* changed(body: unknown, text: unknown): Generator<unknown> {
  yield text;
  if (Array.isArray(body)) {
    for (const [i, member] of body.entries())
      for (const other of changed(member, text)) yield body.map((old, at) => (at === i ? other : old));
  } else if (typeof body === 'object' && body !== null) {
    const members = Object.entries(body);
    for (const [i, [name, member]] of members.entries()) {
      for (const other of changed(member, text)) yield { ...body, [name]: other };
      if (typeof text === 'string')
        yield Object.fromEntries(members.map(([old, value], at) => (at === i ? [text, value] : [old, value])));
    }
  }
}

type Place = { readonly where: string; readonly operation: Operation; readonly asked: Asked };

function* places(operation: Operation, wish: Asked, text: string): Generator<Place> {
  const at = (where: string, asked: Asked, changedOperation = operation): Place => ({
    ...{ where: `${operation.name} ${where} ${JSON.stringify(text).slice(0, 40)}`, operation: changedOperation },
    asked: { ...wish, ...asked },
  });
  for (const name of Object.keys(operation.at)) yield at(name, { at: { ...wish.at, [name]: percent(text) } });
  for (const { name } of operation.query) yield at(`?${name}`, { query: { ...wish.query, [name]: text } });
  if (headable(text)) {
    for (const { name } of operation.headers) yield at(name, { headers: { ...wish.headers, [name]: text } });
    const common = { 'x-request-id': text, 'x-vault-namespace': text, 'x-vault-wrap-ttl': text, 'if-match': text };
    yield at('headers', { headers: { ...wish.headers, ...common } });
  }
  const body = 'body' in wish ? wish.body : operation.body;
  if (body !== undefined) for (const one of changed(body, text)) yield at('body', { body: one });
}

/** Other kinds of values, and bytes that are no UTF-8. */
function* oddities(operation: Operation, wish: Asked): Generator<Place> {
  const body = 'body' in wish ? wish.body : operation.body;
  for (const value of body === undefined ? [] : OTHERS)
    for (const one of changed(body, value))
      yield { where: `${operation.name} ${JSON.stringify(value)}`, operation, asked: { ...wish, body: one } };
  for (const name of Object.keys(operation.at))
    yield {
      where: `${operation.name} ${name} %ff`,
      operation,
      asked: { ...wish, at: { ...wish.at, [name]: '%ff%c0%af' } },
    };
  for (const { name } of operation.query)
    yield {
      ...{ where: `${operation.name} ?${name} %ff`, asked: { ...wish, query: {} } },
      operation: { ...operation, path: `${operation.path}?${name}=%ff%c0%af`, query: [] },
    };
}

/** All of it as an administrator. Gives how many requests were sent. */
export async function attack(t: TestVault, texts: readonly string[], everyOddity: boolean): Promise<number> {
  const [target, material] = await Promise.all([leaseTarget(), makeMaterial()]);
  const vaultAddress = await t.address();
  const admin = await t.tenant('attacked');
  const names = await furnish(t, admin, 'attacked', 'attack', target);
  const beside = await tenantId(t.owner, 'default');
  const before = await rowsHash(t.owner, beside);
  const wrong: string[] = [];
  let sent = 0;
  const tokenFor = async ({ path }: Operation) =>
    ENDING.test(path) ? (await t.request('POST', '/api/v1/tokens', { token: admin, body: {} })).json.token : admin;
  const all = (function* (): Generator<Place> {
    for (const operation of operations()) {
      const wish = wishOf(operation, names, material);
      for (const text of texts) yield* places(operation, wish, text);
      if (everyOddity) yield* oddities(operation, wish);
    }
  })();
  const worker = async () => {
    for (const { where, operation, asked } of all) {
      sent += 1;
      const token = await tokenFor(operation);
      let said = await send(vaultAddress, operation, { ...asked, token });
      // Beside the others, who change what may be done, an act may have to be asked for again: it says so.
      for (let again = 0; said.status === 503 && again < 20; again += 1)
        said = await send(vaultAddress, operation, { ...asked, token });
      const { status, text, headers } = said;
      // What a target outside has refused is its own fault, and said to be.
      const outside = status === 502 && text.includes('backend_failed');
      const known = operation.open || !/"unauthenticated"/.test(text);
      const fine = (status < 500 || outside) && text.length <= ANSWER_BYTES_MAX && known && !headers.has('x-injected');
      if (!fine) wrong.push(`${where}: ${status} ${text.slice(0, 200)}`);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  expect(wrong.slice(0, 20)).toEqual([]);
  expect(await rowsHash(t.owner, beside)).toBe(before);
  await target.close();
  return sent;
}
