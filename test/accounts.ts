/** What tests of static accounts do at a vault and its target. */
import { expect } from 'vitest';
import type { TestVault } from './harness.ts';
import { connectWith, type LoginData, quote, type Target } from './lease-target.ts';

/** `at`: what is there once the file's `beforeAll` has run. */
export function accountsAt(at: () => { readonly t: TestVault; readonly target: Target }) {
  const api = (method: string, path: string, body?: object, token = at().t.admin) =>
    at().t.request(method, `/api/v1${path}`, { token, ...(body === undefined ? {} : { body }) });

  /** A role of the target that the backend's administrator may administer, as it would have made it. */
  const roleAt = async (username: string, password = 'as it was given by hand'): Promise<LoginData> => {
    const { t, target } = at();
    const admin = connectWith(target, target.config);
    await admin.unsafe(`CREATE ROLE ${quote(username)} LOGIN PASSWORD '${password}'`);
    await admin.end();
    t.secrets.add(password);
    return { username, password };
  };

  const made = async (name: string, body: object = {}) => {
    const { username } = await roleAt(name);
    const answer = await api('PUT', `/accounts/${name}`, { backend: 'db', username, ...body });
    expect(answer.status, answer.text).toBe(201);
    return answer.json;
  };

  const current = async (name: string, token = at().t.admin): Promise<LoginData> => {
    const { t } = at();
    const answer = await api('GET', `/accounts/${name}/credential`, undefined, token);
    expect(answer.status, answer.text).toBe(200);
    t.secrets.add(answer.json.credential.password);
    return answer.json.credential;
  };

  /** As time does: what waits after a failure is tried again. */
  const soon = async (name: string) => {
    const { t } = at();
    await t.owner`UPDATE static_accounts SET due_at = now() WHERE name = ${name} AND due_at IS NOT NULL AND claim IS NULL`;
    await t.owner`UPDATE leases SET due_at = now() WHERE path = ${`db/${name}`} AND state = 'revoking' AND claim IS NULL`;
    await t.owner`NOTIFY bulla_leases`;
  };

  const take = async (account: string, token = at().t.admin, body: object = {}) => {
    const { t } = at();
    const answer = await api('POST', '/leases', { account, ...body }, token);
    if (answer.json.credential) t.secrets.add(answer.json.credential.password);
    return answer;
  };

  return { api, roleAt, made, current, soon, take };
}
