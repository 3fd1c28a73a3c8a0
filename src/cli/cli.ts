/** What every command works with. */
import type { Bulla } from '../client/index.ts';
import type { ClientConfig } from '../config-client.ts';
import type { Io } from './io.ts';

export type Cli = {
  readonly io: Io;
  readonly config: ClientConfig;
  /** Whether the result is for a program. */
  json(): boolean;
  address(): string;
  /** A client with the token of the environment, or else the kept one, or else none. */
  client(): Bulla;
  /** What the process ends with when the command is done; 0 unless set. */
  setExitCode(code: number): void;
  /** Opens the seal of this host after an operator closed it; false when the vault was not sealed. */
  unsealHere(): Promise<boolean>;
  /** Unlocks the last operator, over the database of this host. */
  unlockHere(unlock: { readonly username: string; readonly removeTotp?: boolean | undefined }): Promise<void>;
};
