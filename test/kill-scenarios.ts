/** What is under way when a server is killed, and what must be so on the next one beside what holds for all of them. */
import { expect } from 'vitest';
import { unseal, unsealOnHost } from '../src/tenant/seal.ts';
import { callOf, type TestVault } from './harness.ts';
import { api } from './killable.ts';
import { leaseTarget, type Target, works } from './lease-target.ts';
import { until } from './until.ts';

type At = { readonly address: string; readonly token: string; readonly operator: string };

/** What is done while the load runs, and what must be so at the end beside I1–I8. */
export type Scenario = {
  readonly times?: number;
  /** Before the load begins. */
  readonly before?: (at: At) => Promise<unknown>;
  readonly act: (at: At) => Promise<unknown>;
  readonly after?: (t: TestVault, at: At) => Promise<void>;
};

/** Of the scenario that is running. */
let target: Target | undefined;

const PASSPHRASE = 'a passphrase that is long enough';

const served = (address: string, token: string) =>
  until('the vault serves', async () => (await api(address, 'GET', '/secrets/load/base-1', token)).status === 200);

export const SCENARIOS = {
  rotate: { act: ({ address, token }) => api(address, 'POST', '/keys/rotate', token) },
  reencrypt: {
    act: ({ address, token }) => api(address, 'POST', '/keys/rotate', token, { reencrypt: true }),
    after: async (t) => {
      // As time does: the heartbeat of the dead node grows old.
      const open = await t.owner`
        UPDATE jobs SET heartbeat_at = heartbeat_at - interval '1 minute' WHERE state = 'running' RETURNING job_id`;
      await until('every job has ended', async () => {
        return (await t.owner`SELECT 1 FROM jobs WHERE state IN ('queued', 'running')`).length === 0;
      });
      const states = await t.owner`SELECT state FROM jobs WHERE kind = 'reencrypt'`;
      expect([open.length <= 1, states.map(({ state }) => state)]).toEqual([true, states.map(() => 'done')]);
      const old = await t.owner`
        SELECT 1 FROM data_key_material m JOIN data_keys k USING (tenant_id, version) WHERE k.state = 'destroyed'`;
      expect(old).toHaveLength(0);
    },
  },
  pepper: {
    act: ({ address, operator }) => api(address, 'POST', '/peppers/rotate', operator),
    after: async (t) => {
      expect(await t.owner`SELECT 1 FROM system_keys WHERE purpose = 'pepper' AND state = 'active'`).toHaveLength(1);
      expect(await t.login('default', 'admin')).toMatch(/^bulla_/);
    },
  },
  root: { act: ({ address, operator }) => api(address, 'POST', '/root-keys/rotate', operator) },
  tenantDelete: {
    act: ({ address, operator }) => api(address, 'DELETE', '/tenants/doomed', operator),
    after: async (t) => {
      await t.owner`UPDATE jobs SET heartbeat_at = heartbeat_at - interval '1 minute' WHERE state = 'running'`;
      await until('the removal has ended', async () => {
        return (await t.owner`SELECT 1 FROM jobs WHERE state IN ('queued', 'running')`).length === 0;
      });
      const [doomed] = await t.owner`SELECT tenant_id, state FROM tenants WHERE state = 'deleted' OR name = 'doomed'`;
      const secrets = await t.owner`SELECT 1 FROM secrets WHERE tenant_id = ${doomed!.tenant_id}`;
      // All of it, or nothing: the first commit decides.
      expect([doomed!.state, secrets.length]).toEqual(doomed!.state === 'active' ? ['active', 5] : ['deleted', 0]);
    },
  },
  migrate: { act: ({ address, operator }) => api(address, 'POST', '/seal/migrate', operator, { to: 'env' }) },
  seal: {
    act: ({ address, operator }) => api(address, 'POST', '/seal/seal', operator),
    after: async (t, { address, token }) => {
      expect((await api(address, 'GET', '/secrets/load/base-1', token)).status).toBe(503);
      await unsealOnHost(t.vault);
      await served(address, token);
    },
  },
  unseal: {
    before: async ({ address, operator }) => {
      const done = await api(address, 'POST', '/seal/migrate', operator, { to: 'passphrase', passphrase: PASSPHRASE });
      expect(done.json).toMatchObject({ state: 'done' });
    },
    act: async ({ address, operator }) => {
      await api(address, 'POST', '/seal/seal', operator);
      await api(address, 'POST', '/seal/unseal', operator, { passphrase: PASSPHRASE });
    },
    after: async (t, { address, token, operator }) => {
      expect((await api(address, 'GET', '/secrets/load/base-1', token)).status).toBe(503);
      await api(address, 'POST', '/seal/unseal', operator, { passphrase: PASSPHRASE });
      await served(address, token);
      await unseal(t.vault, callOf(), { passphrase: PASSPHRASE });
    },
  },
  lease: {
    before: async ({ address, token }) => {
      target = await leaseTarget();
      const body = { kind: 'postgres', config: target.config };
      expect((await api(address, 'PUT', '/backends/db', token, body)).status).toBe(201);
      expect((await api(address, 'PUT', '/roles/reporting', token, { backend: 'db' })).status).toBe(201);
    },
    act: async ({ address, token }) => {
      const { json } = await api(address, 'POST', '/leases', token, { role: 'db/reporting', ttl: '10m' });
      await api(address, 'POST', `/leases/${json.id}/renew`, token);
      await api(address, 'DELETE', `/leases/${json.id}`, token);
    },
    after: async (t) => {
      const found = target!;
      try {
        await proveLeases(t, found);
        // As time does: deadlines, claims and expiries pass.
        await until('every credential is gone', async () => {
          await t.owner`
            UPDATE leases SET due_at = now() - interval '1 second',
                   expires_at = CASE state WHEN 'active' THEN now() - interval '1 second' ELSE expires_at END
            WHERE state IN ('pending', 'active', 'revoking') AND due_at > now() - interval '1 second'`;
          await t.owner`NOTIFY bulla_leases`;
          await proveLeases(t, found);
          return (await found.roles()).length === 0;
        });
        // What was cut off is looked for once more.
        await until('every lease has ended', async () => {
          await t.owner`UPDATE leases SET due_at = now() WHERE state = 'checking'`;
          await t.owner`NOTIFY bulla_leases`;
          return (await t.owner`SELECT 1 FROM leases WHERE state <> 'ended'`).length === 0;
        });
      } finally {
        target = undefined;
        await found.close();
      }
    },
  },
  account: {
    before: async ({ address, token }) => {
      target = await leaseTarget();
      await target.sql`CREATE ROLE kept LOGIN PASSWORD 'the first one'`;
      await target.sql`GRANT kept TO ${target.sql(target.config.username)} WITH ADMIN OPTION`;
      const body = { kind: 'postgres', config: target.config };
      expect((await api(address, 'PUT', '/backends/db', token, body)).status).toBe(201);
      const kept = { backend: 'db', username: 'kept', password: 'the first one' };
      expect((await api(address, 'PUT', '/accounts/kept', token, kept)).status).toBe(201);
    },
    act: async ({ address, token }) => {
      const { json } = await api(address, 'POST', '/leases', token, { account: 'kept', ttl: '10m' });
      await api(address, 'DELETE', `/leases/${json.id}`, token);
    },
    after: async (t, { address, token }) => {
      const found = target!;
      const credential = async () => (await api(address, 'GET', '/accounts/kept/credential', token)).json.credential;
      try {
        // Wherever it died, what the vault answers is what works.
        expect(await works(found, await credential())).toBe(true);
        await until('the lease has ended', async () => {
          await t.owner`
            UPDATE leases SET due_at = now() - interval '1 second', expires_at = now() - interval '1 second'
            WHERE state IN ('active', 'revoking') AND due_at > now() - interval '1 second'`;
          await t.owner`UPDATE static_accounts SET claim_until = now() WHERE claim_until > now()`;
          await t.owner`NOTIFY bulla_leases`;
          return (await t.owner`SELECT 1 FROM leases WHERE state <> 'ended'`).length === 0;
        });
        const [row] = await t.owner`SELECT in_doubt AS "inDoubt" FROM static_accounts`;
        expect(row!.inDoubt).toBe(false);
        expect(await works(found, await credential())).toBe(true);
        expect(await works(found, { username: 'kept', password: 'the first one' })).toBe(false);
      } finally {
        target = undefined;
        await found.close();
      }
    },
  },
  backend: {
    before: async ({ address, token }) => {
      target = await leaseTarget();
      const body = { kind: 'postgres', config: target.config };
      expect((await api(address, 'PUT', '/backends/db', token, body)).status).toBe(201);
    },
    act: ({ address, token }) =>
      fetch(`${address}/v1/database/rotate-root/db`, { method: 'POST', headers: { 'X-Vault-Token': token } }),
    after: async (t, { address, token }) => {
      const found = target!;
      const { username, password } = found.config;
      try {
        await until('the change has ended', async () => {
          // As time does: the claim of the dead node runs out.
          await t.owner`UPDATE backends SET root_due_at = now() WHERE root_due_at > now()`;
          await t.owner`NOTIFY bulla_leases`;
          return (await t.owner`SELECT 1 FROM backends WHERE root_due_at IS NOT NULL`).length === 0;
        });
        // What the vault has stored logs in, and what it had before does not.
        const reset = { method: 'POST', headers: { 'X-Vault-Token': token } };
        expect((await fetch(`${address}/v1/database/reset/db`, reset)).status).toBe(204);
        expect(await works(found, { username, password })).toBe(false);
      } finally {
        target = undefined;
        await found.close();
      }
    },
  },
  rotator: {
    before: async ({ address, token }) => {
      expect((await api(address, 'PUT', '/secrets/turned', token, { text: 'the first' })).status).toBe(201);
      const body = { kind: 'password', grace: '1h' };
      expect((await api(address, 'PUT', '/rotators/turned', token, body)).status).toBe(201);
    },
    act: ({ address, token }) => api(address, 'POST', '/rotators/turned/rotate', token),
    after: async (t, { address, token }) => {
      const read = async (version?: number) =>
        (await api(address, 'GET', `/secrets/turned${version ? `?version=${version}` : ''}`, token)).json;
      // The version before is whole, whether it has been followed or not.
      expect(await read(1)).toMatchObject({ text: 'the first' });
      const { version } = await read();
      // As time does: the claim of the dead node runs out.
      await t.owner`UPDATE rotators SET claim_until = now() WHERE claim IS NOT NULL`;
      expect((await api(address, 'POST', '/rotators/turned/rotate', token)).json.version).toBe(version + 1);
      const rows =
        await t.owner`SELECT 1 FROM secret_versions JOIN secrets USING (tenant_id, secret_id) WHERE path = 'turned'`;
      expect(rows).toHaveLength(version + 1);
    },
  },
  load: { times: 40, act: async () => undefined },
} as const satisfies Record<string, Scenario>;

/** No credential lives without a row, and no row says that one is gone which is not. */
async function proveLeases(t: TestVault, where: Target): Promise<void> {
  const rows = await t.owner`SELECT handle, state FROM leases`;
  const roles = await where.roles();
  const alive = new Set(rows.filter((row) => row.state !== 'ended').map((row) => row.handle as string));
  expect(roles.filter((role) => !alive.has(role))).toEqual([]);
}
