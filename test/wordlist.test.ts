/** The lists of words: that they are what is promised of them, and the passphrases that are drawn from one. */
import { createHash } from 'node:crypto';
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

it('a passphrase is six words of EFF’s long list, which is EFF’s word by word but for four hyphens', async () => {
  const { dictionary } = await import('@zxcvbn-ts/language-common');
  const words = new Set(dictionary['diceware-common']);
  expect(words.size).toBe(6 ** 5);
  // https://www.eff.org/files/2016/07/18/eff_large_wordlist.txt: a line is five dice, a tab and a word.
  const file = Array.from(words, (word) => OF_EFF[word] ?? word)
    .sort()
    .map((word, i) => `${diceOf(i)}\t${word}\n`);
  expect(createHash('sha256').update(file.join('')).digest('hex')).toBe(
    'addd35536511597a02fa0a9ff1e5284677b8883b83e986e43f15a3db996b903e',
  );
  const made = await Promise.all(Array.from({ length: 200 }, dicewarePassphrase));
  const drawn = made.map((passphrase) => passphrase.split('-'));
  expect(drawn.every((six) => six.length === 6 && six.every((word) => words.has(word)))).toBe(true);
  expect(new Set(drawn.flat()).size).toBeGreaterThan(900);
});

const OF_EFF: Readonly<Record<string, string>> = {
  dropdown: 'drop-down',
  felttip: 'felt-tip',
  tshirt: 't-shirt',
  cheetah: 'yo-yo',
};

/** The n-th throw of five dice, from 11111 to 66666. */
const diceOf = (n: number) => Array.from(n.toString(6).padStart(5, '0'), (digit) => Number(digit) + 1).join('');
