/**
 * A lane: one postgres.js instance that makes exactly one connection in its life. When that is lost, or hangs past a
 * deadline, the lane is dropped whole and the next taker opens another; so a statement of a transaction can never
 * continue on a different connection than the one that said BEGIN. (postgres.js would reconnect and let a queued COMMIT
 * succeed on an empty transaction; its `begin` can also skip reserving under back-pressure.)
 */
import { connect as connectSocket, type Socket } from 'node:net';
import postgres from 'postgres';
import { parseLink } from './link.ts';
import { SESSION, TYPES } from './session.ts';

export type Endpoint = { host: string; port: number; database: string; username: string; password: string };

export type DatabaseOptions = {
  readonly target: string | Endpoint;
  /** The one URL given belongs to the owner: take the serving role after connecting. */
  readonly setRole: boolean;
  readonly connections: number;
  readonly deadlineMs: number;
  /** Added to PostgreSQL's clock. Zero outside the tests. */
  readonly clockOffsetSeconds: number;
};

export type Lane = {
  /** What bulla.tenants is set to between transactions. */
  tenants: string;
  sql: postgres.Sql<{ bigint: number }>;
  socket: Socket | undefined;
  dead: boolean;
  /** Statements that were sent and are awaited together with COMMIT. */
  last: PromiseLike<unknown>[];
  /** The tenant whose transaction has it, or had it last. */
  holder: string;
  /** How many have it now: one, and those who run statements behind what is under way on it. */
  users: number;
  /** How often it was taken: what was to go behind one use must not land in the next. */
  use: number;
  /** A statement has failed on it and may have left others under way: those who have it may end, then it is dropped. */
  failed: boolean;
};

/** Connects with the first statement. `onClose` hears when the connection is gone. */
export function openLane(options: DatabaseOptions, onClose: (lane: Lane) => void = () => undefined): Lane {
  const { target, setRole, deadlineMs, clockOffsetSeconds } = options;
  const lane: Lane = {
    sql: undefined as never,
    socket: undefined,
    dead: false,
    last: [],
    tenants: '',
    holder: '',
    users: 0,
    use: 0,
    failed: false,
  };
  const base = laneOptions(lane, deadlineMs, onClose);
  const connection = {
    ...SESSION,
    application_name: 'bulla',
    statement_timeout: deadlineMs,
    lock_timeout: Math.ceil(deadlineMs * 0.75),
    idle_in_transaction_session_timeout: deadlineMs * 2,
    'bulla.clock_offset_seconds': String(clockOffsetSeconds),
    ...(setRole ? { role: 'bulla_app' } : {}),
  };
  const all = { ...base, connection } as unknown as postgres.Options<{ bigint: postgres.PostgresType<number> }>;
  lane.sql = (typeof target === 'string' ? connectTo(target, all) : postgres({ ...all, ...target })) as Lane['sql'];
  return lane;
}

/** Ends a lane's connection at once, hung or not. What is in flight on it fails. */
export function drop(lane: Lane): void {
  lane.dead = true;
  lane.socket?.destroy();
  lane.sql.end({ timeout: 0 }).catch(() => undefined);
}

function connectTo(target: string, options: postgres.Options<{ bigint: postgres.PostgresType<number> }>) {
  const { url, tls } = parseLink(target);
  return postgres(url, { ...options, ...tls });
}

function laneOptions(lane: Lane, deadlineMs: number, onClose: (lane: Lane) => void) {
  return {
    max: 1,
    idle_timeout: 0,
    max_lifetime: null,
    connect_timeout: Math.max(1, Math.ceil(deadlineMs / 2000)),
    // A wait for a synchronous standby that is ended, by a timeout too, is told as a commit, with a warning.
    onnotice: ({ routine }: postgres.Notice) => {
      if (routine === 'SyncRepWaitForLSN') drop(lane);
    },
    onclose: () => {
      lane.dead = true;
      onClose(lane);
    },
    types: TYPES,
    fetch_types: false,
    /** Called once per connection attempt: the second attempt of a lane is refused. */
    socket: ({ host, port, path }: { host: string[]; port: number[]; path?: string | false }) => {
      if (lane.socket) throw new Error('this lane has had its connection');
      const socket = path ? connectSocket(path) : connectSocket(port[0] ?? 5432, host[0] ?? 'localhost');
      // postgres.js verifies a TLS certificate against this name.
      Object.assign(socket, { host: host[0], port: port[0] });
      socket.setNoDelay(true);
      lane.socket = socket;
      return socket;
    },
  };
}
