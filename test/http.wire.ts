/** A client that sends bytes as they are and reads every answer that comes back on the connection. */
import { connect, type Socket } from 'node:net';

export type WireAnswer = { status: number; headers: Map<string, string>; body: string; json: Record<string, unknown> };

export type Wire = { readonly answers: WireAnswer[]; readonly raw: string };

const DEADLINE_MS = 15_000;

export function open(address: string): Promise<Socket> {
  const { hostname, port } = new URL(address);
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), hostname, () => resolve(socket));
    socket.once('error', reject);
  });
}

/** Sends and reads until the server closes; a server that does not is a failure. */
export async function talk(address: string, ...parts: (string | Uint8Array)[]): Promise<Wire> {
  const socket = await open(address);
  const closed = untilClosed(socket);
  for (const part of parts) socket.write(typeof part === 'string' ? Buffer.from(part, 'latin1') : part);
  return closed;
}

/** Everything that comes until the other side closes. */
export function untilClosed(socket: Socket): Promise<Wire> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    const timer = setTimeout(() => {
      socket.destroy();
      reject(
        new Error(
          `the server kept the connection open; it said: ${Buffer.concat(chunks).toString('latin1').slice(0, 300)}`,
        ),
      );
    }, DEADLINE_MS);
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    socket.on('error', () => undefined);
    socket.on('close', () => {
      clearTimeout(timer);
      const raw = Buffer.concat(chunks).toString('latin1');
      resolve({ raw, answers: parseAnswers(raw) });
    });
  });
}

/** One HTTP/1.1 answer after another. */
export function parseAnswers(raw: string): WireAnswer[] {
  const answers: WireAnswer[] = [];
  let rest = raw;
  while (rest !== '') {
    const end = rest.indexOf('\r\n\r\n');
    if (end === -1) break;
    const [first = '', ...lines] = rest.slice(0, end).split('\r\n');
    const headers = new Map(
      lines.map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 1).trim()]),
    );
    const status = Number(first.split(' ')[1]);
    const { body, after } = bodyOf(rest.slice(end + 4), headers, status);
    const json = /json/.test(headers.get('content-type') ?? '') && body !== '' ? JSON.parse(body) : {};
    if (status >= 200) answers.push({ status, headers, body, json });
    rest = after;
  }
  return answers;
}

function bodyOf(text: string, headers: Map<string, string>, status: number): { body: string; after: string } {
  if (status === 204 || status === 304 || status < 200) return { body: '', after: text };
  if (headers.get('transfer-encoding') === 'chunked') {
    let body = '';
    let at = 0;
    for (;;) {
      const lineEnd = text.indexOf('\r\n', at);
      if (lineEnd === -1) return { body, after: '' };
      const size = Number.parseInt(text.slice(at, lineEnd), 16);
      if (size === 0) return { body, after: text.slice(lineEnd + 4) };
      body += text.slice(lineEnd + 2, lineEnd + 2 + size);
      at = lineEnd + 2 + size + 2;
    }
  }
  const length = Number(headers.get('content-length') ?? text.length);
  return { body: text.slice(0, length), after: text.slice(length) };
}
