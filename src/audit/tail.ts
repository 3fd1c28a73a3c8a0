/**
 * Following a log: entries as they are committed, as server-sent events.
 *
 *     id: <seq> ␊ data: <canonical line> ␊ ␊            a comment line every few seconds while there is nothing
 *
 * The permission is recorded once, when the tail starts; whether the token still may is looked at again before every
 * piece, so that a tail ends within a second after its access does. A reader that is too slow is waited for: entries are
 * read from the log when they are asked for, and nothing is kept for anybody.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type TenantId, transaction } from '../db/database.ts';
import { type Call, proves, readAccess, refusal, resolve } from '../policy/access.ts';
import { permit } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import { CHUNK_ENTRIES, firstSegment, segments } from './export.ts';

const ask = { action: 'audit.read', resource: 'audit:log' } as const;
const LOOK_EVERY_MS = 500;
const COMMENT_EVERY_MS = 15_000;

/** The tails of a vault, so that a stop need not wait for them. */
const tails = new WeakMap<Vault, AbortController>();

function stopOf(vault: Vault): AbortSignal {
  const controller = tails.get(vault) ?? new AbortController();
  tails.set(vault, controller);
  return controller.signal;
}

/** Ends every tail, running and to come. */
export function endTails(vault: Vault): void {
  stopOf(vault);
  tails.get(vault)!.abort();
}

/** Starts after the last entry unless told where. Throws what `permit` throws. */
export async function tailEntries(vault: Vault, call: Call, fromIndex?: number): Promise<AsyncIterable<string>> {
  const { tenant, size } = await permit(vault, call, ask, async (tx, granted) => {
    const [head] = await tx<{ size: number }[]>`SELECT size FROM audit_heads WHERE tenant_id = ${granted.tenant}`;
    const details = { export: 'tail', ...(fromIndex === undefined ? {} : { from_index: fromIndex }) };
    return { value: { tenant: granted.tenant, size: head!.size }, notes: [{ details }] };
  });
  return follow(vault, call, tenant, fromIndex ?? size);
}

async function* follow(vault: Vault, call: Call, tenant: TenantId, from: number): AsyncGenerator<string> {
  const stop = stopOf(vault);
  let next = from;
  let quietMs = 0;
  yield ': the log from here on\n\n';
  while (!stop.aborted) {
    const size = await sizeWhileAllowed(vault, call, tenant);
    if (size === undefined) return;
    if (size > next) {
      const text = await eventsOf(vault, tenant, next, Math.min(size, next + CHUNK_ENTRIES));
      next = Math.min(size, next + CHUNK_ENTRIES);
      quietMs = 0;
      yield text;
      continue;
    }
    if (quietMs >= COMMENT_EVERY_MS) {
      quietMs = 0;
      yield ':\n\n';
    }
    quietMs += LOOK_EVERY_MS;
    await sleep(LOOK_EVERY_MS, undefined, { signal: stop }).catch(() => undefined);
  }
}

/** The log's size, or undefined when the caller may not read it any more. */
async function sizeWhileAllowed(vault: Vault, call: Call, tenant: TenantId): Promise<number | undefined> {
  const token = call.token!;
  return transaction(vault.db, [tenant], async (tx) => {
    const [row] = await readAccess(tx, [token]);
    if (!row || !proves(row, token)) return undefined;
    if (refusal(await resolve(vault, tx, token, row, call.source), [ask], call)) return undefined;
    const [head] = await tx<{ size: number }[]>`SELECT size FROM audit_heads WHERE tenant_id = ${tenant}`;
    return head!.size;
  });
}

async function eventsOf(vault: Vault, tenant: TenantId, from: number, end: number): Promise<string> {
  const rows = await segments(vault, tenant, await firstSegment(vault, tenant, from), end, {});
  let text = '';
  for (const { firstSeq, lines } of rows) {
    lines
      .split('\n')
      .slice(0, -1)
      .forEach((line, i) => {
        const seq = firstSeq + i;
        if (seq >= from && seq < end) text += `id: ${seq}\ndata: ${line}\n\n`;
      });
  }
  return text;
}
