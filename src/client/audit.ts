/** The audit log as a stream, and the tree that proves it. Memory does not grow with the log. */
import { API, listAll, sendForJson } from './answer.ts';
import type { Call, CallOptions, Connection } from './connection.ts';
import { resumed } from './entries.ts';
import type { Able, ConsistencyProof, Did, InclusionProof, LogKey, Retention, Unread } from './types.ts';

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
  /** For operators: the id of a tenant that was deleted, whose log to read instead of one's own. */
  readonly log?: string | undefined;
};

export type Audit = ReturnType<typeof createAudit>;

export type EntriesOptions = {
  readonly format?: 'ndjson' | 'csv' | 'ocsf';
  /** With the hashes that prove each entry, for `verifyLog`. */
  readonly proof?: boolean;
  /** With proof: the size of an older checkpoint to connect to. */
  readonly extending?: number;
};

/** A large log takes a while to look through. The server ends what is silent for a minute. */
const SEARCH_MS = 60_000;

/** Waits for the first piece, so that a refusal is an error of the call. */
async function startOf<T>(pieces: AsyncGenerator<T, void, undefined>): Promise<AsyncGenerator<T, void, undefined>> {
  const first = await pieces.next();
  return (async function* () {
    if (!first.done) yield first.value;
    yield* pieces;
  })();
}

export function createAudit(connection: Connection) {
  const text = async (call: Call) => (await connection.send(call)).body.toString('utf8');
  return {
    /**
     * Entries in order, as bytes. In NDJSON each line is exactly the canonical line whose hash is the leaf of the tree.
     * Cut short, it goes on after the last line; with proof, or where nothing more comes, it throws. So what has been
     * read without an error is whole.
     */
    entries: (
      filter: AuditFilter = {},
      options: CallOptions & EntriesOptions = {},
    ): Promise<AsyncGenerator<Buffer, void, undefined>> => {
      const { format = 'ndjson', proof, extending, ...rest } = options;
      const open = (changed: AuditFilter = {}) =>
        connection.stream({
          ...{ method: 'GET', path: `${API}/audit/entries`, effect: 'none', timeoutMs: SEARCH_MS },
          query: { ...filter, ...changed, format, proof, extending },
          ...rest,
        });
      return proof ? open() : startOf(resumed(open, filter, format === 'csv' ? 1 : 0));
    },

    /** The tree over the first `size` entries: size, root and leaf hashes, as the text that `verifyExport` takes. */
    tree: (
      options: CallOptions & { readonly size?: number; readonly log?: string | undefined } = {},
    ): Promise<AsyncGenerator<Buffer, void, undefined>> => {
      const { size, log, ...rest } = options;
      const query = { size, log };
      return connection.stream({ method: 'GET', path: `${API}/audit/tree`, effect: 'none', query, ...rest });
    },

    /** Entries as they are written, as server-sent events, until the signal ends it or the token ends. */
    tail: (
      options: CallOptions & { readonly fromIndex?: number } = {},
    ): Promise<AsyncGenerator<Buffer, void, undefined>> => {
      const { fromIndex, ...rest } = options;
      const query = { from_index: fromIndex };
      return connection.stream({ method: 'GET', path: `${API}/audit/tail`, effect: 'none', query, ...rest });
    },

    /** The newest signed checkpoint, or the one of a size: a signed note. */
    checkpoint: (
      options: CallOptions & { readonly size?: number; readonly log?: string | undefined } = {},
    ): Promise<string> => {
      const { size, log, ...rest } = options;
      return text({ method: 'GET', path: `${API}/audit/checkpoint`, effect: 'none', query: { size, log }, ...rest });
    },

    /** Has the log signed as it is now. */
    sign: (options: CallOptions = {}): Promise<string> =>
      text({ method: 'POST', path: `${API}/audit/checkpoint`, effect: 'same', json: {}, ...options }),

    /** The verifier key of the log; with `all`, older ones on the lines after it. */
    key: (
      options: CallOptions & { readonly all?: boolean; readonly log?: string | undefined } = {},
    ): Promise<string> => {
      const { all, log, ...rest } = options;
      return text({ method: 'GET', path: `${API}/audit/key`, effect: 'none', query: { all, log }, ...rest });
    },

    /** How long lines are kept, and before which number they are gone. */
    retention: (options: CallOptions = {}): Promise<Retention> =>
      sendForJson(connection, { method: 'GET', path: `${API}/audit/retention`, effect: 'none', ...options }),

    /** Keeps lines for so many days; null: for ever. Hashes stay in any case. */
    retain: (days: number | null, options: CallOptions = {}): Promise<Retention> =>
      sendForJson(connection, {
        ...{ method: 'PUT', path: `${API}/audit/retention`, effect: 'same', json: { days } },
        ...options,
      }),

    /** A new key signs checkpoints, beside the old one for a while (operators). */
    rotateKey: (options: CallOptions = {}): Promise<LogKey> =>
      sendForJson(connection, {
        ...{ method: 'POST', path: `${API}/audit/key/rotate`, effect: 'more', json: {} },
        ...options,
      }),

    /** Who could do something (`secret.read` unless said) to a resource, by the policies as they are now. */
    whoCan: (
      resource: string,
      options: CallOptions & { readonly action?: string } = {},
    ): AsyncGenerator<Able, void, undefined> => {
      const { action, ...rest } = options;
      return listAll<Able>(connection, `${API}/audit/who-can`, { resource, action }, rest);
    },

    /** Who did something to what a glob covers, the latest first. */
    whoDid: async (
      resource: string,
      options: CallOptions & { readonly action?: string; readonly from?: string; readonly to?: string } = {},
    ): Promise<Did[]> => {
      const { action, from, to, ...rest } = options;
      const query = { resource, action, from, to };
      const path = `${API}/audit/who-did`;
      const call: Call = { method: 'GET', path, effect: 'none', query, timeoutMs: SEARCH_MS, ...rest };
      return (await sendForJson<{ items: Did[] }>(connection, call)).items;
    },

    /** Secrets that nobody has read for so many days. */
    unread: async (days: number, options: CallOptions = {}): Promise<Unread[]> => {
      const path = `${API}/audit/unread`;
      const call: Call = { method: 'GET', path, effect: 'none', query: { days }, timeoutMs: SEARCH_MS, ...options };
      return (await sendForJson<{ items: Unread[] }>(connection, call)).items;
    },

    /** That an entry is in the log of a size (the newest checkpoint's when absent). */
    proveInclusion: (
      index: number,
      options: CallOptions & { readonly size?: number } = {},
    ): Promise<InclusionProof> => {
      const { size, ...rest } = options;
      const query = { index, size };
      return sendForJson(connection, {
        ...{ method: 'GET', path: `${API}/audit/proof/inclusion`, effect: 'none', query },
        ...rest,
      });
    },

    /** That the log at one size is the beginning of the log at another. */
    proveConsistency: (
      from: number,
      options: CallOptions & { readonly to?: number } = {},
    ): Promise<ConsistencyProof> => {
      const { to, ...rest } = options;
      const query = { from, to };
      return sendForJson(connection, {
        ...{ method: 'GET', path: `${API}/audit/proof/consistency`, effect: 'none', query },
        ...rest,
      });
    },
  };
}
