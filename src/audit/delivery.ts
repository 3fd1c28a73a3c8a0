/**
 * Checkpoints sent to places that whoever owns the database does not own: a directory, a webhook, a store that takes PUT,
 * a witness (c2sp.org/tlog-witness).
 *
 * Every checkpoint goes to every target, in order, at least once; a witness gets the newest. What fails is tried again,
 * later and later: a place that does not answer as a whole, a log that it refuses by itself, so that one log which a
 * witness does not know keeps no other from it. What a witness answers is never believed against our own log: a 409
 * only says from which size it wants the proof, and whether the log still extends what it cosigned is checked by
 * ourselves when we sign.
 */
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { findCosignature, parseWitnessKey, type WitnessKey } from '../crypto/cosignature.ts';
import { proveConsistency } from '../crypto/merkle.ts';
import { type TenantId, transaction } from '../db/database.ts';
import { VaultError } from '../errors.ts';
import type { Vault } from '../vault.ts';
import { originOf, readCheckpoint, type SignedCheckpoint } from './checkpoint.ts';
import { nodesOf, readExtent } from './tree.ts';

/** Sends one checkpoint; gives the note with the cosignature where there is one. Rejects when it has not arrived. */
type Send = (checkpoint: SignedCheckpoint) => Promise<string | undefined>;

export type Target = {
  readonly name: string;
  /** The newest checkpoint is enough. */
  readonly newestOnly: boolean;
  readonly send: Send;
  /** By log, or EVERY one. */
  readonly pauses: Map<TenantId | typeof EVERY, Pause>;
};

/** Until when nothing is tried, on the monotonic clock, after so many failures. */
type Pause = { readonly untilMs: number; readonly failures: number };

const EVERY = '';

const TIMEOUT_MS = 10_000;
const PAUSE_MS = 5_000;
const PAUSE_MAX_MS = 300_000;
const SENT_AT_ONCE = 100;

export function targetsOf(vault: Vault): Target[] {
  const { dir, webhook, put, witness } = vault.config.checkpointTargets;
  const target = (name: string, send: Send, newestOnly = false): Target => ({
    ...{ name, newestOnly, send, pauses: new Map() },
  });
  return [
    ...(dir === undefined ? [] : [target(`dir ${dir}`, writeTo(vault, dir))]),
    ...(webhook === undefined
      ? []
      : [
          target(
            `webhook ${webhook}`,
            sendTo(() => webhook, 'POST'),
          ),
        ]),
    ...(put === undefined
      ? []
      : [
          target(
            `put ${put}`,
            sendTo((checkpoint) => putUrl(vault, put, checkpoint), 'PUT'),
          ),
        ]),
    ...(witness
      ? [target(`witness ${witness.url}`, cosignedBy(vault, witness.url, parseWitnessKey(witness.key)), true)]
      : []),
  ];
}

/** `<dir>/<deployment>/<tenant>/<size, 16 digits>.note`, whole or not there. */
function writeTo(vault: Vault, dir: string): Send {
  return async ({ tenant, size, note }) => {
    const folder = join(dir, vault.deploymentId, tenant);
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const file = join(folder, `${String(size).padStart(16, '0')}.note`);
    writeFileSync(`${file}.new`, note, { mode: 0o600, flush: true });
    renameSync(`${file}.new`, file);
    return undefined;
  };
}

function putUrl(vault: Vault, prefix: string, { tenant, size }: SignedCheckpoint): string {
  return `${prefix.replace(/\/{1,16}$/, '')}/${originOf(vault, tenant)}/${size}`;
}

function sendTo(url: (checkpoint: SignedCheckpoint) => string, method: 'POST' | 'PUT'): Send {
  return async (checkpoint) => {
    const answer = await request(url(checkpoint), method, checkpoint.note);
    if (!answer.ok) throw refused(answer.status);
    return undefined;
  };
}

const OVERLOADED: ReadonlySet<number> = new Set([408, 429]);

/** `backend_failed`: the place is there and does not want this log, or not so. */
function refused(status: number): VaultError {
  const away = status >= 500 || OVERLOADED.has(status);
  const said = `The place that checkpoints are sent to answered ${status}.`;
  return new VaultError(away ? 'unavailable' : 'backend_failed', said);
}

