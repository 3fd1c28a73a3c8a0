/** The audit log as a stream, and the tree that proves it. Memory does not grow with the log. */
import { API } from './answer.ts';
import type { CallOptions, Connection } from './connection.ts';

/** Which entries; none given is the whole log. Times are RFC 3339, `resource` is a glob. */
export type AuditFilter = {
  readonly from?: string;
  readonly to?: string;
  readonly from_index?: number;
  readonly to_index?: number;
  readonly actor?: string;
  readonly action?: string;
  readonly resource?: string;
  readonly outcome?: 'ok' | 'denied' | 'error';
  readonly request?: string;
  readonly limit?: number;
};

export type Audit = ReturnType<typeof createAudit>;

export function createAudit(connection: Connection) {
  return {
    /**
     * Entries in order, as bytes. In NDJSON each line is exactly the canonical line whose hash is the leaf of the tree.
     * Throws when the stream is cut short, so what has been read without an error is whole.
     */
    entries: (
      filter: AuditFilter = {},
      options: CallOptions & { readonly format?: 'ndjson' | 'csv' } = {},
    ): Promise<AsyncGenerator<Buffer, void, undefined>> => {
      const { format, ...rest } = options;
      return connection.stream({
        method: 'GET',
        path: `${API}/audit/entries`,
        effect: 'none',
        query: { ...filter, format: format ?? 'ndjson' },
        ...rest,
      });
    },

    /** The tree over the first `size` entries: size, root and leaf hashes, as the text that `verifyExport` takes. */
    tree: (
      options: CallOptions & { readonly size?: number } = {},
    ): Promise<AsyncGenerator<Buffer, void, undefined>> => {
      const { size, ...rest } = options;
      return connection.stream({ method: 'GET', path: `${API}/audit/tree`, effect: 'none', query: { size }, ...rest });
    },
  };
}
