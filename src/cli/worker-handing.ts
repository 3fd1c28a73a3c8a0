/**
 * Connections that a worker was given and has not taken: closed when it dies, and when all end.
 *
 * node:cluster accepts a connection in the first process, sends it to a worker, and keeps it open until the worker says
 * whether it took it. Of a worker that is killed before it says so, Node 20 keeps it for ever: its client would be neither
 * served nor cut off. Nor is one closed that the last worker to stop refuses. The answer is matched by the number that
 * Node gives to what it sends, its `seq`. A dead worker's is not given to another one: a part of it may have been read.
 *
 * Workers that accept by themselves (SCHED_NONE) would not need this, but one of two then gets from 3 to 63 of 64
 * connections, and each has only its share of what the server may hold.
 */
import type { Worker } from 'node:cluster';

type Handle = { readonly close: () => void };
type Sent = { readonly act?: string; readonly seq: number };
type Answered = { readonly ack?: number; readonly accepted?: boolean };
type Send = (message: Sent, handle?: Handle, ...rest: unknown[]) => boolean;

/** Before anything is sent to it. `ending`: all of them are told to stop. */
export function closeUntaken({ process: child }: Worker, ending: AbortSignal): void {
  const given = new Map<number, Handle>();
  const send = child.send.bind(child) as Send;
  const watched: Send = (message, handle, ...rest) => {
    if (message.act === 'newconn' && handle) given.set(message.seq, handle);
    return send(message, handle, ...rest);
  };
  Object.assign(child, { send: watched });
  child.on('internalMessage', ({ ack, accepted }: Answered) => {
    if (ack === undefined) return;
    // Node has closed it here when it was taken, and else looks for another worker.
    if (!accepted && ending.aborted) given.get(ack)?.close();
    given.delete(ack);
  });
  // Until both have been it may be given another one; of one that had not taken its last, Node says `exit` only.
  for (const end of ['exit', 'disconnect']) {
    child.once(end, () => {
      for (const handle of given.values()) handle.close();
    });
  }
}
