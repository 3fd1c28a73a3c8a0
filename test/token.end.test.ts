/** How tokens end: with what they hang under, by their time, and on every node. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createToken } from '../src/auth/child.ts';
import { forgetEnded } from '../src/auth/ended.ts';
import type { TokenLimits } from '../src/auth/issue.ts';
import { endOtherSessions } from '../src/auth/session.ts';
import { logout, readSelf, readToken, renewToken, revokeOrphaning, revokeToken } from '../src/auth/token.ts';
import { deleteUser, updateUser } from '../src/auth/user.ts';
import { parseToken } from '../src/crypto/token.ts';
import { putPolicy } from '../src/policy/store.ts';
import type { SecretPath } from '../src/secret/path.ts';
import { putSecret } from '../src/secret/secret.ts';
import type { Vault } from '../src/vault.ts';
import { type TestVault, testVault } from './harness.ts';
import { A, certifiedLogin, childOf, readAs } from './tokens.ts';
import { codeOf, text } from './witness.ts';

let t: TestVault;
let other: Vault;

beforeAll(async () => {
  t = await testVault();
  other = await t.node();
  await putSecret(t.vault, t.call(t.admin), A, text('x'));
});
afterAll(async () => {
  await t.check();
  await t.close();
});

const child = (of: string, limits?: TokenLimits) => childOf(t.vault, t.call(of), limits);
const read = (...asked: [token: string, path?: SecretPath, vault?: Vault]) => readAs(t, ...asked);

describe('an end', () => {
  it.each([
    ['logout', (login) => logout(t.vault, t.call(login))],
    ['disabling', (_, name) => updateUser(t.vault, t.call(t.admin), name, { disabled: true })],
    ['deletion', (_, name) => deleteUser(t.vault, t.call(t.admin), name)],
    [
      'a-new-password',
      (_, name) => updateUser(t.vault, t.call(t.admin), name, { password: 'another long enough one' }),
    ],
  ] as [string, (login: string, name: string) => Promise<unknown>][])(
    'T-049 T-050 %s ends what hangs under a login, for renewals too',
    async (name, end) => {
      const login = await t.user(name, ['admin']);
      const made = await createToken(t.vault, t.call(login), {});
      const under = await createToken(t.vault, t.call(made.token), { periodSeconds: 60 });
      expect(await read(under.token, A, other)).toBe('ok');
      await end(login, name);
      expect(await read(under.token, A, other)).toBe('unauthenticated');
      expect(await codeOf(renewToken(other, t.call(under.token)))).toBe('unauthenticated');
      expect(await codeOf(renewToken(other, t.call(made.token)))).toBe('unauthenticated');
    },
  );

  it('T-049 a child that is being made while its parent ends is dead too', async () => {
    const login = await t.login('default', 'admin');
    const makes = Array.from({ length: 8 }, () => createToken(t.vault, t.call(login), {}).catch((error) => error.code));
    await logout(other, t.call(login));
    for (const made of await Promise.all(makes)) {
      if (typeof made === 'string') expect(made).toBe('unauthenticated');
      else expect(await read(made.token, A, other)).toBe('unauthenticated');
    }
  });

  it('T-076 nothing outlives what it hangs under: at issue, at renewals, and when that is shortened', async () => {
    const login = await t.login('default', 'admin');
    const short = await child(login, { ttlSeconds: 600 });
    const under = await child(short.token, { ttlSeconds: 3600 });
    expect(under.expiresAt).toBe(short.expiresAt);
    expect(under.maxExpiresAt! <= short.maxExpiresAt!).toBe(true);
    expect((await renewToken(t.vault, t.call(under.token), 3600)).expiresAt).toBe(short.expiresAt);
    const shortened = await renewToken(t.vault, t.call(login), 60);
    for (const { accessor } of [short, under]) {
      expect((await readToken(t.vault, t.call(t.admin), accessor)).expiresAt).toBe(shortened.expiresAt);
    }
    const later = await t.node({ clockOffsetSeconds: 61 });
    expect(await read(under.token, A, later)).toBe('unauthenticated');
  });

  it('a ttl beyond the maximum, of nothing, or that is no number is refused', async () => {
    for (const ttl of [0, -1, 24 * 3600 + 1, 2 ** 40, Number.NaN, Number.POSITIVE_INFINITY, 1.5]) {
      expect(await codeOf(renewToken(t.vault, t.call(t.admin), ttl)), String(ttl)).toBe('invalid_request');
    }
  });

  it('T-049 what hangs under a token ends with it on every node, however deep', async () => {
    const login = await t.login('default', 'admin');
    const chain = [login];
    for (let depth = 0; depth < 8; depth += 1) chain.push((await child(chain.at(-1)!)).token);
    expect(await codeOf(child(chain.at(-1)!))).toBe('conflict');
    expect(await read(chain.at(-1)!, A, other)).toBe('ok');
    await revokeToken(t.vault, t.call(t.admin), parseToken(chain[1]!)!.tokenId);
    expect(await read(login)).toBe('ok');
    for (const token of chain.slice(1)) expect(await read(token, A, other)).toBe('unauthenticated');
  });

  it('what ended a week ago is forgotten on every tenant, though its account never logs in again; a lease’s token is not', async () => {
    const acme = await t.tenant('acme');
    const [old, live] = [await child(t.admin), await child(t.admin)];
    const theirs = await createToken(t.vault, t.call(acme), {});
    const kept = await child(t.admin);
    await t.owner`
      UPDATE tokens SET expires_at = now() - interval '8 days', max_expires_at = now() - interval '8 days',
                        kind = CASE token_id WHEN ${kept.accessor} THEN 'lease' ELSE kind END
      WHERE token_id IN (${old.accessor}, ${theirs.accessor}, ${kept.accessor})`;
    await t.owner`UPDATE tokens SET expires_at = now() - interval '6 days' WHERE token_id = ${live.accessor}`;
    // Two nodes at once take nothing twice, and leave nothing.
    await Promise.all([forgetEnded(t.vault), forgetEnded(other)]);
    const left = await t.owner`
      SELECT token_id FROM tokens WHERE token_id IN (${old.accessor}, ${theirs.accessor}, ${kept.accessor}, ${live.accessor})`;
    expect(left.map((row) => row.token_id).sort()).toEqual([kept.accessor, live.accessor].sort());
    await t.owner`DELETE FROM tokens WHERE token_id = ${kept.accessor}`;
  });

  it('a periodic token goes on by its period, and no longer than what it hangs under', async () => {
    const made = await child(t.admin, { periodSeconds: 120 });
    const parent = await readToken(t.vault, t.call(t.admin), parseToken(t.admin)!.tokenId);
    expect(made.maxExpiresAt).toBe(parent.maxExpiresAt);
    expect(Date.parse((await renewToken(t.vault, t.call(made.token), 3600)).expiresAt) - Date.now()).toBeLessThan(
      125_000,
    );
    const kept = await child(t.admin, { renewable: false });
    expect(await codeOf(renewToken(t.vault, t.call(kept.token)))).toBe('conflict');
  });
});

describe('tokens that outlive their maker', () => {
  it('are still no login, and no longer than the client certificate that all of them were given for', async () => {
    const { token } = await child(t.admin, { bound: ['reader'] });
    await putPolicy(t.vault, t.call(t.admin), 'by-login', {
      rules: [
        { effect: 'allow', actions: ['token.*'], resources: ['token:**'] },
        { effect: 'allow', actions: ['secret.read'], resources: ['secret:**'], conditions: { token_kinds: ['login'] } },
      ],
    });
    expect(await codeOf(createToken(t.vault, t.call(token), { orphan: true }))).toBe('forbidden');
    const user = await t.user('programmed', ['by-login']);
    const program = await createToken(t.vault, t.call(user), {});
    expect([await read(user), await read(program.token)]).toEqual(['ok', 'forbidden']);
    const orphan = await createToken(t.vault, t.call(program.token), { orphan: true });
    expect(orphan).toMatchObject({ kind: 'child', parent: null });
    expect(await read(orphan.token)).toBe('forbidden');
    expect(await codeOf(endOtherSessions(t.vault, t.call(orphan.token)))).toBe('forbidden');
    const below = await createToken(t.vault, t.call(program.token), {});
    await revokeOrphaning(t.vault, t.call(user), program.accessor);
    expect(await readSelf(t.vault, t.call(below.token))).toMatchObject({ kind: 'child', parent: null });
    expect(await read(below.token)).toBe('forbidden');

    const certificate = new Uint8Array(32).fill(7);
    const byCertificate = await certifiedLogin(t.vault, t.call(user), certificate);
    const shown = { ...t.call(byCertificate.token), certificate };
    const late = await createToken(t.vault, shown, { orphan: true, periodSeconds: 600 });
    expect(late.maxExpiresAt).toBe(byCertificate.maxExpiresAt);
    expect(late.expiresAt <= byCertificate.maxExpiresAt!).toBe(true);
  });
});
