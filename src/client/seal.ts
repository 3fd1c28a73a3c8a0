/** The seal: its state and unsealing, for everybody; sealing, moving to another seal and checking shares, for operators. */
import { API, sendForJson } from './answer.ts';
import type { CallOptions, Connection } from './connection.ts';
import type { MigrateSealBody, Seal, SealMigration, ShareCheck } from './types.ts';

export type SealClient = ReturnType<typeof createSeal>;

/** A migration of many tenants re-wraps every key before it answers. */
const MIGRATION_MS = 150_000;

export function createSeal(connection: Connection) {
  const post = <T>(path: string, json: object, options: CallOptions): Promise<T> =>
    sendForJson(connection, { method: 'POST', path: `${API}/seal${path}`, effect: 'more', json, ...options });
  return {
    /** Of the node that answers. Needs no token, and answers while the vault is sealed. */
    state: (options: CallOptions = {}): Promise<Seal> =>
      sendForJson(connection, { method: 'GET', path: `${API}/seal`, effect: 'none', anonymous: true, ...options }),

    /** Brings one share, or the passphrase. What was brought before stays. */
    unseal: (offering: { share: string } | { passphrase: string }, options: CallOptions = {}): Promise<Seal> =>
      sendForJson(connection, {
        method: 'POST',
        path: `${API}/seal/unseal`,
        effect: 'same',
        json: offering,
        anonymous: true,
        ...options,
      }),

    /** Seals every node until it is unsealed. */
    seal: async (options: CallOptions = {}): Promise<void> => {
      await connection.send({ method: 'POST', path: `${API}/seal/seal`, effect: 'same', ...options });
    },

    /** To shares: the first answer has them and changes nothing, the second call confirms with enough of them. */
    migrate: (to: MigrateSealBody, options: CallOptions = {}): Promise<SealMigration> =>
      post('/migrate', to, { timeoutMs: MIGRATION_MS, ...options }),

    /** Whether shares still fit. Nothing is unsealed. */
    check: (shares: readonly string[], options: CallOptions = {}): Promise<ShareCheck> =>
      post('/check', { shares }, options),
  };
}
