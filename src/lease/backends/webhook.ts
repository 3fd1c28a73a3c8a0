/**
 * Webhook: an HTTP endpoint of the user's makes and ends credentials, so that anything can be a backend (docs/leases.md
 * has the protocol). Each request is signed, and is repeated under the same id when its outcome is not known (webhook.ts).
 */
import { z } from 'zod';
import { VaultError } from '../../errors.ts';
import { postSigned, webhookCa, webhookSecret, webhookUrl } from '../../webhook.ts';
import { type Act, type Backend, type BackendMember, backendFailed, type Credential } from '../backend.ts';

const config = z.strictObject({ url: webhookUrl, secret: webhookSecret, ca: webhookCa.optional() });
type Config = z.output<typeof config>;

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

function connect(configured: Config, networks: Outbound): Backend<Role> {
  const call = async (type: string, id: string, body: object, { signal }: Pick<Act<Role>, 'signal'>) => {
    let sent = false;
    try {
      const asked = { id: `${type}_${id}`, body: { type, ...body } };
      return await postSigned(configured, asked, { networks, signal, bytesMax: ANSWER_BYTES_MAX }, () => {
        sent = true;
      });
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
