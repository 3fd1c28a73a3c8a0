/**
 * A connection that hears PostgreSQL's notifications. It connects again by itself when it was lost, and says so, because
 * what was sent meanwhile is gone: a notification only ever saves waiting, and nothing depends on one.
 *
 * Through a pooler that gives a connection to another client after each transaction nothing is heard; whoever listens looks
 * now and then by itself.
 */
import postgres from 'postgres';
import type { DatabaseOptions, Endpoint } from './database.ts';
import { parseLink } from './link.ts';
import { SESSION } from './session.ts';

export type Listening = { readonly close: () => Promise<void> };

/** `heard` is called for each notification and after each (re)connection. It must not throw. */
export function listen(
  { target, setRole }: Pick<DatabaseOptions, 'target' | 'setRole'>,
  channel: string,
  heard: () => void,
): Listening {
  const connection = { ...SESSION, application_name: 'bulla', ...(setRole ? { role: 'bulla_app' } : {}) };
  const options = {
    max: 1,
    idle_timeout: 0,
    max_lifetime: null,
    connect_timeout: 5,
    fetch_types: false,
    onnotice: () => undefined,
    connection,
  } as unknown as postgres.Options<Record<string, never>>;
  const link = typeof target === 'string' ? parseLink(target) : undefined;
  const sql = link
    ? postgres(link.url, { ...options, ...link.tls })
    : postgres({ ...options, ...(target as Endpoint) });
  const listening = sql.listen(channel, heard, heard).catch(() => undefined);
  return {
    close: async () => {
      await sql.end({ timeout: 0 });
      await listening;
    },
  };
}
