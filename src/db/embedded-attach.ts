/**
 * The way to the PostgreSQL of a data directory beside the vault that runs it: for commands on the host.
 *
 * Starts nothing and takes no lock; whoever may read the directory's credentials may come in.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { VaultError } from '../errors.ts';
import type { Endpoint } from './database.ts';
import { DATABASE, readCredentials } from './embedded-cluster.ts';
import { openPlace } from './embedded-directory.ts';
import { PORT } from './embedded-postmaster.ts';

/** As the role that serves. Throws `unavailable` when there is no vault, or this user may not read its credentials. */
export function embeddedEndpoint(dataDir: string): Endpoint {
  if (!existsSync(join(dataDir, 'pg'))) {
    throw new VaultError(
      'unavailable',
      `${dataDir} holds no vault: set BULLA_DATA_DIR to the directory of the server.`,
    );
  }
  const place = openPlace(dataDir);
  const password = readCredentials(place).bulla_app;
  return { host: place.socketDir, port: PORT, database: DATABASE, username: 'bulla_app', password };
}
