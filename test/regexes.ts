/**
 * Every regular expression of the compiled program, and what recheck says of each (T-109): literals as the parser finds
 * them, those that are put together as they come out, and those of the zod formats that are used.
 */
import { execFile } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import recheck from 'recheck/lib/browser.js';
import { parseAst } from 'vitest/node';
import { z } from 'zod';
import { MODULES } from './process.ts';

const FILES = readdirSync(MODULES, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.js') && !name.startsWith('bundle/'))
  .map((name) => ({ file: join(MODULES, name), text: readFileSync(join(MODULES, name), 'utf8') }));

type Node = { readonly type: string; readonly regex?: { readonly pattern: string; readonly flags: string } } & Record<
  string,
  unknown
>;

/** Calls `found` with every node and whether it lies within a function. */
function walk(node: unknown, found: (node: Node, within: boolean) => void, within = false): void {
  if (Array.isArray(node)) for (const one of node) walk(one, found, within);
  if (typeof node !== 'object' || node === null || Array.isArray(node)) return;
  found(node as Node, within);
  const deeper = within || /Function/.test((node as Node).type ?? '');
  for (const member of Object.values(node)) walk(member, found, deeper);
}

/** As `/pattern/flags`, sorted. */
export async function everyRegex(): Promise<string[]> {
  const texts = new Set<string>();
  for (const { text } of FILES) {
    walk(parseAst(text), ({ regex }) => {
      if (regex) texts.add(`/${regex.pattern}/${regex.flags}`);
    });
  }
  for (const text of await constructed()) texts.add(text);
  for (const text of ofFormats()) texts.add(text);
  return [...texts].sort();
}

const isConstruction = ({ type, callee }: Node) =>
  /^(New|Call)Expression$/.test(type) && (callee as Node).name === 'RegExp';

/** Files that put regular expressions together where a request, and not the start of the program, comes by. */
export function constructedLate(): string[] {
  const late = new Set<string>();
  for (const { file, text } of FILES) {
    walk(parseAst(text), (node, within) => {
      if (within && isConstruction(node)) late.add(file);
    });
  }
  return [...late];
}

/** What `new RegExp` makes while the files that say it are loaded, in a process of their own. */
async function constructed(): Promise<string[]> {
  const making: string[] = [];
  for (const { file, text } of FILES) {
    walk(parseAst(text), (node) => {
      if (isConstruction(node) && !making.includes(file)) making.push(file);
    });
  }
  const script = `
    const made = [];
    const Own = RegExp;
    globalThis.RegExp = new Proxy(Own, {
      construct(target, given) {
        const one = new target(...given);
        const caller = new Error().stack.split('\\n')[2];
        if (caller.includes(${JSON.stringify(`${MODULES}/`)})) made.push(String(one));
        return one;
      },
    });
    for (const file of ${JSON.stringify(making)}) await import(file);
    console.log(JSON.stringify(made));`;
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script]);
  return JSON.parse(stdout) as string[];
}

function ofFormats(): string[] {
  const named = FILES.flatMap(({ text }) => [...text.matchAll(/\bz\.([a-z0-9]+)\(/gi)].map(([, name]) => name!));
  return [...new Set(named)].flatMap((name) => {
    if (name === 'array' || name === 'record') return [];
    try {
      const made = (z as unknown as Record<string, () => { _zod: { def: { pattern?: RegExp } } }>)[name]!();
      return made._zod.def.pattern ? [String(made._zod.def.pattern)] : [];
    } catch {
      // It takes arguments, as no format does.
      return [];
    }
  });
}

/** `safe`, or what is wrong; `unknown` after so many milliseconds. */
export function verdictOn(text: string, timeout: number): string {
  const end = text.lastIndexOf('/');
  const { status, complexity, attack } = recheck.checkSync(text.slice(1, end), text.slice(end + 1), { timeout });
  return status === 'safe' ? 'safe' : `${status} ${complexity?.summary ?? ''} ${attack?.pattern ?? ''}`.trim();
}

/** Those that were found safe, as `everyRegex` writes and sorts them. */
export function listedRegexes(): string[] {
  return readFileSync(new URL('vectors/regexes.txt', import.meta.url), 'utf8')
    .trimEnd()
    .split('\n');
}
