/**
 * The vault over its database, for the few commands that whoever holds the host may give without a token: ending a seal
 * by an operator, and unlocking the last operator. Whoever may read the database's credentials may come in.
 */
import { resolve } from 'node:path';
import { pino } from 'pino';
import type { Config } from '../config.ts';
import { embeddedEndpoint } from '../db/embedded-attach.ts';
import { resolveDataDir } from '../db/embedded-directory.ts';
import { type Unlock, unlockOperatorOnHost } from '../job/unlock.ts';
import { unsealOnHost } from '../tenant/seal.ts';
import { closeVault, openVault, type Vault } from '../vault.ts';

/**
 * Ends an operator's `POST /seal/seal` of a vault whose seal opens by itself: whoever can open the seal here needs no
 * other leave. Resolves with false when the vault was not sealed.
 */
export function unsealHere(config: Config): Promise<boolean> {
  return withVault(config, async (vault) => {
    if (!vault.seal.sealed) return false;
    await unsealOnHost(vault);
    return true;
  });
}

export function unlockHere(config: Config, unlock: Unlock): Promise<void> {
  return withVault(config, (vault) => unlockOperatorOnHost(vault, unlock));
}

async function withVault<T>(config: Config, act: (vault: Vault) => Promise<T>): Promise<T> {
  const embedded = config.databaseUrl === undefined;
  const dataDir = embedded ? resolveDataDir(config.dataDir, config.dataDirConfigured) : resolve(config.dataDir);
  const vault = await openVault({
    config,
    target: config.databaseUrl ?? embeddedEndpoint(dataDir),
    setRole: !embedded && config.databaseOwnerUrl === undefined,
    dataDir,
    log: pino({ level: 'silent' }),
  });
  try {
    return await act(vault);
  } finally {
    await closeVault(vault);
  }
}
