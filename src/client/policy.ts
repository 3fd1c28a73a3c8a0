/** The policies of a tenant: named lists of rules. */
import { API, jsonOf, listAll, part, sendForJson } from './answer.ts';
import type { CallOptions, Connection } from './connection.ts';
import type { Policy, PolicyInfo, PutPolicyBody } from './types.ts';

export type Policies = ReturnType<typeof createPolicies>;

export function createPolicies(connection: Connection) {
  return {
    list: (options: CallOptions = {}): AsyncGenerator<PolicyInfo, void, undefined> =>
      listAll(connection, `${API}/policies`, {}, options),

    get: (name: string, options: CallOptions = {}): Promise<Policy> =>
      sendForJson(connection, { method: 'GET', path: `${API}/policies/${part(name)}`, effect: 'none', ...options }),

    /**
     * Replaces the rules, or makes the policy. A document given as JSON text goes as it is, so that the server sees what
     * a parser here would hide. `ifRevision` guards against a change by somebody else in between.
     */
    put: async (
      name: string,
      document: PutPolicyBody | string,
      options: CallOptions & { readonly ifRevision?: number } = {},
    ): Promise<Policy> => {
      const { ifRevision, ...rest } = options;
      const answer = await connection.send({
        method: 'PUT',
        path: `${API}/policies/${part(name)}`,
        effect: 'same',
        headers: { 'if-match': ifRevision === undefined ? undefined : `"${ifRevision}"` },
        json: document,
        ...rest,
      });
      return jsonOf(answer);
    },

    delete: async (name: string, options: CallOptions = {}): Promise<void> => {
      await connection.send({ method: 'DELETE', path: `${API}/policies/${part(name)}`, effect: 'same', ...options });
    },
  };
}
