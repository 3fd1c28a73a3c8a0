/** The seal: its state, unsealing (open to strangers), sealing, moving to another seal, and checking shares. */
import { z } from '@hono/zod-openapi';
import { VaultError } from '../../errors.ts';

import { type Migration, migrateSeal } from '../../tenant/migration.ts';
import {
  checkSealShares,
  readSealState,
  SEAL_KINDS,
  type SealState,
  sealVault,
  unseal as unsealVault,
} from '../../tenant/seal.ts';
import { endpoint, json, noContent } from './endpoint.ts';

const kind = z.enum(SEAL_KINDS);
const SHARES_MAX = 32;
const share = z.string().max(256).openapi({ description: '`bulla-share-v1-…`, as it was shown.' });

const state = z
  .object({
    sealed: z.boolean(),
    kind,
    reason: z.enum(['operator', 'waiting', 'unreachable']).nullable().openapi({
      description:
        '`operator`: somebody sealed the vault. `waiting`: people must bring what opens it. `unreachable`: the seal cannot act now.',
    }),
    takes: z
      .enum(['share', 'passphrase'])
      .nullable()
      .openapi({ description: 'What POST /seal/unseal takes; null where the seal opens by itself or on its host.' }),
    progress: z
      .object({ given: z.int(), threshold: z.int(), shares: z.int() })
      .nullable()
      .openapi({ description: 'Shares that this node has, in memory only.' }),
  })
  .openapi('Seal');

const OPEN = { sealed: false, kind: 'shamir', reason: null, takes: null, progress: null };
const SHUT = {
  ...OPEN,
  sealed: true,
  reason: 'waiting',
  takes: 'share',
  progress: { given: 1, threshold: 3, shares: 5 },
};

const shape = ({ sealed, kind: of, reason, takes, progress }: SealState) => ({
  sealed,
  kind: of,
  reason: reason ?? null,
  takes: takes ?? null,
  progress: progress ?? null,
});

export const read = endpoint(
  {
    method: 'get',
    path: '/seal',
    id: 'sealState',
    tag: 'seal',
    summary: 'Whether the vault is sealed, and by what',
    description: 'Answers while the vault is sealed.',
    withoutToken: true,
    answers: { 200: { about: 'The state of the node that answers.', schema: state, example: SHUT } },
    errors: [],
  },
  async ({ vault }) => json(200, shape(readSealState(vault))),
);

export const unseal = endpoint(
  {
    method: 'post',
    path: '/seal/unseal',
    id: 'unseal',
    tag: 'seal',
    summary: 'Bring a share or the passphrase',
    description:
      'Answers while the vault is sealed, and each node is unsealed by itself. What does not fit is dropped and changes nothing; what fits is kept in memory until it is enough. There is no way to start over or to cancel.',
    withoutToken: true,
    body: z.strictObject({ share: share.optional(), passphrase: z.string().max(4096).optional() }),
    bodyExample: { share: 'bulla-share-v1-…' },
    answers: { 200: { about: 'The state after it.', schema: state, example: OPEN } },
    errors: ['conflict', 'integrity', 'outcome_unknown', 'too_many_requests'],
  },
  async ({ vault, call, body }) => {
    const { share: given, passphrase } = body;
    if ((given === undefined) === (passphrase === undefined)) {
      throw new VaultError('invalid_request', 'send either share or passphrase');
    }
    const offering = given === undefined ? { passphrase: passphrase! } : { share: given };
    return json(200, shape(await unsealVault(vault, call, offering)));
  },
);

export const seal = endpoint(
  {
    method: 'post',
    path: '/seal/seal',
    id: 'seal',
    tag: 'seal',
    summary: 'Seal the vault on every node',
    description:
      'For operators. Every node wipes its keys within a second and answers `sealed` from then on, over restarts too, until it is unsealed: with shares or the passphrase, or with `bulla unseal` on a host whose seal opens by itself.',
    answers: { 204: { about: 'It is sealed.' } },
    errors: [],
  },
  async ({ vault, call }) => {
    await sealVault(vault, call);
    return noContent();
  },
);

