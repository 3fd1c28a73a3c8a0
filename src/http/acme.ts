/**
 * `--tls acme`: a certificate from an authority that speaks ACME (RFC 8555), obtained at the first start and renewed when
 * two thirds of its time are over.
 *
 * The authority asks at port 80 of each name whether we are who we say (http-01). That is answered by a server of its
 * own, which is there while an order runs and knows nothing but the answers to its challenges. What goes wrong leaves
 * the present certificate in place and is tried again with the next look.
 */
import type { KeyObject } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { Agent } from 'node:https';
import { join } from 'node:path';
import type { TlsConfig } from '../config-listener.ts';
import { VaultError } from '../errors.ts';
import { writePrivateFile } from '../private-file.ts';
import { isDue } from './own-authority.ts';
import { backupPin, keyIn, ownFiles, serverKey } from './own-key.ts';
import type { CertificateSource } from './tls.ts';

type AcmeSource = Extract<TlsConfig['source'], { kind: 'acme' }>;

export function acmeAuthority(dataDir: string, source: AcmeSource, names: readonly string[]): CertificateSource {
  const files = ownFiles(dataDir);
  return {
    files: [files],
    backupPin: () => backupPin(files),
    renew: async () => {
      const key = serverKey(files);
      if (!isDue(files.certFile, key, names, Date.now())) return;
      const chain = await order(source, names, keyIn(join(files.directory, 'acme-account.key')), key);
      writePrivateFile(files.certFile, Buffer.from(chain));
    },
  };
}

const REQUEST_TIMEOUT_MS = 30_000;
/** How an order is asked after. */
const BACKOFF = { backoffAttempts: 20, backoffMin: 1_000, backoffMax: 15_000 };

/** Of a request that failed. The next look is the better one to try again with. */
const REPEATS = { retryMaxAttempts: 1, retryDefaultDelay: 2 };
const ORDER_DEADLINE_MS = 5 * 60 * 1000;

const pemOf = (key: KeyObject) => key.export({ type: 'pkcs8', format: 'pem' }).toString();

async function order(
  { directory, email, caFile, listen }: AcmeSource,
  names: readonly string[],
  accountKey: KeyObject,
  key: KeyObject,
): Promise<string> {
  // Loaded here: few vaults need it, and it brings an HTTP client of its own.
  const { default: acme } = await import('acme-client');
  Object.assign(acme.axios.defaults, { timeout: REQUEST_TIMEOUT_MS, acmeSettings: REPEATS });
  if (caFile !== undefined) acme.axios.defaults.httpsAgent = new Agent({ ca: readFileSync(caFile) });
  const answers = new Map<string, string>();
  const server = await answerChallenges(answers, listen);
  try {
    const client = new acme.Client({ directoryUrl: directory, accountKey: pemOf(accountKey), ...BACKOFF });
    const [, csr] = await acme.crypto.createCsr({ altNames: [...names] }, pemOf(key));
    return await inTime(
      client.auto({
        ...{ csr, termsOfServiceAgreed: true, challengePriority: ['http-01'] },
        ...(email === undefined ? {} : { email }),
        // Whether the name leads here is the authority's to find out.
        skipChallengeVerification: true,
        challengeCreateFn: async (_, { token }, answer) => void answers.set(token, answer),
        challengeRemoveFn: async (_, { token }) => void answers.delete(token),
      }),
    );
  } catch (cause) {
    // The client meets the answer that is not there with an error of its own.
    const reason = cause instanceof Error && !(cause instanceof TypeError) ? cause.message.slice(0, 300) : 'no answer.';
    throw new VaultError('unavailable', `No certificate from ${new URL(directory).host}: ${reason}`, { cause });
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

/** An authority may ask to be left alone for longer than anybody wants to wait here. */
async function inTime<T>(order: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('it took too long.')), ORDER_DEADLINE_MS);
  });
  order.catch(() => undefined);
  return Promise.race([order, late]).finally(() => clearTimeout(timer));
}

const PREFIX = '/.well-known/acme-challenge/';
const CONNECTIONS_MAX = 64;
const SLOW_MS_MAX = 5_000;

/** RFC 8555 §8.3 */
function answerChallenges(answers: ReadonlyMap<string, string>, { host, port }: AcmeSource['listen']): Promise<Server> {
  const server = createServer(
    { headersTimeout: SLOW_MS_MAX, requestTimeout: SLOW_MS_MAX, connectionsCheckingInterval: 1_000 },
    ({ method, url = '' }, outgoing) => {
      const answer = method === 'GET' && url.startsWith(PREFIX) ? answers.get(url.slice(PREFIX.length)) : undefined;
      outgoing.shouldKeepAlive = false;
      outgoing.writeHead(answer === undefined ? 404 : 200, { 'Content-Type': 'application/octet-stream' });
      outgoing.end(answer ?? '');
    },
  );
  server.maxConnections = CONNECTIONS_MAX;
  return new Promise((resolve, reject) => {
    server.once('error', ({ code }: NodeJS.ErrnoException) => {
      reject(
        new VaultError(
          'conflict',
          `BULLA_ACME_HTTP_LISTEN: cannot listen on ${host}:${port} for the authority (${code}).`,
        ),
      );
    });
    server.listen({ host, port, exclusive: true }, () => resolve(server));
  });
}
