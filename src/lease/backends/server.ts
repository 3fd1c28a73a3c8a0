/** What targets that are a server have in common: where it is, who asks, how it is known, and what accounts are called. */
import { z } from 'zod';
import type { CredentialAsk } from '../backend.ts';

/** The fields of a configuration but for the port and the account, whose forms are the target's. */
export const serverFields = {
  host: z.string().regex(/^[A-Za-z0-9.:-]{1,253}$/, 'expected a host name or an address'),
  password: z.string().min(1).max(1024),
  /** `verify`: TLS with a certificate that is valid for `host`. `off` sends everything readable. */
  tls: z.enum(['verify', 'off']).default('verify'),
  ca: z
    .string()
    .max(64 * 1024)
    .optional(),
};

export const port = (usual: number) => z.int().min(1).max(65_535).default(usual);

/** Of a name that a person chose: enough to know it by, in characters that need no quotes. */
export const knownBy = (name: string, chars: number) => name.slice(0, chars).replace(/[^a-z0-9]/g, '-');

/** Who holds it, by which role and lease: at most 56 bytes. */
export const handleOf = ({ holder, roleName, leaseId }: CredentialAsk<unknown>) =>
  `bulla_${knownBy(holder, 16)}_${knownBy(roleName, 16)}_${leaseId}`;
