/** auth/token/create: making tokens that are no stronger than the one that is shown, by themselves or by a token role. */
import { type ChildWish, createToken } from '../../auth/child.ts';
import { VaultError } from '../../errors.ts';
import type { Answer } from './answer.ts';
import { badRequest, saying } from './error.ts';
import type { Fields } from './field.ts';
import type { Route, VaultRequest } from './route.ts';
import { authOf, MOUNT_TYPE } from './token.ts';

const NAME = /^[a-z0-9][a-z0-9._-]{0,62}$/;

/** What is asked for and not done here is refused, never left out in silence. */
function refuseUnsupported(fields: Fields): void {
  const type = fields.string('type') || 'service';
  if (type === 'batch') throw badRequest('batch tokens are not supported');
  if (type !== 'service' && type !== 'default') throw badRequest(`invalid 'type' value`);
  if ((fields.string('id') ?? '') !== '') throw badRequest('root or sudo privileges required to specify token id');
  if ((fields.string('entity_alias') ?? '') !== '') throw badRequest('entity aliases are not supported');
  if (fields.strings('policies')?.includes('root')) {
    throw badRequest('root tokens may not be created without parent token being root');
  }
}

/** Zero is what is so when nothing is said; less is nothing. */
function overZero(number: number | undefined, name: string): number | undefined {
  if (number !== undefined && number < 0) throw badRequest(`${name} must be positive`);
  return number === 0 ? undefined : number;
}

/** A list without a name is none; one with `default` alone is a token that may what every token may, and no more. */
function policiesIn(fields: Fields): Pick<ChildWish, 'policies' | 'withoutDefault'> {
  const given = fields.strings('policies') ?? [];
  const withoutDefault = (fields.boolean('no_default_policy') ?? false) && !given.includes('default');
  return { policies: given.length === 0 ? undefined : given.filter((name) => name !== 'default'), withoutDefault };
}

function wishOf({ vault, fields }: VaultRequest, orphan: boolean): ChildWish {
  refuseUnsupported(fields);
  const duration = (name: string) => overZero(fields.duration(name), name);
  const [most, period, ttl] = [
    vault.config.tokenMaxTtlSeconds,
    duration('period'),
    duration('ttl') ?? duration('lease'),
  ];
  const display = fields.string('display_name') || undefined;
  const meta = fields.map('meta') ?? {};
  const named = display === undefined || NAME.test(display);
  return {
    ...policiesIn(fields),
    ...(period !== undefined
      ? { periodSeconds: period }
      : ttl !== undefined
        ? { ttlSeconds: Math.min(ttl, most) }
        : {}),
    explicitMaxTtlSeconds: duration('explicit_max_ttl'),
    renewable: fields.boolean('renewable') ?? true,
    uses: overZero(fields.integer('num_uses'), 'num_uses'),
    name: named ? display : undefined,
    metadata: named ? { ...meta } : { ...meta, display_name: display },
    orphan,
    policiesHeld: true,
  };
}

/** What `create` alone says of a leave that the caller lacks; `create-orphan` has a path of its own, and a 403. */
function refusalOf(error: unknown, always: 'orphan' | 'child'): unknown {
  const { action, reason } = (error instanceof VaultError && error.details) || {};
  if (reason === 'not_held') return badRequest('child policies must be subset of parent');
  if (always === 'child' && action === 'token.orphan') {
    return badRequest('root or sudo privileges required to create orphan token');
  }
  return error;
}

const TOO_LONG = 'Explicit max TTL specified is greater than the allowed value; value is being capped';

async function createBy(request: VaultRequest, always: 'orphan' | 'child', role?: string): Promise<Answer> {
  const { vault, call, fields } = request;
  const wish = wishOf(request, always === 'orphan' || (fields.boolean('no_parent') ?? false));
  const made = await saying(createToken(vault, call, wish, role), {
    conflict: 'restricted use token cannot generate child tokens',
    not_found: `unknown role ${role}`,
  }).catch((error: unknown) => {
    throw refusalOf(error, always);
  });
  const capped = made.periodSeconds === null && (wish.explicitMaxTtlSeconds ?? 0) > (made.explicitMaxTtlSeconds ?? 0);
  return {
    kind: 'envelope',
    auth: authOf(made, made.policies, made.token),
    mountType: MOUNT_TYPE,
    ...(capped && role === undefined ? { warnings: [TOO_LONG] } : {}),
  };
}

export const TOKEN_CREATE_ROUTES: readonly Route[] = [
  { pattern: 'create', verbs: { POST: (request) => createBy(request, 'child') } },
  { pattern: 'create-orphan', verbs: { POST: (request) => createBy(request, 'orphan') } },
  {
    pattern: 'create/{role}',
    verbs: { POST: (request) => createBy(request, 'child', request.at.role!.toLowerCase()) },
  },
];
