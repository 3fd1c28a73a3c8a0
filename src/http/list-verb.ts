/**
 * The verb LIST, which clients of HashiCorp's API send and Node's parser does not know.
 *
 * Node answers it 400 before any handler runs, and no option adds a verb. So this file stands between the socket and the
 * parser: where a request begins, a chunk that starts with `LIST /… HTTP/1.1` has its verb replaced by one that is as
 * long and that the parser knows (`LOCK`), and the request that comes out has its own name again. Nothing is ever moved
 * or lengthened, so framing, limits and timeouts stay Node's. A body that starts with these bytes is not touched, since
 * the request it belongs to is not complete; a LOCK that somebody sent stays one and gets its 405. A LIST that is
 * pipelined behind another request in one chunk is refused by the parser as before: no client is known to do that.
 *
 * It leans on `socket.parser`, which Node documents nowhere; a test runs it on each Node that is at hand.
 */
import type { IncomingMessage, Server } from 'node:http';
import type { Socket } from 'node:net';

const LIST = 'LIST ';
/** Nearly every request begins with another one, and is looked at no further. */
const FIRST_BYTE = LIST.charCodeAt(0);
const LOCK = Buffer.from('LOCK ');
/** The verb and the target, as far as a chunk holds them. */
const REQUEST_LINE = /^LIST (?:\/[!-~]*)?(?: |$)/;
const LOOKED_AT_BYTES_MAX = 16 * 1024;

type Reader = (chunk: Buffer) => void;
type ParserSocket = Socket & { readonly parser?: { readonly incoming?: { readonly complete: boolean } | null } | null };

type State = {
  /** Bytes of a request have come whose headers have not ended. */
  headersPending: boolean;
  /** The verb of the request whose headers are pending was LIST. */
  list: boolean;
  /** The first bytes of a request that could become `LIST `. */
  held: Buffer | undefined;
};

/** Plain connections arrive as `connection`, those of TLS as `secureConnection`. Call it before requests are handled. */
export function acceptListVerb(server: Server, event: 'connection' | 'secureConnection'): void {
  const states = new WeakMap<Socket, State>();
  server.on(event, (socket: Socket) => {
    const state: State = { headersPending: false, list: false, held: undefined };
    states.set(socket, state);
    const [read] = socket.listeners('data') as Reader[];
    if (!read) return;
    const { parser } = socket as ParserSocket;
    socket.off('data', read);
    socket.on('data', (chunk: Buffer) => {
      // After CONNECT the socket is no HTTP connection any more, and its parser is somebody else's.
      if ((socket as ParserSocket).parser !== parser) return;
      for (const bytes of rewritten(socket, state, chunk)) read.call(socket, bytes);
    });
  });
  const nameAgain = (incoming: IncomingMessage) => {
    const state = states.get(incoming.socket);
    if (!state) return;
    state.headersPending = false;
    if (state.list && incoming.method === 'LOCK') incoming.method = 'LIST';
    state.list = false;
  };
  for (const name of ['request', 'checkContinue', 'checkExpectation']) server.prependListener(name, nameAgain);
}

/** What the parser gets of a chunk: nothing while the first bytes of a request could still become LIST. */
function rewritten(socket: ParserSocket, state: State, chunk: Buffer): Buffer[] {
  if (!beginsRequest(socket, state)) return [chunk];
  const bytes = state.held ? Buffer.concat([state.held, chunk]) : chunk;
  state.held = undefined;
  if (bytes[0] !== FIRST_BYTE) {
    state.headersPending = true;
    return [bytes];
  }
  const start = bytes.toString('latin1', 0, Math.min(bytes.length, LOOKED_AT_BYTES_MAX));
  if (start.length < LIST.length && LIST.startsWith(start)) {
    state.held = bytes;
    return [];
  }
  state.headersPending = true;
  if (!REQUEST_LINE.test(start)) return [bytes];
  state.list = true;
  return [Buffer.concat([LOCK, bytes.subarray(LOCK.length)])];
}

function beginsRequest({ parser }: ParserSocket, { headersPending }: State): boolean {
  return parser != null && !headersPending && (parser.incoming == null || parser.incoming.complete);
}
