/** The policies of a tenant: named lists of rules. */
import { API, jsonOf, listAll, part, sendForJson } from './answer.ts';
import type { CallOptions, Connection } from './connection.ts';
import { BullaError } from './error.ts';
import type {
  ExplainPolicyBody,
  Explanation,
  Policy,
  PolicyChange,
  PolicyInfo,
  PolicyPreview,
  PutPolicyBody,
} from './types.ts';

export type Policies = ReturnType<typeof createPolicies>;

export function createPolicies(connection: Connection) {
  return {
    list: (options: CallOptions = {}): AsyncGenerator<PolicyInfo, void, undefined> =>
      listAll(connection, `${API}/policies`, {}, options),

    get: (name: string, options: CallOptions = {}): Promise<Policy> =>
      sendForJson(connection, { method: 'GET', path: `${API}/policies/${part(name)}`, effect: 'none', ...options }),

    /** What the name has meant, the latest first, and who changed it. */
    changes: (name: string, options: CallOptions = {}): AsyncGenerator<PolicyChange, void, undefined> =>
      listAll(connection, `${API}/policies/${part(name)}/versions`, {}, options),

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

    /** The text that a policy was written as under /v1, in HCL or JSON; undefined when there is no such policy. */
    text: async (name: string, options: CallOptions = {}): Promise<string | undefined> => {
      try {
        const path = `/v1/sys/policies/acl/${part(name)}`;
        const answer = await connection.send({ method: 'GET', path, effect: 'none', ...options });
        return jsonOf<{ data: { policy: string } }>(answer).data.policy;
      } catch (error) {
        if (error instanceof BullaError && error.status === 404) return undefined;
        throw error;
      }
    },

    /** Writes a policy as a text of HCL or JSON; refused where it could not be enforced as it is written. */
    putText: async (name: string, policy: string, options: CallOptions = {}): Promise<void> => {
      const path = `/v1/sys/policies/acl/${part(name)}`;
      await connection.send({ method: 'PUT', path, effect: 'same', json: { policy }, ...options });
    },

    /** Who would gain and lose what, if the document replaced the policy. Nothing is changed. */
    dryRun: (name: string, document: PutPolicyBody | string, options: CallOptions = {}): Promise<PolicyPreview> =>
      sendForJson(connection, {
        method: 'POST',
        path: `${API}/policies/${part(name)}/dry_run`,
        effect: 'none',
        json: document,
        ...options,
      }),

    /** May one do this to that, and which rule says so; about oneself when no username is given. */
    explain: (question: ExplainPolicyBody, options: CallOptions = {}): Promise<Explanation> =>
      sendForJson(connection, {
        method: 'POST',
        path: `${API}/policies/explain`,
        effect: 'none',
        json: question,
        ...options,
      }),

    delete: async (name: string, options: CallOptions = {}): Promise<void> => {
      await connection.send({ method: 'DELETE', path: `${API}/policies/${part(name)}`, effect: 'same', ...options });
    },
  };
}
