/**
 * Two lists of words: passwords that are common, and the words that passphrases are drawn from.
 *
 * Both are `@zxcvbn-ts/language-common`'s: 49,233 common passwords, and EFF's long list for Diceware, 7,776 words without
 * the hyphens of four of them (`dropdown`, `felttip` and `tshirt`, and `cheetah` for `yo-yo`, because `yoyo` is a word of
 * the list as well), so a hyphen between words is always a boundary. The package is loaded here only, at the first
 * question, because most processes never ask one and the lists take some megabytes.
 * Nothing here keeps what it was asked about.
 */
import { randomInt } from 'node:crypto';

type Lists = { readonly common: ReadonlySet<string>; readonly words: readonly string[] };

let lists: Promise<Lists> | undefined;

async function load(): Promise<Lists> {
  const { dictionary } = await import('@zxcvbn-ts/language-common');
  return { common: new Set(dictionary['passwords-common']), words: dictionary['diceware-common'] };
}

function loaded(): Promise<Lists> {
  lists ??= load();
  return lists;
}

/** Whether the whole text, in whatever case or width its letters are, is a password that many people have had. */
export async function isCommonPassword(text: string): Promise<boolean> {
  const { common } = await loaded();
  return common.has(text.normalize('NFKC').toLowerCase());
}

/** Six of 7,776 words are 77 bits: what EFF and Diceware's author recommend. */
const WORDS = 6;

/** A passphrase as dice would make it, the words with hyphens between them. */
export async function dicewarePassphrase(): Promise<string> {
  const { words } = await loaded();
  return Array.from({ length: WORDS }, () => words[randomInt(words.length)]).join('-');
}
