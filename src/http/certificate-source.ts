/** Where certificates come from: one line for each of the three. */
import type { Config } from '../config.ts';
import type { TlsConfig } from '../config-listener.ts';
import { acmeAuthority } from './acme.ts';
import { ownAuthority } from './own-authority.ts';
import type { CertificateSource } from './tls.ts';

/** `authorityFile` is what clients are given where the authority is nobody's but ours. */
export function certificateSource(
  config: Config,
  { source, names }: TlsConfig,
  dataDir: string,
): CertificateSource & { readonly authorityFile?: string } {
  switch (source.kind) {
    case 'files':
      return { files: source.pairs };
    case 'auto':
      return ownAuthority(dataDir, config);
    case 'acme':
      return acmeAuthority(dataDir, source, names);
  }
}
