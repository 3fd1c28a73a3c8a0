/** Logging in on the command line: with a password, a second factor or another issuer’s token; and the sessions that follow. */
import { generateKeyPairSync } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { SignJWT } from 'jose';
import { Secret, TOTP } from 'otpauth';
import { beforeEach, describe, expect, test } from 'vitest';
import { PASSWORD } from './harness.ts';
import { admin, CANARY, file, here, ownShell, vault, vaultAddress, words } from './shell.ts';

ownShell();

describe('login', () => {
  test('keeps the token in a file of one’s own, and logout ends and forgets it', async () => {
    const login = await here(words('login default admin'), { input: `${PASSWORD}\n`, token: null });
    expect(login).toMatchObject({ code: 0, stdout: expect.stringMatching(/^Logged in to default as admin until /) });
    const kept = file('state/bulla/token.json');
    expect([statSync(kept).mode & 0o777, statSync(file('state/bulla')).mode & 0o777]).toEqual([0o600, 0o700]);
    const { token } = JSON.parse(readFileSync(kept, 'utf8')).tokens[vaultAddress];
    expect(login.stdout + login.stderr).not.toContain(token);
    expect((await here(words('status'), { token: null })).stdout).toMatch(/username:\s+admin/);
    expect((await here(words('logout'), { token: null })).code).toBe(0);
    expect(JSON.parse(readFileSync(kept, 'utf8')).tokens).toEqual({});
    expect((await here(words('user list'), { token: null })).code).toBe(3);
    expect((await here(words('user list'), { token })).code).toBe(3);
  });

  test('prints only the token when asked, and keeps nothing', async () => {
    const { stdout } = await here(words('login default admin --print-token'), { input: PASSWORD, token: null });
    expect((await here(words('user list'), { token: stdout.trim() })).code).toBe(0);
    expect(existsSync(file('state'))).toBe(false);
  });

  test('at a terminal asks without echo, and for a new password where one is due', async () => {
    const { one_time_password: once } = await admin.users.create({ username: 'fresh', policies: ['reader'] });
    const next = `${PASSWORD} ${CANARY}`;
    const ended = await here(words('login'), {
      token: null,
      answers: [
        ['Username', 'fresh\r'],
        ['Password', `${once}\r`],
        ['New password', `${next}\r`],
        ['New password (again)', `${next}\r`],
      ],
    });
    expect(ended.code).toBe(0);
    expect(ended.stdout + ended.stderr).not.toContain(CANARY);
    expect(ended.stdout + ended.stderr).not.toContain(once);
    const json = await here(words('login default fresh --json'), { input: next, token: null });
    expect(JSON.parse(json.stdout)).toMatchObject({ username: 'fresh', password_change_required: false });
    expect(json.stdout).not.toContain('"token"');
  });

  test('without a terminal takes the new password from the second line', async () => {
    const { one_time_password: once } = await admin.users.create({ username: 'robot', policies: ['reader'] });
    const ended = await here(words('login default robot'), { input: `${once}\n${PASSWORD}\n`, token: null });
    expect(ended.code).toBe(0);
    const short = await here(words('login default robot'), { input: '', token: null });
    expect(short).toMatchObject({ code: 2, stderr: expect.stringContaining('Standard input ended') });
  });

  test('a wrong password is code 3, and neither it nor the name of the user is repeated', async () => {
    const ended = await here(words('login default admin'), { input: CANARY, token: null });
    expect(ended).toMatchObject({ code: 3, stdout: '' });
    expect(ended.stderr).not.toContain(CANARY);
    await admin.users.unlock('admin');
  });

  test('a token file that others can read is refused', async () => {
    mkdirSync(file('state/bulla'), { recursive: true });
    writeFileSync(file('state/bulla/token.json'), '{"version":1,"tokens":{}}');
    chmodSync(file('state/bulla/token.json'), 0o644);
    expect(await here(words('user list'), { token: null })).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('can be read'),
    });
  });

  test('one’s own password is changed and the login goes on', async () => {
    await vault.user('changer', ['reader']);
    await here(words('login default changer'), { input: PASSWORD, token: null });
    const next = `${PASSWORD} 2`;
    expect((await here(words('user password'), { input: `${PASSWORD}\n${next}\n`, token: null })).code).toBe(0);
    expect((await here(words('status --json'), { token: null })).stdout).toContain('"username": "changer"');
  });
});

