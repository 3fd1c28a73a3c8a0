/**
 * TLS: what is spoken, which certificates are served, and how they change under load.
 *
 * New certificates take effect for the next connection; those that stand go on. Files are looked at every second and at
 * SIGHUP, and what cannot be served (half written, another's key, ended, unreadable) leaves the old one in place and
 * raises an alarm in the log, in the status and in the metrics until it is mended. One context serves every name, so
 * that nothing depends on the name that a client asks for (T-139).
 */
import { constants, randomBytes } from 'node:crypto';
import { stat } from 'node:fs/promises';
import type { Server } from 'node:https';
import type { SecureContextOptions, TlsOptions } from 'node:tls';
import type { Logger } from 'pino';
import type { TlsConfig } from '../config-listener.ts';
import { VaultError } from '../errors.ts';
import type { TlsStatus } from '../protocols/protocol.ts';
import { type Pair, type PairFiles, readPair } from './certificate.ts';
import { recordOf } from './error.ts';
import { countHandshakes, type Handshakes } from './handshake.ts';

export type Tls = {
  readonly serverOptions: () => TlsOptions;
  /** Gives the server every new certificate and ticket key from now on. */
  readonly keepServing: (server: Server) => Server;
  readonly handshakes: Handshakes;
  readonly status: () => TlsStatus;
  /** Why a certificate that was due could not be made. */
  readonly renewalAlarm: () => string | undefined;
  /** Looks at the files now. */
  readonly look: () => Promise<void>;
  readonly close: () => void;
};

/** Where the files come from. An operator's are only read. */
export type CertificateSource = {
  readonly files: readonly PairFiles[];
  /** Makes or renews what is due. Throws a VaultError that says why it could not. */
  readonly renew?: () => Promise<void>;
  /** Of the key that is to come. */
  readonly backupPin?: () => string;
};

/** How often files are looked at, tickets get a new key, and renewal is thought of. */
const LOOK_MS = 1_000;
const TICKET_KEY_MS = 60 * 60 * 1000;
const RENEW_MS = 60 * 60 * 1000;
/** RFC 5077 §5.6: no ticket outlives its key by much. */
const SESSION_SECONDS = 60 * 60;

/** Throws `invalid_request` when there is no certificate to begin with. */
export async function openTls(config: TlsConfig, source: CertificateSource, log: Logger): Promise<Tls> {
  const state: State = { config, source, log, handshakes: countHandshakes(), servers: new Set(), looking: undefined };
  await renew(state);
  const seen = await stamp(source.files);
  try {
    Object.assign(state, { pairs: await readPairs(state, config.startWithExpired), seen });
  } catch (error) {
    throw state.renewalAlarm === undefined ? error : new VaultError('unavailable', state.renewalAlarm);
  }
  const timers = [
    setInterval(() => void look(state), LOOK_MS),
    setInterval(() => setTicketKeys(state), TICKET_KEY_MS),
    setInterval(() => void renew(state), RENEW_MS),
  ];
  for (const timer of timers) timer.unref();
  tellAlarms(state);
  return {
    serverOptions: () => ({ ...contextOptions(state), ...listenerOptions(config) }),
    keepServing: (server) => {
      state.servers.add(server);
      return server.once('close', () => state.servers.delete(server));
    },
    handshakes: state.handshakes,
    status: () => statusOf(state),
    renewalAlarm: () => state.renewalAlarm,
    look: async () => {
      await renew(state);
      await look(state, 'at once');
    },
    close: () => timers.forEach(clearInterval),
  };
}

type State = {
  readonly config: TlsConfig;
  readonly source: CertificateSource;
  readonly log: Logger;
  readonly handshakes: Handshakes;
  readonly servers: Set<Server>;
  pairs?: readonly Pair[];
  /** The files as they were when they were last read, served or not. */
  seen?: string;
  looking: Promise<void> | undefined;
  renewing?: Promise<void> | undefined;
  /** Read once and not fit to serve: a certificate and its key are seldom replaced in the same moment. */
  doubt?: string | undefined;
  fileAlarm?: string | undefined;
  renewalAlarm?: string | undefined;
  told?: { readonly text: string; readonly atMs: number };
};

