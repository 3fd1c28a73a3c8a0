/** From a vault to a listener: what the process does that answers requests, alone or as one of several workers. */
import type { Logger } from 'pino';
import { endTails } from '../audit/tail.ts';
import { TOTP_ANSWER } from '../auth/totp.ts';
import type { Config } from '../config.ts';
import { assertKnownAnswers } from '../crypto/self-test.ts';
import { type App, createApp } from '../http/app.ts';
import { certificateSource } from '../http/certificate-source.ts';
import { listen } from '../http/listener.ts';
import { type CertificateSource, openTls, type Tls } from '../http/tls.ts';
import type { Vault } from '../vault.ts';
import type { Down } from './ending.ts';

/** TLS as it is configured: certificates at hand and looked after until the end. `renewal` replaces how they are renewed. */
export async function secure(
  config: Config,
  dataDir: string,
  log: Logger,
  down: Down,
  renewal: (renew: () => Promise<void>) => () => Promise<void> = (renew) => renew,
): Promise<{ readonly tls?: Tls; readonly authorityFile?: string }> {
  if (!config.tls) return {};
  const source = certificateSource(config, config.tls, dataDir);
  const renewed: CertificateSource = { ...source, ...(source.renew ? { renew: renewal(source.renew) } : {}) };
  const tls = await openTls(config.tls, renewed, log);
  down.push(async () => tls.close());
  return { tls, ...(source.authorityFile === undefined ? {} : { authorityFile: source.authorityFile }) };
}

/** Answers requests on return, and gives where. `scrape` as for createApp. */
export async function listenHere(
  vault: Vault,
  tls: Tls | undefined,
  down: Down,
  scrape?: () => Promise<string>,
): Promise<{ readonly address: string; readonly app: App }> {
  // The primitive that comes with the program's larger part, and so after those of crypto/.
  assertKnownAnswers([TOTP_ANSWER]);
  const app = createApp(vault, tls, scrape);
  const listener = await listen(vault, app, vault.config);
  down.push(() => listener.close());
  // A tail never ends by itself, and a clean end waits for running answers.
  down.push(async () => endTails(vault));
  return { address: listener.address, app };
}
