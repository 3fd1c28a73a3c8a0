/**
 * Webhook: an HTTP endpoint of the user's makes and ends credentials, so that anything can be a backend (docs/leases.md
 * has the protocol). Each request is signed as in the Standard Webhooks specification (standardwebhooks.com), so that the
 * endpoint can tell ours from others', and is repeated under the same `webhook-id` when its outcome is not known: whoever
 * has done it answers again and does nothing.
 */
import { createHmac } from 'node:crypto';
import { z } from 'zod';
import { VaultError } from '../../errors.ts';
import { fetchOutbound } from '../../outbound.ts';
import { type Act, type Backend, type BackendMember, backendFailed, type Credential } from '../backend.ts';

const SECRET = /^whsec_[A-Za-z0-9+/]{32,88}={0,2}$/;

const config = z.strictObject({
  url: z
    .url({ protocol: /^https?$/ })
    .max(2048)
    .refine((text) => !/^[a-z]+:\/\/[^/]*@/.test(text), 'expected no user or password in the URL'),
  /** `whsec_` and 24 to 64 random bytes in base64: the key of the signatures. */
  secret: z
    .string()
    .regex(SECRET, 'expected whsec_ and 24 to 64 bytes in base64')
    .refine((text) => keyOf(text).length >= 24 && keyOf(text).length <= 64, 'expected 24 to 64 bytes'),
  /** PEM of the authorities to trust instead of the system's. */
  ca: z
    .string()
    .max(64 * 1024)
    .optional(),
});
type Config = z.output<typeof config>;

const keyOf = (secret: string) => Buffer.from(secret.slice('whsec_'.length), 'base64');

/** Passed on to the endpoint as they are: what they mean is its to say. */
const settingValue = z.union([z.string().max(4096), z.number(), z.boolean()]);
const role = z.strictObject({
  settings: z.record(z.string().regex(/^[a-z][a-z0-9_]{0,63}$/), settingValue).default({}),
});
type Role = z.output<typeof role>;

const parameters = z.record(z.string().regex(/^[a-z][a-z0-9_]{0,63}$/), settingValue);

const credentialSchema = z.record(z.string().min(1).max(64), z.union([z.string().max(16 * 1024), z.number()]));
const answerSchema = z.object({ credential: credentialSchema });

const ANSWER_BYTES_MAX = 64 * 1024;

export const webhookBackend: BackendMember<Config, Role> = {
  config,
  secretFields: ['secret'],
  role,
  parameters,
  prepare: ({ holder, roleName, leaseId, parameters: asked }) => ({
    handle: `bulla_${leaseId}`,
    credential: { holder, role: roleName, ...(asked as z.output<typeof parameters> as Credential) },
  }),
  connect: (configured, { outbound }) => connect(configured, outbound),
};

function connect({ url, secret, ca }: Config, networks: Outbound): Backend<Role> {
  const call = async (type: string, id: string, body: object, { signal }: Pick<Act<Role>, 'signal'>) => {
    const text = JSON.stringify({ type, ...body });
    let sent = false;
    try {
      return await fetchOutbound(
        {
          ...{ method: 'POST', url: new URL(url), body: text, ca, networks, signal, bytesMax: ANSWER_BYTES_MAX },
          headers: { 'content-type': 'application/json', ...signatureOf(secret, `${type}_${id}`, text) },
        },
        () => {
          sent = true;
        },
      );
    } catch (error) {
      if (error instanceof VaultError && (type === 'check' || sent === false)) throw error;
      const code = (error as { code?: unknown })?.code;
      const what = `The endpoint did not answer (${typeof code === 'string' ? code : 'connection lost'}).`;
      throw backendFailed(what, sent ? 'unknown' : 'unreached', error);
    }
  };
  return {
    check: async (act) => {
      const { status } = await call('check', 'configuration', {}, act);
      if (status >= 200 && status < 300) return;
      throw new VaultError('invalid_request', `url: the endpoint answered ${status} to a check; expected 2xx.`);
    },
    issue: async ({ handle, role: { settings }, prepared, expiresAt, ...act }) => {
      const { holder, role: roleName, ...asked } = prepared.credential;
      const body = { handle, role: roleName, holder, settings, parameters: asked, expires_at: expiresAt };
      const { status, body: answer } = await call('issue', handle, body, act);
      expectDone('issue', status);
      return credentialOf(answer);
    },
    // The time belongs to what is asked for: a later renewal is another request.
    renew: async ({ handle, role: { settings }, expiresAt, ...act }) => {
      const body = { handle, settings, expires_at: expiresAt };
      expectDone('renew', (await call('renew', `${handle}_${Date.parse(expiresAt)}`, body, act)).status);
    },
    revoke: async ({ handle, role: { settings }, ...act }) => {
      const { status } = await call('revoke', handle, { handle, settings }, act);
      if (status !== 404 && status !== 410) expectDone('revoke', status);
    },
    close: async () => undefined,
  };
}

type Outbound = Parameters<BackendMember['connect']>[1]['outbound'];

/** standardwebhooks.com: `v1,` and HMAC-SHA-256 over id, time and body, in base64. */
function signatureOf(secret: string, id: string, body: string): Record<string, string> {
  const timestamp = String(Math.floor(Date.now() / 1000));
  const mac = createHmac('sha256', keyOf(secret)).update(`${id}.${timestamp}.${body}`).digest('base64');
  return { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': `v1,${mac}` };
}

/** 4xx is a no; 5xx, and a redirect that is not followed, say nothing of what was done. */
function expectDone(act: string, status: number): void {
  if (status >= 200 && status < 300) return;
  const refused = status >= 400 && status < 500;
  throw backendFailed(`The endpoint answered ${status} to ${act}.`, refused ? 'refused' : 'unknown');
}

/** An answer that cannot be read may stand beside a credential that was made: it is revoked as one of unknown outcome. */
function credentialOf(body: Buffer): Credential {
  let json: unknown;
  try {
    json = JSON.parse(body.toString('utf8'));
  } catch {
    throw backendFailed('The endpoint answered something else than JSON.', 'unknown');
  }
  const parsed = answerSchema.safeParse(json);
  if (parsed.success) return parsed.data.credential;
  throw backendFailed('The endpoint answered no {"credential": {…}} of texts and numbers.', 'unknown');
}