// ---- what is spoken -----------------------------------------------------------------------------------------------

/** RFC 9325 §4.2: ephemeral keys and authenticated encryption only; of TLS 1.3 the suites that it must have. */
const CIPHERS = [
  'TLS_AES_256_GCM_SHA384',
  'TLS_CHACHA20_POLY1305_SHA256',
  'TLS_AES_128_GCM_SHA256',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
  'ECDHE-ECDSA-CHACHA20-POLY1305',
  'ECDHE-RSA-CHACHA20-POLY1305',
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
].join(':');
const GROUPS = 'X25519:P-256:P-384';
/** Also of client certificates. Without SHA-1. */
const SIGNATURES = [
  ...['ECDSA+SHA256', 'ECDSA+SHA384', 'ECDSA+SHA512', 'ed25519'],
  ...['RSA-PSS+SHA256', 'RSA-PSS+SHA384', 'RSA-PSS+SHA512', 'RSA+SHA256', 'RSA+SHA384', 'RSA+SHA512'],
].join(':');

function contextOptions({ config, pairs = [] }: State): SecureContextOptions {
  const { SSL_OP_NO_RENEGOTIATION, SSL_OP_NO_COMPRESSION, SSL_OP_NO_TICKET } = constants;
  return {
    cert: pairs.map(({ cert }) => cert),
    key: pairs.map(({ key }) => key),
    // Nobody's certificate is believed by the listener; the tenant that is asked for believes it, or does not.
    ca: [],
    minVersion: config.minVersion,
    maxVersion: 'TLSv1.3',
    ciphers: CIPHERS,
    ecdhCurve: GROUPS,
    sigalgs: SIGNATURES,
    honorCipherOrder: true,
    // A resumed session has no chain of certificates any more, and was not looked at again.
    secureOptions: SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | (config.clientCertificates ? SSL_OP_NO_TICKET : 0),
    sessionTimeout: SESSION_SECONDS,
    ticketKeys: randomBytes(48),
  };
}

function listenerOptions({ clientCertificates }: TlsConfig): TlsOptions {
  return {
    ALPNProtocols: ['http/1.1'],
    requestCert: clientCertificates,
    // Whoever shows none, or one that some tenant would not believe, can still log in in another way.
    rejectUnauthorized: false,
  };
}

/** Node's servers have one ticket key at a time: with a new one, clients make a whole handshake once. */
function setTicketKeys({ servers }: State): void {
  for (const server of servers) server.setTicketKeys(randomBytes(48));
}

// ---- certificates that change -------------------------------------------------------------------------------------

async function readPairs({ source }: State, expiredToo = false): Promise<readonly Pair[]> {
  const pairs = await Promise.all(source.files.map((files) => readPair(files, Date.now(), expiredToo)));
  const [first, second] = pairs;
  if (second && first?.facts.key === second.facts.key) {
    throw new VaultError('invalid_request', `Both certificates are ${second.facts.key}: two are for two kinds of key.`);
  }
  return pairs;
}

/** Changes whenever one of the files does, whatever was done to it. */
async function stamp(files: readonly PairFiles[]): Promise<string> {
  const names = files.flatMap(({ certFile, keyFile }) => [certFile, keyFile]);
  const stamps = names.map(async (name) => {
    try {
      const { ino, size, mtimeMs, ctimeMs } = await stat(name);
      return `${ino} ${size} ${mtimeMs} ${ctimeMs}`;
    } catch (error) {
      return String((error as NodeJS.ErrnoException).code);
    }
  });
  return (await Promise.all(stamps)).join('\n');
}

/** One look at a time; whoever asks during one waits for the next. */
async function look(state: State, when?: 'at once'): Promise<void> {
  while (state.looking) await state.looking;
  state.looking = lookOnce(state, when).finally(() => {
    state.looking = undefined;
  });
  await state.looking;
}

