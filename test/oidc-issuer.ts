/**
 * OpenID providers for tests: a real one (oidc-provider) in which whoever comes is who their cookie says, a hand-made one
 * that answers whatever a test wants, a browser that follows redirects and keeps cookies, and the command line that waits
 * for it.
 */
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { PassThrough } from 'node:stream';
import { text as textOf } from 'node:stream/consumers';
import { exportJWK, type JWTPayload, SignJWT } from 'jose';
import { Provider } from 'oidc-provider';
import { runProgram } from '../src/cli/program.ts';
import { loadClientConfig } from '../src/config-client.ts';

export type Issuer = { readonly issuer: string; readonly close: () => void };

export const CLIENT_SECRET = 'a client secret of: 40% odd signs & more';

async function serve(handler: (request: IncomingMessage, response: ServerResponse) => void, host = '127.0.0.1') {
  const server: Server = createServer(handler).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { server, issuer: `http://${host}:${(server.address() as AddressInfo).port}` };
}

function stop(server: Server): void {
  server.close();
  server.closeAllConnections();
}

/** Under another name of this machine than the vault's, so that its cookies are its own. */
export async function realIssuer(): Promise<Issuer> {
  let answer: (request: IncomingMessage, response: ServerResponse) => void = () => undefined;
  const { server, issuer } = await serve((request, response) => answer(request, response), 'localhost');
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const common = { redirect_uris: ['http://127.0.0.1/oidc/callback'], application_type: 'native' };
  const provider = new Provider(issuer, {
    clients: [
      { ...common, client_id: 'bulla', token_endpoint_auth_method: 'none' },
      { ...common, client_id: 'bulla:odd', client_secret: CLIENT_SECRET },
    ],
    jwks: { keys: [{ ...(await exportJWK(privateKey)), kid: 'one', alg: 'RS256', use: 'sig' }] },
    ttl: { AccessToken: 60, AuthorizationCode: 60, Grant: 60, IdToken: 60, Interaction: 60, Session: 60 },
    cookies: { keys: ['for a test'] },
    claims: { openid: ['sub', 'groups'] },
    conformIdTokenClaims: false,
    pkce: { required: () => true },
    features: { devInteractions: { enabled: false } },
    interactions: { url: (_: unknown, { uid }: { uid: string }) => `/interaction/${uid}` },
    findAccount: (_: unknown, id: string) => ({
      accountId: id,
      claims: () => ({ sub: id, groups: id === 'guest' ? ['guests'] : ['staff', 'vault-users'] }),
    }),
  });
  const callback = provider.callback();
  answer = (request, response) => {
    if (request.url!.startsWith('/interaction/')) void interact(provider, request, response);
    else callback(request, response);
  };
  return { issuer, close: () => stop(server) };
}

/** Whoever comes is signed in as who their browser says, and agrees to everything. */
async function interact(provider: Provider, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { prompt, params, session } = await provider.interactionDetails(request, response);
  const person = /person=([\w-]+)/.exec(request.headers.cookie ?? '')?.[1];
  if (person === undefined) {
    return provider.interactionFinished(request, response, { error: 'access_denied', error_description: 'nobody' });
  }
  if (prompt.name === 'login') {
    return provider.interactionFinished(request, response, { login: { accountId: person } });
  }
  const grant = new provider.Grant({ accountId: session!.accountId, clientId: params.client_id });
  grant.addOIDCScope('openid');
  return provider.interactionFinished(request, response, { consent: { grantId: await grant.save() } });
}

export type MadeIssuer = Issuer & {
  /** What it says of itself beside its places. */
  metadata: Record<string, unknown>;
  /** What the token endpoint answers, and what it was asked with last. */
  answer: (form: URLSearchParams) => Promise<{ status: number; body: unknown }>;
  asked: { form: URLSearchParams; authorization: string | undefined } | undefined;
  readonly sign: (claims: JWTPayload, key?: KeyObject) => Promise<string>;
  readonly stop: () => void;
};