describe('second factors and sessions', () => {
  const shows = (secret: string, steps = 0) =>
    new TOTP({ secret: Secret.fromBase32(secret) }).generate({ timestamp: Date.now() + steps * 30_000 });

  test('from enrolment to a login with a code, a recovery code, and back', async () => {
    await vault.user('careful', ['reader']);
    const mine = (line: string, input = '') => here(words(line), { input, token: null });
    expect((await mine('login default careful', PASSWORD)).code).toBe(0);
    const shown = await mine('totp enrol', PASSWORD);
    expect([shown.code, shown.stderr]).toEqual([0, expect.stringContaining('bulla totp confirm')]);
    expect(shown.stdout).toMatch(/▄▄▄▄▄[\s\S]*otpauth:\/\/totp\/Bulla:careful/);
    const { secret } = JSON.parse((await mine('totp enrol --json', PASSWORD)).stdout);
    const code = shows(secret, -1);
    const confirmed = await mine('totp confirm --json', `${code.slice(0, 3)} ${code.slice(3)}`);
    const { recovery_codes: codes } = JSON.parse(confirmed.stdout) as { recovery_codes: string[] };
    expect(codes).toHaveLength(10);
    expect((await mine('totp show')).stdout).toMatch(/state:\s+active/);
    expect((await mine('login default careful', `${PASSWORD}\n000000`)).code).toBe(3);
    expect((await mine('login default careful', `${PASSWORD}\n${shows(secret)}`)).code).toBe(0);
    expect((await mine('login default careful', `${PASSWORD}\n${codes[0]}`)).code).toBe(0);
    expect((await mine('totp recovery-codes', codes[1])).stdout).toMatch(/(\n {2}([a-z2-7]{5}-?){5}){10}\n/);
    expect((await mine('session elevate', shows(secret, 1))).code).toBe(0);
    const sessions = JSON.parse((await mine('session list --json')).stdout) as { current: boolean }[];
    expect(sessions.map(({ current }) => current).sort()).toEqual([false, false, true]);
    expect((await mine('session end --others')).stdout).toBe('Other sessions ended: 2.\n');
    expect((await mine('session end')).code).toBe(2);
    expect((await here(words('user remove-totp careful'))).code).toBe(0);
    expect((await mine('session list')).code).toBe(3);
    expect((await mine('login default careful', PASSWORD)).code).toBe(0);
  });

  test('a user of whom one is required is told so, and does nothing else', async () => {
    const made = await here(words('user create strict --generate --json'));
    const { generated_password: generated } = JSON.parse(made.stdout);
    expect(generated).toMatch(/^[a-z]+(-[a-z]+){5}$/);
    const required = await here(words('user update strict --require-totp'));
    expect(required.stdout).toMatch(/second factor:\s+no, but required/);
    const login = await here(words('login default strict'), { input: generated, token: null });
    expect([login.code, login.stderr]).toEqual([0, expect.stringContaining('bulla totp enrol')]);
    const refused = await here(words('secret list'), { token: null });
    expect([refused.code, refused.stderr]).toEqual([4, expect.stringContaining('bulla totp enrol')]);
  });
});

