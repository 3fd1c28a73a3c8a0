/** The open set of seals: one line a member. */
import { awsKmsSeal } from './aws-kms.ts';
import { envSeal } from './env.ts';
import { fileSeal } from './file.ts';
import { passphraseSeal } from './passphrase.ts';
import type { SealKind, SealMember } from './seal.ts';
import { shamirSeal } from './shamir.ts';
import { transitSeal } from './transit.ts';

export const SEALS: Readonly<Record<SealKind, SealMember>> = {
  file: fileSeal,
  env: envSeal,
  passphrase: passphraseSeal,
  shamir: shamirSeal,
  'aws-kms': awsKmsSeal,
  transit: transitSeal,
};
