/**
 * `bulla login --oidc ROLE`: the answer of an OpenID provider comes to a listener on the loopback interface of this
 * machine (RFC 8252), for as long as one login takes.
 *
 * One browser does all of it (T-059). It opens the address that stands in the terminal, which nobody else knows, and gets
 * a cookie; only with that cookie does the issuer's answer count; and before it is sent to the vault, whoever sits there
 * compares a code with the terminal and says that it was they who began. Somebody who was sent a link, of ours or of the
 * issuer's, lacks one of the three. The pages run no script, are in no frame, and hold nothing of the answer.
 */
import { createHash, randomBytes, randomInt, timingSafeEqual } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { ProvenLogin } from '../client/index.ts';
import { BullaError } from '../client/index.ts';
import { VaultError } from '../errors.ts';
import type { Cli } from './cli.ts';
import { clean } from './print.ts';

export const REDIRECT_URI_DEFAULT = 'http://127.0.0.1/oidc/callback';

/** What goes on between the browser and the vault. */
type Attempt = {
  readonly about: string;
  readonly origin: string;
  readonly callbackPath: string;
  readonly authorizationUrl: string;
  readonly state: string;
  readonly startPath: string;
  readonly code: string;
  readonly cookie: string;
  /** Of the browser that came first. */
  readonly browser: string;
  /** Of the page with the question. */
  readonly question: string;
  isOpened: boolean;
  answer: { readonly code: string; readonly iss: string | undefined } | undefined;
  readonly conclude: (answer: { readonly code: string; readonly iss: string | undefined }) => Promise<ProvenLogin>;
  readonly done: (result: ProvenLogin | VaultError | BullaError) => void;
};

type Page = { readonly status: number; readonly title: string; readonly body: string; readonly headers?: object };

/** Throws `login_failed` when it is refused, called off or not done in time. */
export async function loginByBrowser(
  cli: Cli,
  where: { readonly tenant: string; readonly role: string },
  redirectUri: string,
): Promise<ProvenLogin> {
  const wanted = parseRedirect(redirectUri);
  const client = cli.client();
  let attempt: Attempt | undefined;
  const server = createServer({ maxHeaderSize: 16 * 1024, requestTimeout: 10_000 }, (request, response) => {
    if (attempt) void handle(attempt, request, response);
    else response.destroy();
  });
  server.listen(Number(wanted.port) || 0, wanted.hostname.replace(/^\[|\]$/g, ''));
  try {
    await once(server, 'listening').catch((error: NodeJS.ErrnoException) => {
      throw failed(`This machine does not listen on ${wanted.host} (${error.code}): take another --redirect-uri.`);
    });
    const origin = `http://${wanted.hostname}:${(server.address() as AddressInfo).port}`;
    const redirect = origin + wanted.pathname;
    const begun = await client.auth.beginOidc({ ...where, redirect_uri: redirect });
    const leftMs = Math.min(Math.max(Date.parse(begun.expires_at) - Date.now(), 1_000), LOGIN_MS_MAX);
    return await new Promise<ProvenLogin>((resolve, reject) => {
      const timer = setTimeout(() => reject(failed('Nobody has logged in in time; begin again.')), leftMs);
      attempt = attemptOf(cli, where, origin, wanted.pathname, begun, {
        conclude: ({ code, iss }) =>
          client.auth.oidc({
            ...{ tenant: where.tenant, login: begun.login, state: stateOf(begun.authorization_url), code },
            ...(iss === undefined ? {} : { iss }),
          }),
        done: (result) => {
          clearTimeout(timer);
          if (result instanceof Error) reject(result);
          else resolve(result);
        },
      });
      cli.io.stderr.write(invitation(attempt));
    });
  } finally {
    await close(server);
  }
}

const LAST_PAGE_MS = 500;

/** The last page is still on its way. */
async function close(server: Server): Promise<void> {
  if (!server.listening) return;
  const closed = once(server, 'close');
  server.close();
  server.closeIdleConnections();
  const timer = setTimeout(() => server.closeAllConnections(), LAST_PAGE_MS);
  await closed;
  clearTimeout(timer);
}

const LOGIN_MS_MAX = 15 * 60_000;

