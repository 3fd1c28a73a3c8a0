/**
 * The answers that have not been sent yet, by connection.
 *
 * A Set of answers would be the obvious form, and it costs the collector dear: when a hash table of V8's has had many
 * deletions, a new one takes its place and the old one keeps what stood in it. One that was promoted keeps those answers,
 * with all that hangs on them, until the next full collection: a fifth of what the requests allocated survived them.
 * Here the table changes only with connections, and an answer leaves its array without a trace.
 */
import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

export type Running = {
  /** Until it has been sent or its connection is gone. */
  readonly add: (outgoing: ServerResponse) => void;
  /** Those of one connection, in the order of their requests. */
  readonly on: (socket: Socket) => readonly ServerResponse[];
  readonly all: () => readonly ServerResponse[];
};

export function createRunning(): Running {
  const bySocket = new Map<Socket, ServerResponse[]>();
  const open = (socket: Socket): ServerResponse[] => {
    const answers: ServerResponse[] = [];
    bySocket.set(socket, answers);
    socket.once('close', () => bySocket.delete(socket));
    return answers;
  };
  return {
    add: (outgoing) => {
      const { socket } = outgoing.req;
      const answers = bySocket.get(socket) ?? open(socket);
      answers.push(outgoing);
      outgoing.on('close', () => answers.splice(answers.indexOf(outgoing), 1));
    },
    on: (socket) => bySocket.get(socket) ?? [],
    all: () => [...bySocket.values()].flat(),
  };
}
