/**
 * T-067, T-068 over the wire: every live operation is asked by its own tenant, by another, and by nobody the vault knows,
 * about things that are another tenant's and things that are nowhere. The two are told apart by no byte, and of what the
 * other tenant has not one row changes.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { endTails } from '../src/audit/tail.ts';
import { mintToken } from '../src/crypto/token.ts';
import { deleteTenant } from '../src/job/tenant.ts';
import { furnish, kindOf, type Material, makeMaterial, type Names, namesOf, unknownWishes, wishOf } from './furnish.ts';
import { type TestVault, testVault } from './harness.ts';
import { leaseTarget, type Target } from './lease-target.ts';
import { isWord, type Operation, operations, type Said, send } from './operation.ts';
import { rowsHash, tablesOf, tenantId } from './witness.ts';

let t: TestVault;
let target: Target;
let vaultAddress: string;
let material: Material;
let theirs: Names;
let theirTenant: string;
/** Texts that only the other tenant has, beside the names that a stranger may ask for. */
let canaries: string[];

const ALL = operations();
const ABSENT = namesOf('absent');
const driven = new Map<string, Set<string>>();
/** Operations that have set a cookie. */
const setting = new Set<string>();

beforeAll(async () => {
  [t, target, material] = await Promise.all([testVault(), leaseTarget(), makeMaterial()]);
  vaultAddress = await t.address();
  theirs = await furnish(t, await t.tenant('theirs'), 'theirs', 'theirs', target);
  theirTenant = await tenantId(t.owner, 'theirs');
  const values = [1, 2].map((version) => Buffer.from(`theirs value ${version}`));
  canaries = [...values.flatMap((value) => [value.toString(), value.toString('base64')]), theirTenant];
});
afterAll(async () => {
  endTails(t.vault);
  await t.close();
  await target.close();
});

async function drive(who: string, operation: Operation, names: Names, token?: string): Promise<Said> {
  const wish = wishOf(operation, names, material);
  driven.set(operation.name, (driven.get(operation.name) ?? new Set()).add(who));
  // A cookie is nobody's login, whatever it is called.
  const cookie = ['token', 'X-Vault-Token', '__Host-token', 'Authorization']
    .map((name) => `${name}=${t.admin}`)
    .join('; ');
  const headers = { ...wish.headers, 'x-request-id': 'isolation', ...(token === undefined ? { cookie } : {}) };
  const said = await send(vaultAddress, operation, { ...wish, headers, token });
  if (said.headers.has('set-cookie')) setting.add(operation.name);
  return said;
}

/** All of an answer that a client can see, but for the time. */
function seen({ status, headers, text }: Said): string {
  return JSON.stringify([status, [...headers].filter(([name]) => name !== 'date'), text]);
}

/** With each name in the place of which it was asked for. */
function masked(said: Said, names: Names): string {
  const known = Object.entries(names).filter(([kind]) => kind !== 'keyVersion');
  known.sort(([, a], [, b]) => b.length - a.length);
  const text = known.reduce((text, [kind, name]) => text.replaceAll(name, `<${kind}>`), seen(said));
  return text.replace(`key version ${names.keyVersion}`, 'key version <keyVersion>');
}

const asked = (protocol: Operation['protocol']) => ALL.filter((one) => one.protocol === protocol && !one.open);
const PROTOCOLS = ['native', 'vault'] as const;
/** With these the token ends that is shown. */
const ENDING = /\/auth\/(logout|token\/revoke-self)$/;
const kindsOf = (one: Operation) => Object.keys(one.at).filter((name) => !isWord(one, name));

/** These make a thing that others use, or end several. */
const LATE = /revoke|destroy|\/v1\/transit\/(keys|encrypt)\/\{name\}$/;

/** By method, and of what is removed the inner thing before the outer, and last who had it. */
function inOrder(all: readonly Operation[], methods: string): Operation[] {
  const late = (path: string) => (LATE.test(path) ? 50 : 0);
  const removed = (path: string) => (path.includes('/users/') ? 50 : -path.split('/').length);
  const rank = ({ method, path }: Operation) =>
    methods.split(' ').indexOf(method) * 100 + (method === 'DELETE' ? removed(path) : late(path));
  return [...all].sort((a, b) => rank(a) - rank(b));
}

/** What is said before it is looked at who asks, by operation. */
const toAnybody = new Map<string, string>();