/** Says what a test tells it to say. */
export async function madeIssuer(): Promise<MadeIssuer> {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const key = { ...(await exportJWK(publicKey)), kid: 'made', alg: 'RS256', use: 'sig' };
  const made = {} as { -readonly [K in keyof MadeIssuer]: MadeIssuer[K] };
  const { server, issuer } = await serve(async (request, response) => {
    const say = (status: number, body: unknown) =>
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    if (request.url === '/keys') return say(200, { keys: [key] });
    if (request.url !== '/token') {
      const places = { authorization_endpoint: `${issuer}/auth`, token_endpoint: `${issuer}/token` };
      return say(200, { issuer, jwks_uri: `${issuer}/keys`, ...places, ...made.metadata });
    }
    let text = '';
    for await (const piece of request.setEncoding('utf8')) text += piece;
    made.asked = { form: new URLSearchParams(text), authorization: request.headers.authorization };
    const { status, body } = await made.answer(made.asked.form);
    return say(status, body);
  });
  const sign = (claims: JWTPayload, by: KeyObject = privateKey) =>
    new SignJWT(claims).setProtectedHeader({ alg: 'RS256', kid: 'made' }).sign(by);
  const answer = async () => ({ status: 400, body: { error: 'invalid_grant' } });
  const end = () => stop(server);
  return Object.assign(made, { issuer, metadata: {}, asked: undefined, answer, sign, stop: end, close: end });
}

export type Shown = { readonly url: string; readonly status: number; readonly text: string; readonly headers: Headers };

/** Cookies by host, as browsers have them: whatever the port. */
export class Browser {
  readonly cookies = new Map<string, Map<string, string>>();
  readonly visited: string[] = [];

  constructor(person?: string) {
    if (person !== undefined) this.cookies.set('localhost', new Map([['person', person]]));
  }

  /** Follows redirects until there is a page, or until one would lead to `until`. */
  async open(address: string, form?: Record<string, string>, until?: string): Promise<Shown> {
    let url = address;
    let body = form;
    for (let hops = 0; hops < 15; hops += 1) {
      const answer = await this.#ask(url, body);
      const location = answer.headers.get('location');
      if (location === null) return { url, status: answer.status, text: await answer.text(), headers: answer.headers };
      await answer.arrayBuffer();
      url = new URL(location, url).href;
      body = undefined;
      if (until !== undefined && url.startsWith(until)) {
        return { url, status: answer.status, text: '', headers: answer.headers };
      }
    }
    throw new Error(`redirects without end at ${url}`);
  }

  async #ask(url: string, form: Record<string, string> | undefined): Promise<Response> {
    const { hostname, origin } = new URL(url);
    this.visited.push(url);
    const jar = this.cookies.get(hostname) ?? new Map<string, string>();
    this.cookies.set(hostname, jar);
    const cookie = [...jar].map(([name, value]) => `${name}=${value}`).join('; ');
    const answer = await fetch(url, {
      redirect: 'manual',
      headers: { ...(cookie === '' ? {} : { cookie }), ...(form ? { origin } : {}) },
      ...(form ? { method: 'POST', body: new URLSearchParams(form) } : {}),
    });
    for (const line of answer.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(line)!;
      if (value === '') jar.delete(name!);
      else jar.set(name!, value!);
    }
    return answer;
  }
}

/** The command line as it runs until its login has ended, and what it asks people to open. */
export function loginCommand(args: string, env: Record<string, string>) {
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()];
  const shown = textOf(stdout);
  let said = '';
  const opened = new Promise<{ address: string; code: string }>((resolve) => {
    stderr.on('data', (piece: Buffer) => {
      said += piece.toString();
      const found = /(http:\/\/127\.0\.0\.1:\d+\/begin\/\S+)[\s\S]*this one: ([A-Z-]+)\n/.exec(said);
      if (found) resolve({ address: found[1]!, code: found[2]! });
    });
  });
  const program = { io: { stdin, stdout, stderr }, config: loadClientConfig(env), serve: async () => 0 };
  const ended = runProgram(args.split(' '), program).then(async (code) => {
    stdout.end();
    return { code, stdout: await shown, stderr: said };
  });
  return { opened, ended };
}
