/**
 * The part of libsodium's raw module that is used here: C functions of its manual (doc.libsodium.org, "XChaCha20-Poly1305
 * construction"), with addresses in `HEAPU8` as numbers and 64-bit lengths as two words, the low one first.
 */
declare module 'libsodium' {
  type Sodium = {
    readonly HEAPU8: Uint8Array;
    /** The address of so many bytes, 0 when there are none left. */
    readonly _malloc: (bytes: number) => number;
    readonly _crypto_aead_xchacha20poly1305_ietf_encrypt: (
      ciphertext: number,
      ciphertextLengthAt: 0,
      plaintext: number,
      plaintextLow: number,
      plaintextHigh: 0,
      aad: number,
      aadLow: number,
      aadHigh: 0,
      unused: 0,
      nonce: number,
      key: number,
    ) => number;
    /** 0, or −1 when it is not authentic. */
    readonly _crypto_aead_xchacha20poly1305_ietf_decrypt: (
      plaintext: number,
      plaintextLengthAt: 0,
      unused: 0,
      ciphertext: number,
      ciphertextLow: number,
      ciphertextHigh: 0,
      aad: number,
      aadLow: number,
      aadHigh: 0,
      nonce: number,
      key: number,
    ) => number;
  };
  export default function load(): Promise<Sodium>;
}
