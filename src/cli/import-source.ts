/** What a source of `bulla import` gives: secrets on their way in, and how many. */

/** A secret on its way in: exactly one of data (the JSON text of an object), text and bytes, or why there is none. */
export type Incoming = { readonly path: string } & (
  | { readonly data: string }
  | { readonly text: string }
  | { readonly bytes: Uint8Array }
  | { readonly refused: string }
) & { readonly metadata?: Readonly<Record<string, string>> };

export type Source = { readonly total: number; readonly items: AsyncIterable<Incoming> | Iterable<Incoming> };

export const under = (prefix: string, path: string): string => (prefix === '' ? path : `${prefix}/${path}`);