describe('T-067 whom the vault does not know', () => {
  const tokens: Record<string, string | undefined> = { 'no token': undefined };
  beforeAll(async () => {
    const expired = await t.user('expired', ['admin']);
    const [ended] = await t.owner`
      UPDATE tokens SET expires_at = created_at + interval '1 ms'
      WHERE user_id = (SELECT user_id FROM users WHERE name = 'expired') RETURNING token_id`;
    expect(expired).toContain(ended!.token_id);
    const deleted = await t.tenant('gone');
    await deleteTenant(t.vault, t.call(t.operator), 'gone');
    const unknown = mintToken(await tenantId(t.owner, 'default')).token;
    Object.assign(tokens, { expired, deleted, 'never issued': unknown });
  });

  it.each(PROTOCOLS)('has one answer from every operation of %s, whatever is shown', async (protocol) => {
    const before = await rowsHash(t.owner, theirTenant);
    const answers = new Map<string, number>();
    const apart: string[] = [];
    for (const operation of asked(protocol)) {
      const all = Object.entries(tokens).map(async ([who, token]) => seen(await drive(who, operation, theirs, token)));
      const [said = '', ...others] = await Promise.all(all);
      if (others.some((other) => other !== said)) apart.push(operation.name);
      // /v1 says of some requests that they are no use, whoever asks: the same is to be said to who is known.
      if (!said.startsWith('[400,') && !said.startsWith('[404,')) answers.set(said, (answers.get(said) ?? 0) + 1);
      else toAnybody.set(operation.name, said);
    }
    expect(apart).toEqual([]);
    expect([...answers.keys()].map((said) => JSON.parse(said)[0])).toEqual([protocol === 'native' ? 401 : 403]);
    if (protocol === 'native') expect([...toAnybody.keys()]).toEqual([]);
    expect(await rowsHash(t.owner, theirTenant)).toBe(before);
  });

  it('logs nobody in by the names of another tenant, and is told as of a tenant that is not there', async () => {
    const counted = ['login_counters', ...(await tablesOf(t.owner)).filter((table) => table.startsWith('audit_'))];
    const before = await rowsHash(t.owner, theirTenant, counted);
    for (const operation of ALL.filter(({ open }) => open)) {
      const foreign = masked(await drive('no token', operation, theirs), theirs);
      const absent = masked(await drive('no token', operation, ABSENT), ABSENT);
      if (operation.protocol !== 'plain') expect([operation.name, foreign]).toEqual([operation.name, absent]);
    }
    expect(await rowsHash(t.owner, theirTenant, counted)).toBe(before);
  });
});

/** What is said of a thing that is not there, by operation. */
const ofNothing = new Map<string, string>();

describe('T-067 an administrator of one tenant about the things of another', () => {
  /** Operators alone may, whatever it is about. */
  const OPERATORS = /^\/api\/v1\/(tenants|peppers)\//;

  it.each(PROTOCOLS)('is answered as about nothing, by every operation of %s', async (protocol) => {
    // Two who ask the same: what the first makes is not in the way of the second.
    const [first, second] = [`${protocol}-1`, `${protocol}-2`];
    const strangers = new Map([
      [first, await t.tenant(first)],
      [second, await t.tenant(second)],
    ]);
    const before = await rowsHash(t.owner, theirTenant);
    const told: unknown[] = [];
    const found: string[] = [];
    for (const operation of inOrder(asked(protocol), 'GET LIST HEAD PATCH DELETE POST PUT')) {
      const ask = async (tenant: string, names: Names) => {
        const token = ENDING.test(operation.path) ? await t.login(tenant, 'admin') : strangers.get(tenant);
        return drive('other tenant', operation, names, token);
      };
      const [foreign, absent] = await Promise.all([ask(first, theirs), ask(second, ABSENT)]);
      const shown = canaries.filter((canary) => seen(foreign).includes(canary));
      const alike =
        foreign.status < 300 ? foreign.status === absent.status : masked(foreign, theirs) === masked(absent, ABSENT);
      if (!alike || shown.length > 0) told.push([operation.name, shown, seen(foreign), seen(absent)]);
      if (kindsOf(operation).length === 0) continue;
      if (absent.status >= 400) ofNothing.set(operation.name, masked(absent, ABSENT));
      const expected = OPERATORS.test(operation.path) ? 403 : 404;
      if (operation.method !== 'PUT' && foreign.status !== expected) found.push(`${operation.name} ${foreign.status}`);
    }
    expect(told).toEqual([]);
    // /v1 has other answers for what is not there, and makes things by POST.
    if (protocol === 'native') expect(found).toEqual(['POST /api/v1/policies/{name}/dry_run 200']);
    expect(await rowsHash(t.owner, theirTenant)).toBe(before);
  });
});

describe('T-067 an administrator about the tenant’s own things', () => {
  /** Of one's own account only, of operators only, or of none. */
  const NOT_OWN =
    /^\/api\/v1\/(tenants|peppers)\/|\/auth\/sessions\/|^\/v1\/secret\/\{path\}|custom-secret-id|rotate-root/;

  it.each(PROTOCOLS)('finds them by every operation of %s that found nothing', async (protocol) => {
    const tenant = `${protocol}-own`;
    const token = await t.tenant(tenant);
    const own = await furnish(t, token, tenant, `own${protocol.slice(0, 3)}`, target);
    const missed: unknown[] = [];
    for (const operation of inOrder(asked(protocol), 'GET LIST HEAD POST PATCH PUT DELETE')) {
      const by = ENDING.test(operation.path) ? await t.login(tenant, 'admin') : token;
      const said = await drive('own tenant', operation, own, by);
      const unheard = toAnybody.get(operation.name);
      const nothing = !NOT_OWN.test(operation.path) && masked(said, own) === ofNothing.get(operation.name);
      const wrong = unheard ? seen(said) !== unheard : nothing || said.text.includes('"unauthenticated"');
      if (wrong) missed.push([operation.name, unheard, seen(said)]);
    }
    expect(missed).toEqual([]);
  });
});

it('T-128 no operation sets a cookie, whoever asks', () => {
  expect([...setting]).toEqual([]);
});

it('T-068 every operation that is served was asked by everybody', () => {
  expect(unknownWishes(ALL)).toEqual([]);
  const unnamed = ALL.flatMap((one) =>
    kindsOf(one).flatMap((name) => (kindOf(one, name) ? [] : [`${one.name} ${name}`])),
  );
  expect(unnamed).toEqual([]);
  const WHO = ['no token', 'expired', 'deleted', 'never issued', 'other tenant', 'own tenant'];
  const missed = ALL.flatMap(({ name, open }) =>
    (open ? ['no token'] : WHO).filter((who) => !driven.get(name)?.has(who)).map((who) => `${name}: ${who}`),
  );
  expect(missed).toEqual([]);
});
