/** One's own sessions. */
import { z } from '@hono/zod-openapi';
import { endOtherSessions, endSession, listSessions, type Session } from '../../auth/session.ts';
import { endpoint, json, noContent, page } from './endpoint.ts';
import { listOf, pageQuery } from './schema.ts';
import { shapeOf, TOKEN_EXAMPLE, tokenFields } from './token.ts';

const session = z.object({ ...tokenFields, current: z.boolean() }).openapi('Session');
const EXAMPLE = { ...TOKEN_EXAMPLE, current: true };
const shape = (found: Session) => ({ ...shapeOf(found), current: found.current });

export const list = endpoint(
  {
    method: 'get',
    path: '/auth/sessions',
    id: 'listSessions',
    tag: 'login',
    summary: 'List one’s own sessions',
    description: 'Every login that goes on and every token made with one, by accessor.',
    query: pageQuery,
    answers: {
      200: {
        about: 'Never the tokens themselves.',
        schema: listOf(session),
        example: { items: [EXAMPLE], next_cursor: null },
      },
    },
    errors: [],
  },
  async ({ vault, call, query }) => page(await listSessions(vault, call, query), shape),
);

export const end = endpoint(
  {
    method: 'delete',
    path: '/auth/sessions/{accessor}',
    id: 'endSession',
    tag: 'login',
    summary: 'End one of one’s own sessions',
    answers: { 204: { about: 'It has ended, on every node, with all that hangs under it.' } },
    errors: ['not_found'],
  },
  async ({ vault, call, param }) => {
    await endSession(vault, call, param);
    return noContent();
  },
);

export const endOthers = endpoint(
  {
    method: 'delete',
    path: '/auth/sessions',
    id: 'endOtherSessions',
    tag: 'login',
    summary: 'End all of one’s own sessions but this one',
    answers: {
      200: {
        about: 'How many have ended.',
        schema: z.object({ ended: z.int() }).openapi('SessionsEnded'),
        example: { ended: 2 },
      },
    },
    errors: [],
  },
  async ({ vault, call }) => json(200, { ended: await endOtherSessions(vault, call) }),
);
