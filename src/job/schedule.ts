/**
 * What happens by itself, once a minute on every node. Data keys, named keys and the root key past their age are rotated,
 * data keys with re-encryption: which version is rotated is said beforehand, so of two nodes that see the same key one
 * rotates it and the other finds that it is done. And what has ended long ago is forgotten. None of it while the vault is
 * sealed, nor while the time is in doubt (lease/clock.ts): a clock that jumps would set all of it off at once.
 */
import { VAULT_ACTOR } from '../audit/entry.ts';
import { forgetEnded } from '../auth/ended.ts';
import { randomId } from '../crypto/token.ts';
import { SYSTEM } from '../db/database.ts';
import { VaultError } from '../errors.ts';
import { lookAtClock, type SeenClock } from '../lease/clock.ts';
import { withoutToken } from '../policy/permit.ts';
import { advanceMark, type DueKey, dueRootKey, readDueDataKeys, type SeenMark } from '../tenant/age.ts';
import { replaceRoot } from '../tenant/root-key.ts';
import { rotateDataKey } from '../tenant/rotation.ts';
import { followRootMark } from '../tenant/self-test.ts';
import { readDueNamedKeys, rotateByItself } from '../transit/rotate.ts';
import type { Vault } from '../vault.ts';
import { insertJob, wake } from './job.ts';
import { recordRootRotation } from './reencrypt.ts';
import { rotateDueSecrets } from './rotator.ts';

const LOOK_MS = 60_000;
const ROTATED_AT_ONCE = 100;

export type Schedule = { readonly stop: () => Promise<void> };

/** `rootMarkFile`: where the newest root key that this node has seen is kept. */
export function startSchedule(vault: Vault, rootMarkFile?: string): Schedule {
  let seen: SeenMark | undefined;
  let seenClock: SeenClock | undefined;
  let running: Promise<void> = Promise.resolve();
  let rotating: Promise<void> | undefined;
  /** Beside the keys: an endpoint that hangs keeps no key waiting, and the next look waits for it. */
  const rotateSecrets = () => {
    rotating ??= rotateDueSecrets(vault)
      .catch((error) => {
        const reason = error instanceof VaultError ? error.message : error;
        vault.log.warn({ reason }, 'secrets that are due were not looked for; the next look tries again');
      })
      .finally(() => {
        rotating = undefined;
      });
  };
  const isTime = async () => {
    const clock = await lookAtClock(vault, seenClock);
    seenClock = clock.seen;
    return !clock.latched;
  };
  const look = async () => {
    if (vault.seal.sealed) return;
    try {
      seen = await advanceMark(vault, seen);
      if (!(await isTime())) return;
      rotateSecrets();
      await rotateDue(vault);
      if (rootMarkFile !== undefined) await followRootMark(vault, rootMarkFile);
    } catch (error) {
      const reason = error instanceof VaultError ? error.message : error;
      vault.log.warn({ reason }, 'a key that is due was not rotated; the next look tries again');
    }
    try {
      await forgetEnded(vault);
    } catch (error) {
      const reason = error instanceof VaultError ? error.message : error;
      vault.log.warn({ reason }, 'tokens that have ended were not forgotten; the next look tries again');
    }
  };
  const turn = () => {
    running = running.then(look);
  };
  turn();
  const timer = setInterval(turn, LOOK_MS).unref();
  return {
    stop: async () => {
      clearInterval(timer);
      await running;
      await rotating;
    },
  };
}

/** Rotates what is due now. */
export async function rotateDue(vault: Vault): Promise<void> {
  const root = await dueRootKey(vault);
  if (root !== undefined) await unlessDone(() => rotateRootByAge(vault, root));
  for (const due of await readDueDataKeys(vault, ROTATED_AT_ONCE)) {
    await unlessDone(() => rotateDataByAge(vault, due));
  }
  for (const { tenant, name, version } of await readDueNamedKeys(vault, ROTATED_AT_ONCE)) {
    await unlessItsOwn(vault, () => rotateByItself(vault, tenant, name, version, 'by_age'));
  }
}

/** Another node, or a person, was first. */
async function unlessDone(rotate: () => Promise<void>): Promise<void> {
  try {
    await rotate();
  } catch (error) {
    if (!(error instanceof VaultError && error.code === 'conflict')) throw error;
  }
}

/** What is wrong with one named key, or with its tenant, keeps no other from being rotated. */
async function unlessItsOwn(vault: Vault, rotate: () => Promise<void>): Promise<void> {
  try {
    await unlessDone(rotate);
  } catch (error) {
    if (!(error instanceof VaultError)) throw error;
    vault.log.warn({ code: error.code }, 'a named key that is due was not rotated; the next look tries again');
  }
}

const origin = () => ({ requestId: `schedule-${randomId()}`, source: '', protocol: 'vault' });
const said = { actor: VAULT_ACTOR, outcome: 'ok' } as const;

async function rotateRootByAge(vault: Vault, due: number): Promise<void> {
  await replaceRoot(vault, due, (act, options) =>
    withoutToken(
      vault,
      origin(),
      [SYSTEM],
      async (tx) => {
        const { rotation, note } = await act(tx);
        const { job } = await recordRootRotation(tx, rotation, 'vault');
        const details = { ...note.details, job, by_age: true };
        const about = { action: 'root-key.rotate', resource: 'key:root', version: rotation.version };
        return { value: rotation, records: [{ tenant: SYSTEM, ...said, ...about, details }] };
      },
      options,
    ),
  );
}

async function rotateDataByAge(vault: Vault, { tenant, version: due }: DueKey): Promise<void> {
  await withoutToken(vault, origin(), [tenant], async (tx) => {
    const { version, fingerprint } = await rotateDataKey(vault, tx, tenant, due);
    const wanted = { tenant, kind: 'reencrypt', subject: String(version), startedBy: 'vault' } as const;
    // Throws conflict while an earlier re-encryption is under way: the key is rotated when that has ended.
    const { id: job } = await insertJob(tx, wanted);
    const details = { fingerprint, job, by_age: true };
    const record = { tenant, ...said, action: 'key.rotate', resource: 'key:data', version, details };
    return { value: undefined, records: [record] };
  });
  wake(vault);
}