const migration = z
  .object({
    state: z.enum(['prepared', 'done']),
    to: kind,
    shares: z
      .array(z.string())
      .optional()
      .openapi({ description: 'Shown this once. Nothing has changed yet: keep them, then send some as `confirm`.' }),
    threshold: z.int().optional(),
    from: kind.optional(),
    root_key_version: z.int().optional(),
    rewrapped: z.int().optional(),
    destroyed_root_key_version: z.int().optional(),
    notice: z.string(),
  })
  .openapi('SealMigration');

const PREPARED_NOTICE =
  'Nothing has changed yet. Give each share to somebody else, then send as many as the threshold says as `confirm`, to this node, within 15 minutes.';
const DONE_NOTICE =
  'The old seal opens nothing in the live database. It still opens old copies (backups, replicas, WAL), and the data keys in them are still in use: rotate the data key of each tenant with reencrypt, then destroy the old seal’s key with the copies.';

export const migrate = endpoint(
  {
    method: 'post',
    path: '/seal/migrate',
    id: 'migrateSeal',
    tag: 'seal',
    summary: 'Move the root key to another seal',
    description:
      'For operators; online. What the new seal takes is configured on every node first; a passphrase and the numbers of shares come here. A migration to shares is asked for twice: the first answer shows the shares, the second request confirms them. It is one commit: a crash leaves the old seal or the new one, as the state says.',
    body: z.strictObject({
      to: kind,
      passphrase: z.string().max(4096).optional(),
      shares: z.int().min(2).max(SHARES_MAX).optional(),
      threshold: z.int().min(2).max(SHARES_MAX).optional(),
      confirm: z.array(share).min(2).max(SHARES_MAX).optional(),
    }),
    bodyExample: { to: 'shamir', shares: 5, threshold: 3 },
    answers: {
      200: {
        about: 'What was prepared or done.',
        schema: migration,
        example: {
          state: 'done',
          to: 'shamir',
          from: 'file',
          root_key_version: 2,
          rewrapped: 4,
          destroyed_root_key_version: 1,
          notice: DONE_NOTICE,
        },
      },
    },
    errors: ['conflict', 'integrity'],
  },
  async ({ vault, call, body }) => json(200, shapeMigration(await migrateSeal(vault, call, body))),
);

function shapeMigration(done: Migration) {
  if (done.state === 'prepared') {
    return {
      state: done.state,
      to: done.to,
      shares: done.shares,
      threshold: done.threshold,
      notice: PREPARED_NOTICE,
    };
  }
  const { rotation } = done;
  return {
    state: done.state,
    to: done.to,
    from: done.from,
    root_key_version: rotation.version,
    rewrapped: rotation.rewrapped,
    destroyed_root_key_version: rotation.destroyedVersion,
    notice: DONE_NOTICE,
  };
}

export const check = endpoint(
  {
    method: 'post',
    path: '/seal/check',
    id: 'checkShares',
    tag: 'seal',
    summary: 'Say whether shares still fit, without unsealing',
    description: 'For operators. Nothing is kept.',
    body: z.strictObject({ shares: z.array(share).min(1).max(SHARES_MAX) }),
    bodyExample: { shares: ['bulla-share-v1-…'] },
    answers: {
      200: {
        about: 'In the order of the request.',
        schema: z
          .object({
            opens: z.boolean().openapi({ description: 'Together they open the root key that the vault has now.' }),
            shares: z.array(
              z.object({
                fits: z.boolean(),
                number: z.int().nullable(),
                generation: z.string().nullable(),
                reason: z.enum(['not_a_share', 'damaged', 'another_split', 'wrong']).nullable(),
              }),
            ),
          })
          .openapi('ShareCheck'),
        example: {
          opens: false,
          shares: [{ fits: true, number: 2, generation: '9f2c4d1e0b3a5c67', reason: null }],
        },
      },
    },
    errors: ['conflict', 'integrity'],
  },
  async ({ vault, call, body }) => {
    const { opens, checks } = await checkSealShares(vault, call, body.shares);
    const shares = checks.map(({ fits, number, generation, reason }) => ({
      fits,
      number: number ?? null,
      generation: generation ?? null,
      reason: reason ?? null,
    }));
    return json(200, { opens, shares });
  },
);
