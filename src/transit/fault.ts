/**
 * What is wrong with one item of a call. The reason is for protocols that have words of their own for it; the message is
 * what people are told natively, and it is one and the same for whatever keeps a ciphertext from opening (case T-022).
 * Neither holds anything of the item.
 */
import { VaultError } from '../errors.ts';

export type Reason =
  | 'no_prefix'
  | 'bad_fields'
  | 'bad_version'
  | 'bad_base64'
  | 'version_unknown' // of a later key, or trimmed
  | 'version_too_old' // below min_decryption_version
  | 'version_refused' // asked for to encrypt or sign with, and not allowed or not there
  | 'bad_length'
  | 'does_not_open'
  | 'context_missing'
  | 'context_unexpected'
  | 'context_too_long'
  | 'aad_unsupported'
  | 'plaintext_too_long'
  | 'bad_public_key'
  | 'bad_hash' // no hash of a password that this vault makes
  | 'rejected'; // the protocol could not read the item

export type Fault = { readonly reason: Reason; readonly message: string };

const DOES_NOT_OPEN = 'ciphertext: it does not open under this key with this context and associated data.';
const NOT_OF_A_KEY = 'expected the text that a named key made, "vault:v<version>:…", unchanged.';

const MESSAGES: Readonly<Record<Exclude<Reason, 'rejected'>, string>> = {
  no_prefix: NOT_OF_A_KEY,
  bad_fields: NOT_OF_A_KEY,
  bad_version: NOT_OF_A_KEY,
  bad_base64: NOT_OF_A_KEY,
  version_unknown: DOES_NOT_OPEN,
  version_too_old: 'the version that made it is below min_decryption_version of the key.',
  version_refused:
    'key_version: expected a version from min_encryption_version to the latest; without one it is the latest.',
  bad_length: DOES_NOT_OPEN,
  does_not_open: DOES_NOT_OPEN,
  context_missing: 'context: expected one, because the key is derived with it.',
  context_unexpected: 'context: the key is not derived; leave it out, or bind it as associated_data.',
  context_too_long: 'context: it is longer than is allowed.',
  aad_unsupported: 'associated_data: an RSA key cannot bind any; leave it out.',
  plaintext_too_long: 'plaintext: it is longer than an RSA key of this size takes; encrypt a data key instead.',
  bad_public_key: 'public_key: expected the 32 bytes of an X25519 public key.',
  bad_hash: 'hash: expected what password hashing of this key gave, unchanged.',
};

export const fault = (reason: Exclude<Reason, 'rejected'>): Fault => ({ reason, message: MESSAGES[reason] });

export const isFault = (value: object): value is Fault => 'reason' in value;

/** What a call hears whose only item has the fault. */
export const faultError = ({ message }: Fault): VaultError => new VaultError('invalid_request', message);
