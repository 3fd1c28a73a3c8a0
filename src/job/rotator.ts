/**
 * Rotators at work: what is due is made and stored, and who wants to know is told. Order only: values come from here, from
 * a static account (lease/) or from an endpoint, and secret/rotation.ts claims and stores.
 *
 * Every node looks; SKIP LOCKED and claims share the work out. An endpoint that hangs keeps one of a few workers for its
 * deadline at most, and its own secret waiting, later and later, for ever.
 */
import { randomInt } from 'node:crypto';
import { dicewarePassphrase } from '../crypto/wordlist.ts';
import { killpoint } from '../db/killpoint.ts';
import { VaultError } from '../errors.ts';
import { followAccount } from '../lease/check-out.ts';
import type { Call } from '../policy/access.ts';
import type { SecretPath } from '../secret/path.ts';
import {
  type ClaimedSecret,
  claimAsked,
  claimNotice,
  claimSecret,
  concludeNotice,
  type DueSecret,
  type MadeValue,
  noteFailure,
  readDueNotices,
  readDueSecrets,
  rotatorOf,
  type Storing,
  storeValue,
} from '../secret/rotation.ts';
import {
  configOf,
  type NewRotator,
  PASSWORD_ALPHABET,
  PASSWORD_LENGTH,
  putRotator,
  type RotatorInfo,
  rotatingNow,
} from '../secret/rotator.ts';
import type { Vault } from '../vault.ts';
import { postSigned, type Webhook } from '../webhook.ts';

const AT_ONCE = 8;
const LOOKED_AT = 200;
const HOOK_DEADLINE_MS = 10_000;
const ANSWER_BYTES_MAX = 1024 * 1024;

/** Rotates and tells what is due now, a few at a time. */
export async function rotateDueSecrets(vault: Vault): Promise<void> {
  await each(vault, await readDueSecrets(vault, LOOKED_AT), async (due) => {
    const claimed = await claimSecret(vault, due);
    if (claimed) await rotateClaimed(vault, claimed);
  });
  await tellDue(vault, await readDueNotices(vault, LOOKED_AT));
}

async function each(vault: Vault, due: readonly DueSecret[], work: (one: DueSecret) => Promise<void>): Promise<void> {
  const left = due.values();
  const worker = async () => {
    for (const one of left) {
      if (vault.seal.sealed) return;
      try {
        await work(one);
      } catch (error) {
        // What is wrong with one is in its row, or is the database's; it keeps no other from being rotated.
        const reason = error instanceof VaultError ? error.message : error;
        vault.log.warn({ secret: one.secretId, reason }, 'a rotator failed; the next look tries again');
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, due.length) }, worker));
}

/** Rotates one secret now. Throws why it was not; that is tried again by itself. */
export async function rotateSecret(vault: Vault, call: Call, path: SecretPath): Promise<RotatorInfo> {
  const claimed = await claimAsked(vault, call, path);
  await rotateClaimed(vault, claimed);
  const { tenant, secretId } = claimed;
  // Whoever waits for the answer does not wait for those who are told.
  void tellDue(vault, [{ tenant, secretId }]).catch(() => undefined);
  return rotatorOf(vault, claimed);
}

/** A secret that has no version yet has one when this returns, unless that fails; it is then tried again by itself. */
export async function putRotatorAndRotate(
  vault: Vault,
  call: Call,
  path: SecretPath,
  wanted: NewRotator,
): Promise<RotatorInfo & { readonly created: boolean }> {
  const { tenant, secretId, isEmpty, ...info } = await putRotator(vault, call, path, wanted);
  if (!isEmpty) return info;
  const claimed = await claimSecret(vault, { tenant, secretId });
  if (!claimed) return info;
  await rotateClaimed(vault, claimed).catch((error) => {
    if (!(error instanceof VaultError)) throw error;
  });
  return { ...(await rotatorOf(vault, claimed)), created: info.created };
}

async function rotateClaimed(vault: Vault, claimed: ClaimedSecret): Promise<void> {
  killpoint('rotator.claimed');
  let made: MadeValue;
  try {
    made = await makeValue(vault, claimed);
  } catch (error) {
    throw await failed(vault, claimed, error);
  }
  killpoint('rotator.made');
  let stored: Storing;
  try {
    stored = await storeValue(vault, claimed, made);
  } catch (error) {
    throw await failed(vault, claimed, error);
  }
  killpoint('rotator.stored');
  if (stored === 'lost') throw rotatingNow(claimed.path);
  if (stored !== 'overtaken') return;
  throw new VaultError('conflict', `Somebody has written ${claimed.path} meanwhile: their version stays.`);
}

