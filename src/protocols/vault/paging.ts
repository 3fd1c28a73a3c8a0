/** Lists of ours come in pages; those of this API are whole. */
import type { Page, PageAsk } from '../../db/page.ts';
import { type Answer, keys } from './answer.ts';
import { notFound } from './error.ts';
import type { Handler, VaultRequest } from './route.ts';

const PAGE = 1000;

/** What all pages have, in order. */
export async function* itemsOf<T>(pageAt: (ask: PageAsk) => Promise<Page<T>>): AsyncGenerator<T, void, undefined> {
  let cursor: string | undefined;
  do {
    const { items, nextCursor } = await pageAt({ limit: PAGE, cursor });
    yield* items;
    cursor = nextCursor ?? undefined;
  } while (cursor !== undefined);
}

/** A list of names; one that is empty is not there. */
export const listing =
  <T>(
    pageAt: (request: VaultRequest, ask: PageAsk) => Promise<Page<T>>,
    nameOf: (item: T) => string | undefined,
    mountType: string,
  ): Handler =>
  async (request): Promise<Answer> => {
    const names: string[] = [];
    for await (const item of itemsOf((ask) => pageAt(request, ask))) {
      const name = nameOf(item);
      if (name !== undefined) names.push(name);
    }
    if (names.length === 0) throw notFound();
    return keys(names, mountType);
  };
