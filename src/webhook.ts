/**
 * Signed requests to endpoints that people of a tenant configure, as in the Standard Webhooks specification
 * (standardwebhooks.com), so that an endpoint can tell ours from others'. What is asked again after an outcome that nobody
 * knows has the same `webhook-id`: whoever has done it answers again and does nothing.
 */
import { createHmac } from 'node:crypto';
import { z } from 'zod';
import { fetchOutbound, type OutboundAnswer, type OutboundRequest } from './outbound.ts';

const SECRET = /^whsec_[A-Za-z0-9+/]{32,88}={0,2}$/;

const keyOf = (secret: string) => Buffer.from(secret.slice('whsec_'.length), 'base64');

export const webhookUrl = z
  .url({ protocol: /^https?$/ })
  .max(2048)
  .refine((text) => !/^[a-z]+:\/\/[^/]*@/.test(text), 'expected no user or password in the URL');

/** `whsec_` and 24 to 64 random bytes in base64: the key of the signatures. */
export const webhookSecret = z
  .string()
  .regex(SECRET, 'expected whsec_ and 24 to 64 bytes in base64')
  .refine((text) => keyOf(text).length >= 24 && keyOf(text).length <= 64, 'expected 24 to 64 bytes');

/** PEM of the authorities to trust instead of the system's. */
export const webhookCa = z.string().max(64 * 1024);

export type Webhook = { readonly url: string; readonly secret: string; readonly ca?: string | undefined };

/** Throws what `fetchOutbound` throws. */
export function postSigned(
  { url, secret, ca }: Webhook,
  { id, body }: { readonly id: string; readonly body: object },
  limits: Pick<OutboundRequest, 'networks' | 'signal' | 'bytesMax'>,
  onSent?: () => void,
): Promise<OutboundAnswer> {
  const text = JSON.stringify(body);
  const headers = { 'content-type': 'application/json', ...signatureOf(secret, id, text) };
  return fetchOutbound({ method: 'POST', url: new URL(url), body: text, ca, headers, ...limits }, onSent);
}

/** `v1,` and HMAC-SHA-256 over id, time and body, in base64. */
function signatureOf(secret: string, id: string, body: string): Record<string, string> {
  const timestamp = String(Math.floor(Date.now() / 1000));
  const mac = createHmac('sha256', keyOf(secret)).update(`${id}.${timestamp}.${body}`).digest('base64');
  return { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': `v1,${mac}` };
}
