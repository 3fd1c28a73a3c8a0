/** /v1 as clients of Vault ask it: the token in a header of its own, PUT or POST, and JSON under whatever content type. */
import type { Answer, TestVault } from './harness.ts';

export type AskV1 = (
  method: string,
  path: string,
  /** A text goes as it is, all else as JSON. */
  body?: unknown,
  /** The admin's when none is said; an empty one is not sent. */
  token?: string,
  headers?: Record<string, string>,
) => Promise<Answer>;

/** `t` is made when the tests begin, so it is asked for; `under` is what every path begins with. */
export function v1Of(t: () => TestVault, under = ''): AskV1 {
  return (method, path, body, token = t().admin, headers = {}) =>
    t().request(method, `/v1/${under}${path}`, {
      headers: { ...(token === '' ? {} : { 'x-vault-token': token }), ...headers },
      ...(body === undefined ? {} : { raw: typeof body === 'string' ? body : JSON.stringify(body) }),
    });
}

export const errors = (answer: Answer) => [answer.status, answer.json?.errors];
