/**
 * The `transit` seal: the root key is encrypted by a transit key of another vault, HashiCorp's, OpenBao or Bulla.
 *
 * Address and token come from this machine's configuration only: an edited row must not send our token elsewhere. The
 * token is read from its file at every use, so that whoever rotates it only has to write the file, and is renewed while
 * the seal is open, at half of what is left of it.
 */
import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { VaultError } from '../errors.ts';
import {
  assertRoundTrip,
  bound,
  nameFingerprint,
  REMOTE_BLOB_BYTES_MAX,
  REMOTE_DEADLINE_MS,
  remoteSeal,
  unbound,
} from './remote.ts';
import type { Seal, SealMeans, SealMember } from './seal.ts';

const NAME = /^[A-Za-z0-9._/-]{1,256}$/;
const parameters = z.strictObject({ mount: z.string().regex(NAME), key: z.string().regex(NAME) });
type Parameters = z.output<typeof parameters>;

export const transitSeal: SealMember = {
  create: async (means) => {
    const { mount, key } = means.transit;
    const parsed = parameters.safeParse({ mount, key });
    if (!parsed.success) {
      throw new VaultError(
        'sealed',
        'BULLA_SEAL_TRANSIT_KEY is not set or not a name: name the transit key that is to seal the vault.',
      );
    }
    const seal = await transitKeySeal(means, parsed.data);
    await assertRoundTrip(seal);
    return { seal, parameters: parsed.data };
  },
  open: async (means, stored) => {
    const parsed = parameters.safeParse(stored.parameters);
    if (parsed.success) return transitKeySeal(means, parsed.data);
    throw new VaultError('integrity', 'The parameters of the transit seal were edited: restore the table seals.');
  },
};

const encrypted = z.object({ data: z.object({ ciphertext: z.string().min(1).max(REMOTE_BLOB_BYTES_MAX) }) });
const decrypted = z.object({ data: z.object({ plaintext: z.base64().max(1024) }) });

async function transitKeySeal(means: SealMeans, { mount, key }: Parameters): Promise<Seal> {
  const ask = asker(means);
  const renewal = renewing(ask, means.log);
  return remoteSeal({
    kind: 'transit',
    fingerprint: nameFingerprint('transit', mount, key),
    wrap: async (context, rootKey) => {
      const message = bound(context, rootKey);
      const plaintext = Buffer.from(message).toString('base64');
      message.fill(0);
      const { data } = await ask(`${mount}/encrypt/${key}`, { plaintext }, encrypted);
      return Buffer.from(data.ciphertext, 'utf8');
    },
    unwrap: async (context, wrapped) => {
      const ciphertext = Buffer.from(wrapped).toString('utf8');
      const { data } = await ask(`${mount}/decrypt/${key}`, { ciphertext }, decrypted);
      return unbound(context, Buffer.from(data.plaintext, 'base64'));
    },
    close: () => renewal.stop(),
  });
}

type Ask = <T>(path: string, body: object, schema: z.ZodType<T>) => Promise<T>;

function asker({ transit: { address, tokenFile } }: SealMeans): Ask {
  if (address === undefined || tokenFile === undefined) {
    throw new VaultError(
      'sealed',
      'The transit seal needs BULLA_SEAL_TRANSIT_ADDR and BULLA_SEAL_TRANSIT_TOKEN_FILE: where the other vault is, and the file with a token for it.',
    );
  }
  return async (path, body, schema) => {
    const token = await readToken(tokenFile);
    const response = await reach(address, path, {
      method: 'POST',
      headers: { 'X-Vault-Token': token, 'Content-Type': 'application/json' },
      body: JSON.stringify(body),
      redirect: 'error',
      signal: AbortSignal.timeout(REMOTE_DEADLINE_MS),
    });
    const parsed = response.ok ? schema.safeParse(await json(response)) : undefined;
    if (parsed?.success) return parsed.data;
    const said = response.ok ? 'with something else than the protocol says' : `with status ${response.status}`;
    throw unreachable(address, `it answered ${said}`);
  };
}

async function reach(address: string, path: string, request: RequestInit): Promise<Response> {
  try {
    return await fetch(new URL(`/v1/${path}`, address), request);
  } catch (error) {
    const code = (error as { cause?: { code?: unknown } }).cause?.code ?? (error as Error).name;
    throw unreachable(address, `it cannot be reached (${String(code)})`);
  }
}

async function json(response: Response): Promise<unknown> {
  try {
    return await response.json();
  } catch {
    return undefined;
  }
}

async function readToken(file: string): Promise<string> {
  try {
    return (await readFile(file, 'utf8')).trim();
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    throw new VaultError(
      'sealed',
      `The token of the transit seal cannot be read from ${file} (${code}): put it there, or set BULLA_SEAL_TRANSIT_TOKEN_FILE.`,
    );
  }
}

/** The address is the operator's own and is named; the other side's words are not repeated. */
function unreachable(address: string, what: string): VaultError {
  return new VaultError(
    'sealed',
    `The transit seal asks ${new URL(address).origin}, and ${what}: check that it runs and is unsealed, the key, and the token with its policy.`,
    { retryAfterSeconds: 5 },
  );
}

const renewed = z.object({ auth: z.object({ lease_duration: z.number(), renewable: z.boolean() }) });
const RENEW_SECONDS_MIN = 1;
const RENEW_SECONDS_MAX = 3600;
const RENEW_AGAIN_SECONDS = 30;

/** Renews at half of the time that is left; a token that cannot be renewed is left to whoever writes the file. */
function renewing(ask: Ask, log: SealMeans['log']): { stop: () => void } {
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;
  const next = (seconds: number) => {
    if (!stopped) timer = setTimeout(() => void renew(), seconds * 1000).unref();
  };
  const renew = async () => {
    try {
      const { auth } = await ask('auth/token/renew-self', {}, renewed);
      const half = auth.lease_duration / 2;
      next(auth.renewable ? Math.min(Math.max(half, RENEW_SECONDS_MIN), RENEW_SECONDS_MAX) : RENEW_SECONDS_MAX);
    } catch (error) {
      log(`the token of the transit seal was not renewed: ${error instanceof VaultError ? error.message : 'unknown'}`);
      next(RENEW_AGAIN_SECONDS);
    }
  };
  void renew();
  return {
    stop: () => {
      stopped = true;
      clearTimeout(timer);
    },
  };
}