function attemptOf(
  cli: Cli,
  { tenant, role }: { readonly tenant: string; readonly role: string },
  origin: string,
  callbackPath: string,
  begun: { readonly authorization_url: string },
  ends: Pick<Attempt, 'conclude' | 'done'>,
): Attempt {
  const secret = () => randomBytes(32).toString('base64url');
  return {
    about: `Log in to ${tenant} of ${cli.address()} by the role ${role}?`,
    ...{ origin, callbackPath, authorizationUrl: webAddress(begun.authorization_url), ...ends },
    state: stateOf(begun.authorization_url),
    startPath: `/begin/${secret()}`,
    code: confirmationCode(),
    cookie: `bulla-login-${randomBytes(6).toString('hex')}`,
    ...{ browser: secret(), question: secret(), isOpened: false, answer: undefined },
  };
}

const invitation = ({ origin, startPath, code }: Attempt) =>
  `Open this address in a browser on this machine, and log in there:\n\n  ${origin}${startPath}\n\nThen it shows a code. Go on only if it is this one: ${code}\n`;

/** Letters that make no words and are not mistaken for one another. */
function confirmationCode(): string {
  const letters = Array.from({ length: 8 }, () => 'BCDFGHJKLMNPQRSTVWXZ'[randomInt(20)]);
  return `${letters.slice(0, 4).join('')}-${letters.slice(4).join('')}`;
}

function parseRedirect(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const isOurs =
    url?.protocol === 'http:' &&
    /^(127\.0\.0\.1|\[::1\])$/.test(url.hostname) &&
    !/^\/(confirm|begin.*)?$/.test(url.pathname);
  if (url && isOurs && !url.search && !url.hash) return url;
  throw new VaultError('invalid_request', `--redirect-uri: expected one such as ${REDIRECT_URI_DEFAULT}.`);
}

/** A browser is sent there, so it is an address of the web. */
function webAddress(text: string): string {
  if (URL.canParse(text) && /^https?:$/.test(new URL(text).protocol)) return text;
  throw new VaultError('invalid_request', 'The server names no web address to log in at.');
}

const stateOf = (authorizationUrl: string) => new URL(webAddress(authorizationUrl)).searchParams.get('state') ?? '';
const failed = (text: string) => new VaultError('login_failed', text);

// ---- what the browser asks ----------------------------------------------------------------------------------------

async function handle(attempt: Attempt, request: IncomingMessage, response: ServerResponse): Promise<void> {
  try {
    send(response, await answerTo(attempt, request));
  } catch {
    // The browser broke off.
    response.destroy();
  }
}

async function answerTo(attempt: Attempt, request: IncomingMessage): Promise<Page> {
  const { method, headers } = request;
  // Another name that leads here is a page that plays with names (DNS rebinding).
  if (`http://${headers.host}` !== attempt.origin) return refusal(400, 'This is not the address of a login.');
  const url = new URL(request.url!, attempt.origin);
  if (method === 'GET' && isSame(url.pathname, attempt.startPath)) return start(attempt, request);
  if (method === 'GET' && url.pathname === attempt.callbackPath) return callback(attempt, request, url.searchParams);
  if (method === 'GET' && url.pathname === '/confirm') return question(attempt, request);
  if (method === 'POST' && url.pathname === '/confirm') return confirmed(attempt, request);
  return refusal(404, 'There is nothing here.');
}

function start(attempt: Attempt, request: IncomingMessage): Page {
  if (attempt.isOpened && !isOwn(attempt, request)) return otherBrowser();
  attempt.isOpened = true;
  // Lax: it has to come along when the issuer sends the browser back.
  const cookie = `${attempt.cookie}=${attempt.browser}; Path=/; HttpOnly; SameSite=Lax`;
  return redirect(302, attempt.authorizationUrl, { 'set-cookie': cookie });
}

function callback(attempt: Attempt, request: IncomingMessage, said: URLSearchParams): Page {
  if (!isOwn(attempt, request)) return otherBrowser();
  if (!isSame(said.get('state') ?? '', attempt.state)) {
    return refusal(400, 'This answer belongs to another login. Begin again in the terminal.');
  }
  const error = said.get('error');
  const code = said.get('code');
  if (error !== null || !code) {
    const reason = clean(error ?? 'it gave no code').slice(0, 100);
    attempt.done(failed(`The issuer did not log you in: ${reason}.`));
    return refusal(403, `The issuer did not log you in: ${reason}.`);
  }
  attempt.answer ??= { code, iss: said.get('iss') ?? undefined };
  // Away from the address that holds the code.
  return redirect(303, `${attempt.origin}/confirm`);
}

