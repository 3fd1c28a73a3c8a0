/** The two-person rule: asking others to approve an act, and answering them. */
import { API, listAll, part, sendForJson } from './answer.ts';
import type { CallOptions, Connection } from './connection.ts';
import type { Approval, RequestApprovalBody } from './types.ts';

export type Approvals = ReturnType<typeof createApprovals>;

export function createApprovals(connection: Connection) {
  const path = (id: string) => `${API}/approvals/${part(id)}`;
  const answer = (id: string, verb: 'approve' | 'deny', options: CallOptions): Promise<Approval> =>
    sendForJson(connection, { method: 'POST', path: `${path(id)}/${verb}`, effect: 'same', ...options });
  return {
    /** The latest first. */
    list: (options: CallOptions & { readonly open?: boolean } = {}): AsyncGenerator<Approval, void, undefined> => {
      const { open, ...rest } = options;
      return listAll(connection, `${API}/approvals`, { open }, rest);
    },

    request: (wanted: RequestApprovalBody, options: CallOptions = {}): Promise<Approval> =>
      sendForJson(connection, { method: 'POST', path: `${API}/approvals`, effect: 'more', json: wanted, ...options }),

    get: (id: string, options: CallOptions = {}): Promise<Approval> =>
      sendForJson(connection, { method: 'GET', path: path(id), effect: 'none', ...options }),

    approve: (id: string, options: CallOptions = {}): Promise<Approval> => answer(id, 'approve', options),

    /** Ends it. */
    deny: (id: string, options: CallOptions = {}): Promise<Approval> => answer(id, 'deny', options),

    /** Of one's own. */
    cancel: async (id: string, options: CallOptions = {}): Promise<void> => {
      await connection.send({ method: 'DELETE', path: path(id), effect: 'same', ...options });
    },
  };
}