describe('issuers and login roles', () => {
  const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const jwks = JSON.stringify({ keys: [{ ...keys.publicKey.export({ format: 'jwk' }), kid: 'one', alg: 'ES256' }] });
  const ISSUER = 'https://ci.example';
  const sign = (claims: Record<string, string>) =>
    new SignJWT({ iss: ISSUER, aud: 'vault', sub: 'job', ...claims })
      .setProtectedHeader({ alg: 'ES256', kid: 'one' })
      .setIssuedAt()
      .setExpirationTime('5m')
      .sign(keys.privateKey);
  const role = (rest: object = {}) =>
    JSON.stringify({
      ...{ issuer: 'ci', audiences: ['vault'], token_ttl: '15m' },
      ...{ rules: [{ claims: { repository: ['acme/web'] }, policies: ['reader'] }], ...rest },
    });
  const issuer = (rest = '') =>
    here(words(`issuer put ci ${ISSUER} --jwks ${file('jwks')} --algorithm ES256 --clock-skew 1m${rest}`), {
      input: CANARY,
    });

  beforeEach(() => writeFileSync(file('jwks'), jwks));

  test('an issuer is stored with its keys and its client, shown without the secret, and deleted', async () => {
    const stored = await issuer(' --client-id vault --client-secret --redirect-uri http://127.0.0.1/cb --scope openid');
    expect(stored).toMatchObject({ code: 0, stdout: 'Stored the issuer ci, revision 1.\n' });
    const shown = await here(words('issuer show ci'));
    expect(shown.stdout).toMatch(
      /issuer: +https:\/\/ci\.example\nkeys: +1\nalgorithms: +ES256\nclient: +vault, with a secret\n/,
    );
    expect(shown.stdout).toMatch(/clock skew: +1m/);
    const whole = JSON.parse((await here(words('issuer show ci --json'))).stdout);
    expect(whole).toMatchObject({ name: 'ci', client: { id: 'vault', confidential: true }, clock_skew_seconds: 60 });
    const list = await here(words('issuer list'));
    expect(list.stdout).toMatch(/^ci\s+https:\/\/ci\.example\s+1\s+ES256/m);
    for (const { stdout, stderr } of [stored, shown, list]) expect(stdout + stderr).not.toContain(CANARY);
    expect(await issuer()).toMatchObject({ code: 0, stdout: 'Stored the issuer ci, revision 2.\n' });
    expect(await here(words('issuer delete ci'))).toMatchObject({ code: 0, stdout: 'Deleted the issuer ci.\n' });
    expect((await here(words('issuer show ci'))).code).toBe(5);
  });

  test('what is wrong is said without what was given: a client without its id, keys that are no JSON, no such file', async () => {
    const half = await here(words(`issuer put ci ${ISSUER} --client-secret`), { input: CANARY });
    expect(half).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('--client-id') });
    writeFileSync(file('jwks'), `{"keys": "${CANARY}`);
    const broken = await issuer();
    expect(broken).toMatchObject({ code: 2, stderr: expect.stringContaining('not JSON') });
    expect(half.stderr + broken.stderr).not.toContain(CANARY);
    expect((await here(words(`issuer put ci ${ISSUER} --jwks ${file('nowhere')}`))).code).toBe(2);
    expect((await here(words('issuer list --json'))).stdout).toBe('[]\n');
    expect((await here(words('login-role put early'), { input: role() })).code).not.toBe(0);
  });

  test('a login role is stored from standard input or a file, printed as it is taken, and logs in with a token', async () => {
    await issuer();
    const stored = await here(words('login-role put deploy'), { input: role() });
    expect(stored).toMatchObject({ code: 0, stdout: 'Stored the login role deploy, revision 1.\n' });
    const shown = (await here(words('login-role show deploy'))).stdout;
    expect(JSON.parse(shown)).toMatchObject({ kind: 'jwt', issuer: 'ci', audiences: ['vault'], token_ttl: 900 });
    writeFileSync(file('role'), shown);
    const again = await here(words(`login-role put deploy --file ${file('role')}`));
    expect(again).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^Stored the login role deploy, revision \d\.\n$/),
    });
    expect((await here(words('login-role list'))).stdout).toMatch(/^deploy\s+jwt\s+ci\s+vault\s+reader\s/m);

    const jwt = await sign({ repository: 'acme/web' });
    const entered = await here(words('login-role login deploy'), { input: `${jwt}\n`, token: null });
    expect(entered.stdout).toMatch(/^Logged in to default as ci-[a-z2-7]{16} until /);
    expect(entered.stdout + entered.stderr).not.toContain(jwt);
    expect((await here(words('status'), { token: null })).stdout).toMatch(/username:\s+ci-/);
    writeFileSync(file('jwt'), jwt);
    const printed = await here(words(`login-role login deploy --print-token --file ${file('jwt')}`), { token: null });
    const token = printed.stdout.trim();
    expect(token).toMatch(/^bulla_/);
    expect((await here(words('secret list'), { token })).code).toBe(0);
    expect((await here(words('user list'), { token })).code).toBe(4);

    const refused = await here(words('login-role login deploy'), {
      input: await sign({ repository: 'acme/db' }),
      token: null,
    });
    expect(refused).toMatchObject({ code: 3, stdout: '' });
    const elsewhere = { input: jwt, token: null, env: { BULLA_TENANT: 'nowhere' } };
    expect((await here(words('login-role login deploy'), elsewhere)).code).toBe(3);
    expect(await here(words('login-role delete deploy'))).toMatchObject({
      code: 0,
      stdout: 'Deleted the login role deploy.\n',
    });
    expect((await here(words('secret list'), { token })).code).toBe(3);
    expect((await here(words('login-role show deploy'))).code).toBe(5);
    await here(words('issuer delete ci'));
  });
});
