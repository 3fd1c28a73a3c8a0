/**
 * Results for people and for programs: tables and fields, or JSON with the names of the API.
 *
 * What the server says is shown without control characters, so that a name in it cannot steer the terminal. The value of
 * a secret is never printed here.
 */
import { formatDuration } from '../config-duration.ts';
import { type Io, print } from './io.ts';

export type Column<T> = readonly [title: string, value: (item: T) => unknown];

/** A list: as a table, or as one JSON array that is written item by item. */
export async function printList<T>(
  io: Io,
  json: boolean,
  items: AsyncIterable<T> | Iterable<T>,
  columns: readonly Column<T>[],
): Promise<void> {
  if (json) return printArray(io, items);
  const rows = [columns.map(([title]) => title.toUpperCase())];
  for await (const item of items) rows.push(columns.map(([, value]) => cell(value(item))));
  await print(io.stdout, tableText(rows));
}

/** One thing: its fields under each other, or the JSON object. */
export async function printFields<T extends object>(
  io: Io,
  json: boolean,
  thing: T,
  fields: readonly Column<T>[],
): Promise<void> {
  if (json) return printJson(io, thing);
  await print(io.stdout, tableText(fields.map(([title, value]) => [`${title}:`, cell(value(thing))])));
}

/** A sentence for people; programs get the JSON, or nothing where there is nothing to say but that it is done. */
export async function printDone(io: Io, json: boolean, sentence: string, thing?: object): Promise<void> {
  if (!json) return print(io.stdout, `${clean(sentence)}\n`);
  if (thing !== undefined) await printJson(io, thing);
}

export function printJson(io: Io, thing: object): Promise<void> {
  return print(io.stdout, `${JSON.stringify(thing, null, 2)}\n`);
}

async function printArray<T>(io: Io, items: AsyncIterable<T> | Iterable<T>): Promise<void> {
  let separator = '[';
  for await (const item of items) {
    await print(io.stdout, `${separator}\n  ${JSON.stringify(item)}`);
    separator = ',';
  }
  await print(io.stdout, separator === '[' ? '[]\n' : '\n]\n');
}

/** Without what could steer a terminal or hide text in it. */
export function clean(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu, '\ufffd');
}

function cell(value: unknown): string {
  if (value === null || value === undefined || value === '') return '-';
  if (Array.isArray(value)) return value.length === 0 ? '-' : clean(value.join(', '));
  if (typeof value === 'boolean') return value ? 'yes' : 'no';
  return clean(String(value));
}

function tableText(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, i) => Math.max(...rows.map((row) => row[i]!.length)));
  const lines = rows.map((row) =>
    row
      .map((text, i) => text.padEnd(widths[i]!))
      .join('  ')
      .trimEnd(),
  );
  return `${lines.join('\n')}\n`;
}

/** Seconds as people give them: `15m`. */
export function duration(seconds: number | null | undefined): string | undefined {
  return typeof seconds === 'number' ? formatDuration(seconds) : undefined;
}

/** `2026-01-31T12:00:00.123456Z` as people read it: to the second. */
export function time(text: string | null | undefined): string | undefined {
  return text?.replace(/\.\d+Z$/, 'Z').replace('T', ' ');
}
