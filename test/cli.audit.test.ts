/** The log on the command line: exported, verified offline, proved in parts, and asked. */
import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { admin, bulla, CANARY, directory, file, here, ownShell, vault, words } from './shell.ts';

ownShell();

describe('audit', () => {
  test('an export is whole and private, verifies offline, and a changed one is named with code 1', async () => {
    await admin.secrets.put('audit/x', { text: CANARY });
    expect((await here(['audit', 'export', file('log')])).code).toBe(0);
    expect(readdirSync(directory).sort()).toEqual(['log', 'log.checkpoint', 'log.tree']);
    expect(statSync(file('log')).mode & 0o777).toBe(0o600);
    const verify = (...args: string[]) =>
      bulla(['audit', 'verify', ...args], { token: null, env: { BULLA_ADDR: 'nonsense' } });
    expect(await verify(file('log'))).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^Whole and unchanged: \d+ entries/),
    });
    const whole = readFileSync(file('log'), 'utf8');
    expect(whole).toContain('secret:audit/x');
    expect(whole).not.toContain(CANARY);
    writeFileSync(file('log'), whole.replace('"ok"', '"no"'));
    expect(await verify(file('log'))).toMatchObject({ code: 1, stdout: expect.stringMatching(/^line 1 was edited/) });
    const json = JSON.parse((await verify(file('log'), '--json')).stdout);
    expect(json).toMatchObject({ ok: false, findings: [{ kind: 'edited', entries: [0, 0], lines: [1, 1] }] });
    rmSync(file('log.tree'));
    expect(await verify(file('log'))).toMatchObject({ code: 1, stdout: expect.stringContaining('do not add up') });
    rmSync(file('log.checkpoint'));
    expect(await verify(file('log'))).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('Only the numbering was checked'),
    });
    expect(await verify(file('nothing'))).toMatchObject({ code: 2 });
  });

  test('a filtered export leaves no older tree beside it to accuse it', async () => {
    await here(['audit', 'export', file('log')]);
    const { stdout } = await here(['audit', 'export', file('log'), '--action', 'secret.write', '--json']);
    expect(JSON.parse(stdout)).toMatchObject({ tree: null });
    expect(readdirSync(directory)).toEqual(['log']);
    const lines = readFileSync(file('log'), 'utf8').trimEnd().split('\n');
    expect(new Set(lines.map((line) => JSON.parse(line).action))).toEqual(new Set(['secret.write']));
    await here(['audit', 'export', file('log.csv'), '--format', 'csv', '--limit', '2']);
    expect(readFileSync(file('log.csv'), 'utf8').trimEnd().split('\n')).toHaveLength(3);
  });

  test('a failed export leaves the file that was there', async () => {
    writeFileSync(file('log'), 'before');
    expect((await here(['audit', 'export', file('log')], { token: await vault.user('nobody', []) })).code).toBe(4);
    expect(readdirSync(directory)).toEqual(['log']);
    expect(readFileSync(file('log'), 'utf8')).toBe('before');
  });
});

describe('audit proofs', () => {
  const verify = (...args: string[]) => bulla(['audit', 'verify', ...args], { token: null });

  test('the log is verified against the key and an older checkpoint, and a part of it with --proof', async () => {
    writeFileSync(file('key'), (await here(['audit', 'key'])).stdout);
    writeFileSync(file('old'), (await here(['audit', 'checkpoint'])).stdout);
    await admin.secrets.put('audit/y', { text: 'y' });
    await here(['audit', 'export', file('log')]);
    const whole = await verify(file('log'), '--key', file('key'), '--checkpoint', file('old'));
    expect(whole).toMatchObject({ code: 0, stdout: expect.stringMatching(/extends the older.*\n.*is signed by/) });
    const asked = ['--action', 'secret.write', '--proof', '--checkpoint', file('old')];
    await here(['audit', 'export', file('part'), ...asked]);
    const part = await verify(file('part'), '--key', file('key'), '--checkpoint', file('old'));
    expect(part).toMatchObject({ code: 0, stdout: expect.stringMatching(/^Unchanged: \d+ of the \d+ entries/) });
    writeFileSync(file('part'), readFileSync(file('part'), 'utf8').replace('"secret.write"', '"secret.read"'));
    expect(await verify(file('part'))).toMatchObject({ code: 1, stdout: expect.stringMatching(/was edited/) });
  });
});

describe('audit questions', () => {
  test('who could, who did, what nobody reads, what was denied: tables, and JSON for programs', async () => {
    await admin.secrets.put('asked/db', { text: 'x' });
    await admin.secrets.put('asked/idle', { text: 'x' });
    await admin.secrets.get('asked/db');
    const token = await vault.user('stranger', []);
    await here(words('secret get asked/db'), { token });
    expect((await here(words('audit who-can asked/db'))).stdout).toMatch(/^admin\s+always\s+admin/m);
    expect((await here(words('audit who-did asked/db'))).stdout).toMatch(/^stranger\s+0\s+1\s+0\s/m);
    const idle = JSON.parse((await here(words('audit unread --days 1 --json'))).stdout);
    const paths = idle.map(({ path }: { path: string }) => path);
    expect(paths).toContain('asked/idle');
    expect(paths).not.toContain('asked/db');
    expect((await here(words('audit denials'))).stdout).toMatch(/denied\s+stranger\s+secret.read\s+secret:asked\/db/);
    expect((await here(words('audit denials --day yesterday'))).code).toBe(2);
    const [entry] = JSON.parse((await here(words('audit actor stranger --json'))).stdout);
    const request = JSON.parse((await here(['audit', 'request', entry.request, '--json'])).stdout);
    expect(request).toEqual([entry]);
  });
});
