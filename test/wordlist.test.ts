/** The lists of words: that they are what is promised of them, and the passphrases that are drawn from one. */
import { expect, it } from 'vitest';
import { dicewarePassphrase, isCommonPassword } from '../src/crypto/wordlist.ts';

it('T-034 the list of common passwords has at least 10,000 entries, and whole texts are looked up in it', async () => {
  const { dictionary } = await import('@zxcvbn-ts/language-common');
  const common = dictionary['passwords-common'];
  expect(new Set(common).size).toBeGreaterThanOrEqual(10_000);
  expect(common.every((text) => text === text.toLowerCase() && text === text.normalize('NFKC'))).toBe(true);
  expect(await Promise.all(['qwertyuiop', 'QWERTYuiop', 'qwertyuiop ', 'aqwertyuiop'].map(isCommonPassword))).toEqual([
    ...[true, true, false, false],
  ]);
});

it('a passphrase is six words of EFF’s long list', async () => {
  const { dictionary } = await import('@zxcvbn-ts/language-common');
  const words = new Set(dictionary['diceware-common']);
  expect(words.size).toBe(6 ** 5);
  // Of EFF's, the first and the last, and the four that lost their hyphen.
  for (const word of ['abacus', 'zoom', 'dropdown', 'felttip', 'tshirt', 'yoyo']) expect(words.has(word)).toBe(true);
  const made = await Promise.all(Array.from({ length: 200 }, dicewarePassphrase));
  const drawn = made.map((passphrase) => passphrase.split('-'));
  expect(drawn.every((six) => six.length === 6 && six.every((word) => words.has(word)))).toBe(true);
  expect(new Set(drawn.flat()).size).toBeGreaterThan(900);
});
