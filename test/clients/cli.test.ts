/** The command lines of Vault and OpenBao, where one is on the PATH: what people type every day, against our listener. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { PASSWORD, type TestVault, testVault } from '../harness.ts';
import { runClient } from './program.ts';

const hasProgram = (program: string) => spawnSync(program, ['version'], { stdio: 'ignore' }).status === 0;
const PROGRAMS = ['vault', 'bao'].map((program) => ({ program, there: hasProgram(program) }));

let t: TestVault;
let vaultAddress: string;
const home = mkdtempSync(join(tmpdir(), 'bulla-cli-'));
beforeAll(async () => {
  t = await testVault();
  vaultAddress = await t.address();
});
afterAll(async () => {
  rmSync(home, { recursive: true, force: true });
  await t.close();
});

async function run(
  program: string,
  token: string,
  args: readonly string[],
  input = '',
): Promise<[number | null, string]> {
  const env = {
    ...{ PATH: process.env.PATH, HOME: home },
    ...{ VAULT_ADDR: vaultAddress, VAULT_TOKEN: token, BAO_ADDR: vaultAddress, BAO_TOKEN: token },
  };
  const [code, said] = await runClient(program, args, { env, input });
  return [code, said.trim()];
}

for (const { program, there } of PROGRAMS) {
  it.skipIf(!there)(
    `${program}${there ? '' : ` (skipped: there is no ${program} on the PATH)`}`,
    async () => {
      const [status, token] = await run(
        program,
        '',
        ['login', '-method=userpass', '-no-store', '-token-only', 'username=admin', 'password=-'],
        PASSWORD,
      );
      expect([status, token]).toEqual([0, expect.stringMatching(/^bulla_/)]);
      t.secrets.add(token);
      const done = async (line: string, input = ''): Promise<string> => {
        const [code, said] = await run(program, token, line.split(' '), input);
        expect([line, code, said]).toEqual([line, 0, said]);
        return said;
      };
      const json = async (line: string) => {
        const parts = line.split(' ');
        // Flags stand behind the words of a command and before its arguments.
        const at = parts.findIndex((part) => !/^[a-z]+$/.test(part));
        const words = at === -1 ? parts : parts.slice(0, at);
        const rest = at === -1 ? [] : parts.slice(at);
        return JSON.parse(await done([...words, '-format=json', ...rest].join(' ')));
      };
      await done('status');
      await done('kv put -mount=secret cli/app user=u password=one');
      await done('kv put -mount=secret -cas=1 cli/app user=u password=two');
      const [late, why] = await run(program, token, ['kv', 'put', '-mount=secret', '-cas=1', 'cli/app', 'user=x']);
      expect([late, why]).toEqual([2, expect.stringContaining('check-and-set parameter did not match')]);
      expect(await done('kv get -mount=secret -field=password cli/app')).toBe('two');
      expect(await done('kv get -mount=secret -version=1 -field=password cli/app')).toBe('one');
      expect(await done('kv get -field=password secret/cli/app')).toBe('two');
      await done('kv patch -mount=secret cli/app port=5432');
      expect((await json('kv get -mount=secret cli/app')).data.data).toMatchObject({ password: 'two', port: '5432' });
      expect(await json('kv list secret/cli')).toEqual(['app']);
      await done('kv delete -mount=secret cli/app');
      await done('kv undelete -mount=secret -versions=3 cli/app');
      await done('kv destroy -mount=secret -versions=1 cli/app');
      await done('kv metadata put -mount=secret -custom-metadata=owner=cli cli/app');
      expect((await json('kv metadata get -mount=secret cli/app')).data).toMatchObject({
        ...{ current_version: 3, custom_metadata: { owner: 'cli' }, versions: { 1: { destroyed: true } } },
      });
      const wrapped = await json('kv get -wrap-ttl=60s -mount=secret cli/app');
      const opened = await json(`unwrap ${wrapped.wrap_info.token}`);
      expect(opened.data.data).toMatchObject({ password: 'two' });

      await done('policy write cli-read -', 'path "secret/data/cli/*" { capabilities = ["read"] }');
      expect(await done('policy read cli-read')).toContain('secret/data/cli/*');
      expect(await done('policy list')).toContain('cli-read');
      const child = (await json('token create -policy=cli-read -ttl=10m')).auth.client_token;
      expect(await done(`token capabilities ${child} secret/data/cli/app`)).toBe('read');
      expect((await json(`token lookup ${child}`)).data.policies).toEqual(['cli-read', 'default']);
      const [denied, said] = await run(program, child, ['kv', 'put', '-mount=secret', 'cli/app', 'a=b']);
      expect([denied, said]).toEqual([2, expect.stringContaining('permission denied')]);
      await done(`token renew ${child}`);
      await done(`token revoke ${child}`);

      await done('secrets enable -path=cli-kv kv-v2');
      expect(Object.keys(await json('secrets list'))).toContain('cli-kv/');
      await done('secrets disable cli-kv/');
      expect(Object.keys(await json('auth list'))).toContain('userpass/');
      await done('write -f transit/keys/cli');
      const ciphertext = await done('write -field=ciphertext transit/encrypt/cli plaintext=aGVsbG8=');
      expect(await done(`write -field=plaintext transit/decrypt/cli ciphertext=${ciphertext}`)).toBe('aGVsbG8=');
      expect(await json('list transit/keys')).toContain('cli');
      await done('kv metadata delete -mount=secret cli/app');
      const [none] = await run(program, token, ['kv', 'get', '-mount=secret', 'cli/app']);
      expect(none).toBe(2);
    },
    // Each of its lines is a process that starts.
    240_000,
  );
}