function question(attempt: Attempt, request: IncomingMessage): Page {
  if (!isOwn(attempt, request)) return otherBrowser();
  if (!attempt.answer) return refusal(409, 'There is nothing to confirm. Begin again in the terminal.');
  return {
    status: 200,
    title: 'Was it you who began this login?',
    body: `<p>${escaped(attempt.about)}</p><p>Go on only if your own terminal shows this code:</p>
<p class="code">${escaped(attempt.code)}</p>
<form method="post" action="/confirm"><input type="hidden" name="question" value="${attempt.question}">
<button name="go" value="yes">It is the same: log in</button> <button name="go" value="no">Call it off</button></form>
<p>If somebody sent you here, call it off: they would be logged in as you.</p>`,
    headers: { 'set-cookie': `${attempt.cookie}-s=${attempt.question}; Path=/confirm; HttpOnly; SameSite=Strict` },
  };
}

async function confirmed(attempt: Attempt, request: IncomingMessage): Promise<Page> {
  const form = new URLSearchParams(await readForm(request));
  const asked = isSame(form.get('question') ?? '', attempt.question) && isOwn(attempt, request);
  const same = isSame(cookieOf(request, `${attempt.cookie}-s`), attempt.question);
  if (!asked || !same || request.headers.origin !== attempt.origin) return otherBrowser();
  const { answer } = attempt;
  attempt.answer = undefined;
  if (!answer) return refusal(409, 'This was answered already; see the terminal.');
  if (form.get('go') !== 'yes') {
    attempt.done(failed('The login was called off in the browser.'));
    return { status: 200, title: 'Called off', body: '<p>Nobody was logged in.</p>' };
  }
  try {
    const login = await attempt.conclude(answer);
    attempt.done(login);
    return { status: 200, title: 'Logged in', body: '<p>You may close this page and go back to the terminal.</p>' };
  } catch (error) {
    const known = error instanceof VaultError || error instanceof BullaError;
    attempt.done(known ? error : failed('The vault could not be asked.'));
    return refusal(403, 'The vault did not log you in; the terminal says more.');
  }
}

const FORM_BYTES_MAX = 1024;

async function readForm(request: IncomingMessage): Promise<string> {
  let text = '';
  for await (const piece of request.setEncoding('latin1') as AsyncIterable<string>) {
    text += piece;
    if (text.length > FORM_BYTES_MAX) return '';
  }
  return text;
}

const isOwn = (attempt: Attempt, request: IncomingMessage) =>
  attempt.isOpened && isSame(cookieOf(request, attempt.cookie), attempt.browser);

/** Empty where there is none, or more than one: nobody knows whose the other is. */
function cookieOf({ headers }: IncomingMessage, name: string): string {
  const found = (headers.cookie ?? '').split(/; ?/).filter((pair) => pair.startsWith(`${name}=`));
  return found.length === 1 ? found[0]!.slice(name.length + 1) : '';
}

function isSame(given: string, expected: string): boolean {
  const [a, b] = [Buffer.from(given), Buffer.from(expected)];
  return a.length === b.length && timingSafeEqual(a, b);
}

// ---- pages --------------------------------------------------------------------------------------------------------

const otherBrowser = () =>
  refusal(
    403,
    'This is not the browser that began the login. Open the address in your terminal, or begin again there.',
  );

const refusal = (status: number, text: string): Page => ({
  ...{ status, title: 'Not logged in', body: `<p>${escaped(text)}</p>` },
});

const redirect = (status: number, location: string, headers: object = {}): Page => ({
  ...{ status, title: 'Go on', body: '', headers: { location, ...headers } },
});

const STYLE =
  'body{font:16px/1.5 sans-serif;max-width:34em;margin:4em auto;padding:0 1em}.code{font:bold 2em monospace}button{font:inherit;padding:.4em 1em}';
const POLICY = `default-src 'none'; style-src 'sha256-${createHash('sha256').update(STYLE).digest('base64')}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'`;

function send(response: ServerResponse, { status, title, body, headers = {} }: Page): void {
  response.writeHead(status, {
    ...{ 'content-type': 'text/html; charset=utf-8', 'cache-control': 'no-store', connection: 'close' },
    ...{ 'content-security-policy': POLICY, 'x-frame-options': 'DENY', 'x-content-type-options': 'nosniff' },
    // With no-referrer browsers would say of our own form that it comes from nowhere (Fetch §3.2: Origin: null).
    ...{ 'referrer-policy': 'same-origin', 'cross-origin-opener-policy': 'same-origin', ...headers },
  });
  response.end(
    `<!doctype html><html lang="en"><meta charset="utf-8"><title>${title}</title><style>${STYLE}</style><h1>${title}</h1>${body}</html>\n`,
  );
}

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);
}
