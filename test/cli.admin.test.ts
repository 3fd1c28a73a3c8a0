/** Administration on the command line: accounts, policies, groups and approvals, tenants and keys. */
import { describe, expect, test } from 'vitest';
import { startJobs } from '../src/job/kinds.ts';
import { PASSWORD } from './harness.ts';
import { here, ownShell, vault, words } from './shell.ts';

ownShell();

describe('administration', () => {
  test('users, with one-time passwords that are shown once', async () => {
    const made = await here(words('user create ann --policy reader --policy auditor'));
    expect(made.stdout).toMatch(/one-time password:\s+\S+/);
    expect((await here(words('user show ann'))).stdout).not.toMatch(/one-time/);
    const own = await here(words('user create bob --password --json'), { input: `${PASSWORD} b\n` });
    expect(JSON.parse(own.stdout)).toMatchObject({ username: 'bob', policies: [], password_change_required: false });
    expect((await here(words('login default bob --print-token'), { input: `${PASSWORD} b`, token: null })).code).toBe(
      0,
    );
    expect((await here(words('user update bob --disable --policy reader'))).stdout).toMatch(/state:\s+disabled/);
    expect((await here(words('user update bob --enable --no-policies'))).stdout).toMatch(/policies:\s+-/);
    expect((await here(words('user update bob'))).code).toBe(2);
    expect((await here(words('user password bob'))).stdout).toMatch(/one-time password:/);
    expect((await here(words('user password bob --set'), { input: `${PASSWORD} c\n` })).stdout).not.toMatch(/one-time/);
    expect((await here(words('user list'))).stdout).toMatch(/^ann\s+reader, auditor\s+must change password/m);
    expect((await here(words('user unlock bob'))).code).toBe(0);
    expect((await here(words('user delete bob'))).code).toBe(0);
    expect((await here(words('user show bob'))).code).toBe(5);
    expect((await here(words('user create ann'))).code).toBe(6);
  });

  test('policies go in as they come out', async () => {
    const rules = '{"rules":[{"effect":"allow","actions":["secret.read"],"resources":["secret:a/**"]}]}';
    expect((await here(words('policy put web'), { input: rules })).stdout).toBe('Stored the policy web, revision 1.\n');
    const shown = (await here(words('policy show web'))).stdout;
    expect((await here(words('policy put web --if-revision 1'), { input: shown })).code).toBe(0);
    expect((await here(words('policy put web --if-revision 1'), { input: shown })).code).toBe(6);
    // The text goes as it is, so the server sees and refuses what a parser here would hide.
    expect(
      (await here(words('policy put web'), { input: rules.replace('{"effect"', '{"effect":"deny","effect"') })).code,
    ).toBe(2);
    expect((await here(words('policy list'))).stdout).toMatch(/^web\s+2\s+no/m);
    expect((await here(words('policy delete web'))).code).toBe(0);
    expect((await here(words('policy delete admin'))).code).toBe(6);
  });

  test('groups, approvals, explanations, dry runs and quotas', async () => {
    const operator = { token: vault.operator };
    const put = (name: string, rules: object[], dry = '') =>
      here(words(`policy put ${name}${dry}`), { input: JSON.stringify({ rules }) });
    const rule = { effect: 'allow', actions: ['secret.read'], resources: ['secret:vaulted/**'] };
    await here(words('secret put vaulted/root --text'), { input: 'the value behind two people' });
    await put('custodians', []);
    await put('vaulted', [{ ...rule, approval: { by: 'custodians', within: '1h' } }]);
    const [asker, keeper] = [await vault.user('asker', []), await vault.user('keeper', ['custodians'])];
    expect((await here(words('group create askers -p vaulted -m asker'))).stdout).toMatch(/members:\s+1/);
    expect((await here(words('group members askers'))).stdout).toMatch(/^asker\s+person/m);
    expect((await here(words('group list'))).stdout).toMatch(/^askers\s+vaulted\s+1/m);
    expect((await here(words('user show asker'))).stdout).toMatch(/groups:\s+askers/);
    const waits = await here(words('secret get vaulted/root'), { token: asker });
    expect([waits.code, waits.stderr]).toEqual([4, expect.stringContaining('bulla approval request')]);
    const asked = await here(words('approval request secret.read vaulted/root --json'), { token: asker });
    const { id } = JSON.parse(asked.stdout) as { id: string };
    expect((await here(words(`approval approve ${id}`), { token: asker })).code).toBe(4);
    expect((await here(words('approval list --open'), { token: keeper })).stdout).toMatch(
      /secret:vaulted\/root \(1\)\s+open/,
    );
    expect((await here(words(`approval approve ${id}`), { token: keeper })).stdout).toMatch(/state:\s+approved/);
    expect((await here(words('secret get vaulted/root'), { token: asker })).stdout).toContain('behind two people');
    expect((await here(words(`approval show ${id}`), { token: asker })).stdout).toMatch(/state:\s+used/);
    expect((await here(words('secret get vaulted/root'), { token: asker })).code).toBe(4);
    const second = JSON.parse(
      (await here(words('approval request secret.read vaulted/root --json'), { token: asker })).stdout,
    );
    expect((await here(words(`approval cancel ${second.id}`), { token: asker })).code).toBe(0);
    expect((await here(words('policy explain secret.read vaulted/root --user asker'))).stdout).toMatch(
      /approvals:\s+1 of custodians/,
    );
    expect((await here(words('policy explain secret.write vaulted/root'), { token: asker })).stdout).toMatch(
      /would allow it:\s+allow secret\.write on secret:vaulted\/root/,
    );
    expect((await put('vaulted', [rule], ' --dry-run')).stdout).toMatch(/^1 hold it[\s\S]*asker \+ allow secret\.read/);
    expect((await here(words('policy history vaulted'))).stdout).toMatch(/^1\s+1\s+1\s+admin/m);
    expect((await here(words('group remove askers asker'))).stdout).toMatch(/members:\s+0/);
    expect((await here(words('group add askers asker keeper'))).stdout).toMatch(/members:\s+2/);
    expect((await here(words('group update askers --no-policies'))).stdout).toMatch(/policies:\s+-/);
    expect((await here(words('group delete askers'))).code).toBe(0);
    const quota = 'tenant quota default --secrets 5000 --requests-per-second any --account-requests-per-second 100000';
    expect((await here(words(quota), operator)).stdout).toMatch(/of 5000[\s\S]*requests:\s+any/);
    expect((await here(words('tenant quota default'), operator)).code).toBe(2);
    await here(words('tenant quota default --account-requests-per-second any'), operator);
  });

  test('tenants and keys', async () => {
    const operator = { token: vault.operator };
    const made = await here(words('tenant create acme --admin boss --json'), operator);
    expect(JSON.parse(made.stdout)).toMatchObject({
      name: 'acme',
      admin: { username: 'boss', one_time_password: expect.any(String) },
    });
    expect((await here(words('tenant suspend acme'), operator)).stdout).toMatch(/state:\s+suspended/);
    expect((await here(words('tenant resume acme'), operator)).stdout).toMatch(/state:\s+active/);
    expect((await here(words('tenant list'), operator)).stdout).toMatch(/^acme/m);
    expect((await here(words('tenant delete acme'), operator)).code).toBe(2);
    expect((await here(words('tenant delete acme --yes'), operator)).code).toBe(0);
    expect((await here(words('tenant show acme'), operator)).code).toBe(5);
    expect((await here(words('key rotate'))).stdout).toBe(
      `New writes use version 2 (${JSON.parse((await here(words('key list --json'))).stdout)[0].fingerprint}).\n`,
    );
    expect((await here(words('key list'))).stdout).toMatch(/^1\s+decrypt_only/m);
    expect((await here(words('key destroy 2 --yes'))).code).toBe(6);
    const jobs = startJobs(vault.vault);
    const moved = await here(words('key rotate --reencrypt'));
    await jobs.stop();
    expect([moved.code, moved.stdout]).toEqual([
      0,
      expect.stringMatching(/New writes use version 3[\s\S]*state:\s+done/),
    ]);
    const [job] = JSON.parse((await here(words('job list --json'))).stdout);
    expect((await here(words(`job show ${job.id}`))).stdout).toMatch(/"destroyed":\[\{/);
    expect((await here(words(`job cancel ${job.id}`))).code).toBe(6);
    expect((await here(words(`job resume ${job.id}`))).code).toBe(6);
    expect((await here(words('key list'))).stdout).toMatch(/^3\s+active[\s\S]*^2\s+destroyed[\s\S]*^1\s+destroyed/m);
    expect((await here(words('pepper rotate'), operator)).stdout).toBe('New passwords use pepper version 2.\n');
    expect((await here(words('pepper list'), operator)).stdout).toMatch(/^2\s+active\s+0[\s\S]*^1\s+retiring\s+\d/m);
    expect((await here(words('pepper users 1'), operator)).stdout).toMatch(/^default\s+admin/m);
    expect((await here(words('pepper destroy 1 --yes'), operator)).code).toBe(6);
    expect((await here(words('root-key rotate'), operator)).stdout).toMatch(/version 1 is destroyed/);
    expect((await here(words('root-key list'), operator)).stdout).toMatch(/^2\s+active/m);
  });
});