async function failed(vault: Vault, claimed: ClaimedSecret, error: unknown): Promise<unknown> {
  if (!(error instanceof VaultError)) return error;
  await noteFailure(vault, claimed, error);
  return error;
}

// ---- values -------------------------------------------------------------------------------------------------------

async function makeValue(vault: Vault, claimed: ClaimedSecret): Promise<MadeValue> {
  const { tenant, secretId } = claimed;
  const config = await configOf(vault, tenant, secretId);
  switch (config.kind) {
    case 'password':
      return {
        value: passwordOf(config.length ?? PASSWORD_LENGTH, config.alphabet ?? PASSWORD_ALPHABET),
        isOutside: false,
      };
    case 'diceware':
      return { value: await dicewarePassphrase(), isOutside: false };
    case 'account': {
      const { credential, rotatedAt } = await followAccount(vault, tenant, config.account!, {
        since: claimed.followedAt,
        rotate: claimed.isDue,
      });
      const value = config.field === undefined ? credential : String(credential.password);
      return { value, isOutside: true, followedAt: rotatedAt };
    }
    case 'webhook':
      return { value: await askedOf(vault, claimed, config.webhook!), isOutside: true };
  }
}

const passwordOf = (length: number, alphabet: string) =>
  Array.from({ length }, () => alphabet[randomInt(alphabet.length)]).join('');

async function askedOf(
  vault: Vault,
  { attempt, path, base }: ClaimedSecret,
  hook: Webhook,
): Promise<MadeValue['value']> {
  const { status, body } = await post(vault, hook, `rotate_${attempt}`, { type: 'rotate', path, version: base });
  if (status < 200 || status >= 300) throw hookFailed(`The endpoint answered ${status} to rotate.`);
  let json: unknown;
  try {
    json = JSON.parse(body.toString('utf8'));
  } catch {
    throw hookFailed('The endpoint answered something else than JSON.');
  }
  const { text, data } = (typeof json === 'object' && json !== null ? json : {}) as { text?: unknown; data?: unknown };
  if (typeof text === 'string' && text !== '' && data === undefined) return text;
  if (typeof data === 'object' && data !== null && !Array.isArray(data) && text === undefined) {
    return data as Record<string, unknown>;
  }
  throw hookFailed('The endpoint answered neither {"text": …} nor {"data": {…}}.');
}

const hookFailed = (what: string) => new VaultError('backend_failed', what);

async function post(vault: Vault, hook: Webhook, id: string, body: object): Promise<{ status: number; body: Buffer }> {
  const limits = {
    networks: vault.config.outboundNetworks,
    signal: AbortSignal.timeout(HOOK_DEADLINE_MS),
    bytesMax: ANSWER_BYTES_MAX,
  };
  try {
    return await postSigned(hook, { id, body }, limits);
  } catch (error) {
    if (error instanceof VaultError) throw error;
    const code = (error as { code?: unknown })?.code;
    throw hookFailed(`The endpoint did not answer (${typeof code === 'string' ? code : 'connection lost'}).`);
  }
}

// ---- notices ------------------------------------------------------------------------------------------------------

function tellDue(vault: Vault, due: readonly DueSecret[]): Promise<void> {
  return each(vault, due, async (one) => {
    const notice = await claimNotice(vault, one);
    if (!notice) return;
    const { tenant, path, version, before, beforeReadableUntil, secretId } = notice;
    const body = {
      ...{ type: 'rotated', path, version },
      ...(before === null ? {} : { previous_version: before, previous_readable_until: beforeReadableUntil }),
    };
    let error: string | undefined;
    try {
      const { notify } = await configOf(vault, tenant, secretId);
      // Nobody wants to be told any more.
      if (notify === undefined) return await concludeNotice(vault, notice, undefined);
      const { status } = await post(vault, notify, `rotated_${secretId}_${version}`, body);
      if (status < 200 || status >= 300) error = `The endpoint answered ${status}.`;
    } catch (failure) {
      if (!(failure instanceof VaultError)) throw failure;
      error = failure.message;
    }
    await concludeNotice(vault, notice, error);
  });
}
