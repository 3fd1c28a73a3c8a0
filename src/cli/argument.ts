/** What options take, parsed where they are read: a text that does not fit is wrong use of the command. */
import { InvalidArgumentError } from 'commander';

export function wholeNumber(text: string): number {
  if (/^\d{1,10}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('A whole number is expected.');
}

/** `1,2,3` */
export function versionList(text: string): number[] {
  return text.split(',').map(wholeNumber);
}

/** An option that may be given several times. */
export function collect(text: string, before: readonly string[] = []): string[] {
  return [...before, text];
}

/** `KEY=VALUE`, several times. */
export function pair(text: string, before: Readonly<Record<string, string>> = {}): Record<string, string> {
  const at = text.indexOf('=');
  if (at < 1) throw new InvalidArgumentError('KEY=VALUE is expected.');
  return { ...before, [text.slice(0, at)]: text.slice(at + 1) };
}