async function lookOnce(state: State, when?: 'at once'): Promise<void> {
  const now = await stamp(state.source.files);
  if (now !== state.seen || state.doubt !== undefined || when) {
    state.seen = now;
    try {
      swap(state, await readPairs(state));
    } catch (error) {
      const message = sentenceOf(state, error);
      if (state.doubt !== undefined || when) state.fileAlarm = message;
      // A doubt that has become an alarm is not looked at again before the files change.
      state.doubt = state.doubt === undefined && !when ? message : undefined;
    }
  }
  tellAlarms(state);
}

function swap(state: State, pairs: readonly Pair[]): void {
  state.doubt = undefined;
  state.fileAlarm = undefined;
  const fingerprints = (list: readonly Pair[] = []) => list.map(({ facts }) => facts.fingerprint).join();
  if (fingerprints(pairs) === fingerprints(state.pairs)) return;
  const before = state.pairs;
  state.pairs = pairs;
  try {
    const options = contextOptions(state);
    for (const server of state.servers) server.setSecureContext(options);
  } catch (error) {
    state.pairs = before ?? [];
    throw error;
  }
  for (const { facts } of pairs) state.log.info({ ...facts }, 'a new certificate is served');
}

/** One at a time: an order may take minutes. */
function renew(state: State): Promise<void> {
  state.renewing ??= renewOnce(state).finally(() => {
    state.renewing = undefined;
  });
  return state.renewing;
}

async function renewOnce(state: State): Promise<void> {
  if (!state.source.renew) return;
  try {
    await state.source.renew();
    state.renewalAlarm = undefined;
  } catch (error) {
    state.renewalAlarm = sentenceOf(state, error);
  }
}

function sentenceOf({ log }: State, error: unknown): string {
  if (error instanceof VaultError) return error.message;
  log.error({ error: recordOf(error) }, 'a certificate could not be made or read');
  return 'The certificate cannot be served because of an error that is in the log.';
}

// ---- alarms -------------------------------------------------------------------------------------------------------

const EXPIRES_SOON_MS = 14 * 24 * 60 * 60 * 1000;
const TELL_AGAIN_MS = 60 * 60 * 1000;

function statusOf(state: State): TlsStatus {
  const { config, source, pairs = [], handshakes } = state;
  return {
    minVersion: config.minVersion,
    clientCertificates: config.clientCertificates,
    certificates: pairs.map(({ facts }) => facts),
    backupPin: source.backupPin?.(),
    alarms: endings(pairs),
    faults: faultsOf(state),
    handshakes: handshakes.done(),
    refusals: handshakes.refused(),
  };
}

function endings(pairs: readonly Pair[]): string[] {
  const nowMs = Date.now();
  return pairs.flatMap(({ facts: { key, notAfter } }) => {
    const leftMs = notAfter.getTime() - nowMs;
    if (leftMs > EXPIRES_SOON_MS) return [];
    return [`The ${key} certificate ${leftMs <= 0 ? 'has ended' : 'ends'} at ${notAfter.toISOString()}: renew it.`];
  });
}

function faultsOf({ fileAlarm, renewalAlarm }: State): string[] {
  const kept = fileAlarm === undefined ? [] : [`A new certificate is not served: ${fileAlarm}`];
  return [...kept, ...(renewalAlarm === undefined ? [] : [renewalAlarm])];
}

/** Once when they change, and then every hour. */
function tellAlarms(state: State): void {
  const text = [...endings(state.pairs ?? []), ...faultsOf(state)].join(' ');
  const nowMs = Date.now();
  const { told } = state;
  if (text === (told?.text ?? '') && (text === '' || nowMs - (told?.atMs ?? 0) < TELL_AGAIN_MS)) return;
  state.told = { text, atMs: nowMs };
  if (text === '') state.log.info({}, 'nothing is wrong with the certificate any more');
  else state.log.error({ alarms: text }, 'the certificate needs somebody');
}