async function request(
  url: string,
  method: 'POST' | 'PUT',
  body: string,
): Promise<{ ok: boolean; status: number; text: string }> {
  const answer = await fetch(url, {
    ...{ method, body, redirect: 'error' },
    headers: { 'content-type': 'text/plain; charset=utf-8' },
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  return { ok: answer.ok, status: answer.status, text: await beginningOf(answer) };
}

/** No more is read than is looked at: whoever is sent checkpoints cannot fill the memory. */
async function beginningOf(answer: Response): Promise<string> {
  const pieces: Uint8Array[] = [];
  let length = 0;
  for await (const piece of answer.body ?? []) {
    pieces.push(piece);
    length += piece.length;
    if (length >= ANSWER_BYTES_MAX) break;
  }
  return Buffer.concat(pieces).toString('utf8', 0, ANSWER_BYTES_MAX);
}

const ANSWER_BYTES_MAX = 16_384;
const CONFLICT = 409;

/** `old` SP size LF, the consistency proof in base64 lines, an empty line, the note. */
function cosignedBy(vault: Vault, url: string, key: WitnessKey): Send {
  const sizes = new Map<TenantId, number>();
  return async (checkpoint) => {
    const { tenant, size, note } = checkpoint;
    for (let attempt = 1; ; attempt += 1) {
      const old = Math.min(sizes.get(tenant) ?? 0, size);
      const body = `old ${old}\n${await proofText(vault, tenant, old, size)}\n${note}`;
      const answer = await request(`${url.replace(/\/{1,16}$/, '')}/add-checkpoint`, 'POST', body);
      if (answer.status === CONFLICT && attempt === 1) {
        const theirs = Number(answer.text.trim());
        if (!Number.isSafeInteger(theirs) || theirs < 0) throw refused(answer.status);
        sizes.set(tenant, theirs);
        // Another node has been here with a later one.
        if (theirs > size) return undefined;
        continue;
      }
      if (!answer.ok) throw refused(answer.status);
      const text = note.slice(0, note.lastIndexOf('\n\n') + 1);
      const line = findCosignature(answer.text, text, key);
      if (line === undefined) throw new VaultError('unavailable', 'The witness answered without its cosignature.');
      sizes.set(tenant, size);
      return `${note}${line}\n`;
    }
  };
}

async function proofText(vault: Vault, tenant: TenantId, old: number, size: number): Promise<string> {
  const proof = await transaction(vault.db, [tenant], async (tx) =>
    proveConsistency(old, size, nodesOf(tx, tenant, await readExtent(tx, tenant))),
  );
  return proof.map((hash) => `${Buffer.from(hash).toString('base64')}\n`).join('');
}

/** Sends what each target has not had yet of these logs. False when some of it waits for a later round; never rejects. */
export async function deliver(
  vault: Vault,
  targets: readonly Target[],
  tenants: readonly TenantId[],
): Promise<boolean> {
  let all = true;
  for (const target of targets) {
    for (const tenant of tenants) {
      if (isPaused(vault, target, EVERY)) {
        all = false;
        break;
      }
      all = (await attempt(vault, target, tenant)) && all;
    }
  }
  return all;
}

async function attempt(vault: Vault, target: Target, tenant: TenantId): Promise<boolean> {
  if (isPaused(vault, target, tenant)) return false;
  try {
    await deliverTo(vault, target, tenant);
    for (const of of [tenant, EVERY] as const) target.pauses.delete(of);
    return true;
  } catch (error) {
    const ofThisLog = error instanceof VaultError && error.code === 'backend_failed';
    pause(vault, target, ofThisLog ? tenant : EVERY, error);
    return false;
  }
}

const isPaused = (vault: Vault, { pauses }: Target, of: TenantId | typeof EVERY) =>
  vault.clock.monotonicMs() < (pauses.get(of)?.untilMs ?? 0);

function pause(vault: Vault, target: Target, of: TenantId | typeof EVERY, error: unknown): void {
  const failures = (target.pauses.get(of)?.failures ?? 0) + 1;
  const pauseMs = Math.min(PAUSE_MAX_MS, PAUSE_MS * 2 ** (failures - 1));
  target.pauses.set(of, { untilMs: vault.clock.monotonicMs() + pauseMs, failures });
  const reason = error instanceof Error ? error.message : 'unknown';
  const log = of === EVERY ? {} : { log: of };
  vault.log.warn({ target: target.name.split(' ')[0], ...log, failures, reason }, 'a checkpoint was not delivered');
}

async function deliverTo(vault: Vault, target: Target, tenant: TenantId): Promise<void> {
  for (const checkpoint of await undelivered(vault, target, tenant)) {
    const cosigned = await target.send(checkpoint);
    await transaction(vault.db, [tenant], async (tx) => {
      await tx`
        INSERT INTO audit_deliveries (tenant_id, target, delivered_size, cosigned)
        VALUES (${tenant}, ${target.name}, ${checkpoint.size}, ${cosigned ?? null})
        ON CONFLICT (tenant_id, target) DO UPDATE
          SET delivered_size = greatest(audit_deliveries.delivered_size, excluded.delivered_size),
              cosigned = coalesce(excluded.cosigned, audit_deliveries.cosigned)`;
    });
  }
}

async function undelivered(vault: Vault, { name, newestOnly }: Target, tenant: TenantId): Promise<SignedCheckpoint[]> {
  return transaction(vault.db, [tenant], async (tx) => {
    const [row] = await tx<{ size: number }[]>`
      SELECT delivered_size AS size FROM audit_deliveries WHERE tenant_id = ${tenant} AND target = ${name}`;
    const after = row?.size ?? 0;
    if (newestOnly) {
      const newest = await readCheckpoint(tx, tenant);
      return newest && newest.size > after ? [newest] : [];
    }
    return [
      ...(await tx<SignedCheckpoint[]>`
        SELECT tenant_id AS tenant, size, root, note, signed_at AS "signedAt" FROM audit_checkpoints
        WHERE tenant_id = ${tenant} AND size > ${after} ORDER BY size LIMIT ${SENT_AT_ONCE}`),
    ];
  });
}
