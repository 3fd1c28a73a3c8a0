/**
 * What the command line takes from the environment, read once.
 *
 * Apart from config.ts, and without a library, so that a command starts without the settings of the server.
 */
import { homedir } from 'node:os';
import { join } from 'node:path';

export type ClientConfig = Readonly<{
  address: string;
  token: string | undefined;
  tenant: string | undefined;
  /** A PEM file of the certificates to trust. */
  caCertFile: string | undefined;
  /** Keys that the server may have. */
  pins: readonly string[] | undefined;
  /** PEM files of a certificate of the caller's own, and its key. */
  clientCertFile: string | undefined;
  clientKeyFile: string | undefined;
  sendTokensOverPlainHttp: boolean;
  /** Where `bulla login` keeps tokens. */
  stateDir: string;
  /** What a program that `bulla run` starts inherits: everything but what opens the vault (T-228, T-238). */
  childEnvironment: Readonly<Record<string, string>>;
}>;

const OPENS_THE_VAULT = [
  'BULLA_TOKEN',
  'BULLA_SEAL_KEY',
  'BULLA_DATABASE_URL',
  'BULLA_DATABASE_OWNER_URL',
  'BULLA_METRICS_TOKEN',
  'BULLA_CLIENT_KEY',
];

/** Reads what clients need. An empty variable counts as one that is not set, in the child's environment it stays. */
export function loadClientConfig(env: NodeJS.ProcessEnv = process.env): ClientConfig {
  const given = (name: string) => env[name] || undefined;
  const inherited = Object.entries(env).filter(([name]) => !OPENS_THE_VAULT.includes(name));
  return Object.freeze({
    address: given('BULLA_ADDR') ?? 'http://127.0.0.1:8200',
    token: given('BULLA_TOKEN'),
    tenant: given('BULLA_TENANT'),
    caCertFile: given('BULLA_CACERT'),
    pins: given('BULLA_PINS')
      ?.split(/[\s,]+/)
      .filter((pin) => pin !== ''),
    clientCertFile: given('BULLA_CLIENT_CERT'),
    clientKeyFile: given('BULLA_CLIENT_KEY'),
    sendTokensOverPlainHttp: env.BULLA_SEND_TOKENS_OVER_PLAIN_HTTP === 'true',
    stateDir: join(given('XDG_STATE_HOME') ?? join(homedir(), '.local', 'state'), 'bulla'),
    childEnvironment: Object.freeze(Object.fromEntries(inherited) as Record<string, string>),
  });
}
