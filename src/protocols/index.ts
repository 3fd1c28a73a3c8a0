/** Every wire protocol that is served. */
import { native } from './native/native.ts';
import { oauth } from './oauth/oauth.ts';
import type { Protocol } from './protocol.ts';
import { vault } from './vault/vault.ts';

export const PROTOCOLS: readonly Protocol[] = [native, vault, oauth];
