/** The open set of seals: one line a member. */
import { openEnvSeal } from './env.ts';
import { openFileSeal } from './file.ts';
import type { Seal, SealKind, SealOptions } from './seal.ts';

export const SEALS: Readonly<Record<SealKind, (options: SealOptions) => Seal>> = {
  file: openFileSeal,
  env: openEnvSeal,
};
