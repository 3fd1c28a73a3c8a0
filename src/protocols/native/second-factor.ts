/** One's own second factor, and taking another user's away. */
import { z } from '@hono/zod-openapi';
import {
  confirmFactor,
  elevate as elevateSession,
  enrolFactor,
  readFactor,
  removeFactor,
  renewRecoveryCodes,
  resetFactor,
} from '../../auth/second-factor.ts';
import { endpoint, json, noContent } from './endpoint.ts';
import { password, totp } from './schema.ts';
import { ACCESSOR, accessor, ends, endsExample, endsOf, tokenText } from './token.ts';

const codeBody = z.strictObject({ totp });
const CODE = { totp: '123456' };
const recoveryCodes = z
  .array(z.string())
  .openapi({ description: 'Shown this once. Each takes the place of a code, once.' });
const RECOVERY_CODES = ['k3v2m-5qy7d-zr4ab-c6def-ghijk'];
const session = { token: tokenText, accessor, ...ends };
const SESSION = { token: 'bulla_…', accessor: ACCESSOR, ...endsExample };

export const read = endpoint(
  {
    method: 'get',
    path: '/auth/totp',
    id: 'readTotp',
    tag: 'login',
    summary: 'Whether one has a second factor',
    answers: {
      200: {
        about: 'Never the seed.',
        schema: z
          .object({
            state: z.enum(['none', 'pending', 'active']),
            required: z.boolean(),
            recovery_codes_left: z.int(),
          })
          .openapi('Totp'),
        example: { state: 'active', required: false, recovery_codes_left: 10 },
      },
    },
    errors: [],
  },
  async ({ vault, call }) => {
    const { state, required, recoveryCodesLeft } = await readFactor(vault, call);
    return json(200, { state, required, recovery_codes_left: recoveryCodesLeft });
  },
);

export const enrol = endpoint(
  {
    method: 'post',
    path: '/auth/totp',
    id: 'enrolTotp',
    tag: 'login',
    summary: 'Begin to use a second factor',
    description:
      'Makes a TOTP seed (RFC 6238: SHA-1, 6 digits, 30 s) that counts once it is confirmed, within 15 minutes. Whoever has a factor already shows a code of it.',
    body: z.strictObject({ password, totp: totp.optional() }),
    bodyExample: { password: 'correct horse battery staple' },
    answers: {
      201: {
        about: 'The seed, this once.',
        schema: z
          .object({ secret: z.string(), uri: z.string().openapi({ description: 'For a QR code.' }) })
          .openapi('TotpSeed'),
        example: { secret: 'JBSWY3DPEHPK3PXP…', uri: 'otpauth://totp/Bulla:app%40acme?issuer=Bulla&secret=…' },
      },
    },
    errors: ['login_failed', 'totp_required', 'conflict', 'not_found'],
  },
  async ({ vault, call, body }) =>
    json(201, await enrolFactor(vault, call, { password: body.password, code: body.totp })),
);

export const confirm = endpoint(
  {
    method: 'post',
    path: '/auth/totp/confirm',
    id: 'confirmTotp',
    tag: 'login',
    summary: 'Show a code of the new second factor',
    description:
      'From here on it counts. The session goes on under the token of the answer; all others of the user end.',
    body: codeBody,
    bodyExample: CODE,
    answers: {
      200: {
        about: 'The session, and the recovery codes this once.',
        schema: z.object({ ...session, recovery_codes: recoveryCodes }).openapi('TotpConfirmed'),
        example: { ...SESSION, recovery_codes: RECOVERY_CODES },
      },
    },
    errors: ['login_failed', 'conflict', 'not_found'],
  },
  async ({ vault, call, body }) => {
    const done = await confirmFactor(vault, call, body.totp);
    const { token, accessor: name, recoveryCodes: codes } = done;
    return json(200, { token, accessor: name, ...endsOf(done), recovery_codes: codes });
  },
);

export const remove = endpoint(
  {
    method: 'post',
    path: '/auth/totp/remove',
    id: 'removeTotp',
    tag: 'login',
    summary: 'Take one’s own second factor away',
    description: 'Needs a code of it, or a recovery code. Ends every session of the user.',
    body: codeBody,
    bodyExample: CODE,
    answers: { 204: { about: 'The password alone logs in from here on.' } },
    errors: ['login_failed', 'conflict', 'not_found'],
  },
  async ({ vault, call, body }) => {
    await removeFactor(vault, call, body.totp);
    return noContent();
  },
);

export const codes = endpoint(
  {
    method: 'post',
    path: '/auth/totp/recovery-codes',
    id: 'renewRecoveryCodes',
    tag: 'login',
    summary: 'Make new recovery codes in place of those that are left',
    body: codeBody,
    bodyExample: CODE,
    answers: {
      200: {
        about: 'Shown this once.',
        schema: z.object({ recovery_codes: recoveryCodes }).openapi('RecoveryCodes'),
        example: { recovery_codes: RECOVERY_CODES },
      },
    },
    errors: ['login_failed', 'conflict', 'not_found'],
  },
  async ({ vault, call, body }) => json(200, { recovery_codes: await renewRecoveryCodes(vault, call, body.totp) }),
);

export const elevate = endpoint(
  {
    method: 'post',
    path: '/auth/elevate',
    id: 'elevate',
    tag: 'login',
    summary: 'Show the second factor again',
    description: 'The session goes on under the token of the answer; the one that is shown ends, with all below it.',
    body: codeBody,
    bodyExample: CODE,
    answers: {
      200: { about: 'The session.', schema: z.object(session).openapi('Elevated'), example: SESSION },
    },
    errors: ['login_failed', 'conflict', 'not_found'],
  },
  async ({ vault, call, body }) => {
    const done = await elevateSession(vault, call, body.totp);
    return json(200, { token: done.token, accessor: done.accessor, ...endsOf(done) });
  },
);

export const reset = endpoint(
  {
    method: 'delete',
    path: '/users/{name}/totp',
    id: 'removeUserTotp',
    tag: 'users',
    summary: 'Take another user’s second factor away',
    description: 'For whoever has lost it and every recovery code. Ends every session of the user.',
    answers: { 204: { about: 'The password alone logs in from here on.' } },
    errors: ['not_found', 'conflict'],
  },
  async ({ vault, call, param }) => {
    await resetFactor(vault, call, param);
    return noContent();
  },
);
