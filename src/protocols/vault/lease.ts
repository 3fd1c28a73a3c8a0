/**
 * sys/leases: what was issued and ends by itself. A lease is named by the path that it was taken at and its own id; the
 * id alone decides.
 */
import { readSelf } from '../../auth/token.ts';
import { forceLease, type LeaseInfo, listLeases, readLease, revokeLease, revokeLeases } from '../../lease/lease.ts';
import { renewLease } from '../../lease/renew.ts';
import { orNone } from './absent.ts';
import { type Answer, data, EMPTY, json, keys, TIDY_STARTED } from './answer.ts';
import { badRequest, notFound, saying } from './error.ts';
import { itemsOf } from './paging.ts';
import type { Route, VaultRequest } from './route.ts';

export const CREDS = 'database/creds';

/** `backend/role` is taken at database/creds/<role>. */
const takenAt = ({ path }: LeaseInfo) => `${CREDS}/${path.slice(path.indexOf('/') + 1)}`;
export const leaseIdOf = (lease: LeaseInfo): string => `${takenAt(lease)}/${lease.id}`;
export const secondsFrom = (start: string, end: string) =>
  Math.max(0, Math.round((Date.parse(end) - Date.parse(start)) / 1000));

/** The last segment of what the client calls the lease; undefined for one that was never given. */
function idOf({ fields, at }: VaultRequest): string | undefined {
  const text = at.path ?? fields.string('lease_id') ?? fields.string('url_lease_id') ?? '';
  if (text === '') throw badRequest('missing lease ID');
  const id = text.slice(text.lastIndexOf('/') + 1);
  return /^[a-z2-7]{16}$/.test(id) ? id : undefined;
}

function idIn(request: VaultRequest, absent: string): string {
  const id = idOf(request);
  if (id === undefined) throw badRequest(absent);
  return id;
}

async function lookup(request: VaultRequest): Promise<Answer> {
  const invalid = 'invalid lease';
  const lease = await saying(readLease(request.vault, request.call, idIn(request, invalid)), { not_found: invalid });
  if (lease.state === 'ended') throw badRequest(invalid);
  const shape = {
    id: leaseIdOf(lease),
    issue_time: lease.issuedAt,
    expire_time: lease.expiresAt,
    last_renewal: lease.renewedAt,
    renewable: lease.renewable,
    ttl: lease.ttlSeconds,
  };
  return data(json(shape), { mountType: 'system' });
}

async function renew(request: VaultRequest): Promise<Answer> {
  const { vault, call, fields } = request;
  const absent = 'lease not found';
  const increment = fields.duration('increment') ?? 0;
  const renewed = await saying(renewLease(vault, call, idIn(request, absent), increment > 0 ? increment : undefined), {
    not_found: absent,
  });
  const leaseSeconds = secondsFrom(renewed.renewedAt ?? renewed.issuedAt, renewed.expiresAt);
  return { kind: 'envelope', leaseId: leaseIdOf(renewed), renewable: renewed.renewable, leaseSeconds };
}

/** One that is not there has ended already. `sync` false is answered before the target has done its part. */
async function revoke(request: VaultRequest): Promise<Answer> {
  const { vault, call, fields } = request;
  const sync = fields.boolean('sync') ?? true;
  const id = idOf(request);
  if (id === undefined) await readSelf(vault, call);
  else await orNone(revokeLease(vault, call, id));
  return sync ? EMPTY : { kind: 'empty', status: 202 };
}

/** `database/creds/<role>`, or all that was taken at database/. */
async function leasesUnder({ vault, call, at }: VaultRequest): Promise<LeaseInfo[]> {
  const prefix = at.path!;
  const all = prefix === CREDS || prefix === 'database';
  const found: LeaseInfo[] = [];
  // Asked whatever the prefix is: whoever may not is told so, and the log says who tried.
  for await (const lease of leasesOf(vault, call)) if (all || takenAt(lease) === prefix) found.push(lease);
  if (prefix === 'auth' || prefix.startsWith('auth/')) {
    throw badRequest('tokens are not revoked by a prefix: revoke them by accessor, or disable the account');
  }
  return found;
}

async function revokePrefix(request: VaultRequest): Promise<Answer> {
  const { vault, call } = request;
  const paths = new Set((await leasesUnder(request)).map(({ path }) => path));
  for (const path of paths) await revokeLeases(vault, call, { role: path });
  return EMPTY;
}

/** What its target does not end now is given up, although it may still work there. */
async function revokeForce(request: VaultRequest): Promise<Answer> {
  const { vault, call } = request;
  for (const { id } of await leasesUnder(request)) {
    const { state } = await revokeLease(vault, call, id);
    if (state !== 'ended') await forceLease(vault, call, id);
  }
  return EMPTY;
}

/** Sweepers do it all the time. */
async function tidy({ vault, call }: VaultRequest): Promise<Answer> {
  await readSelf(vault, call);
  return { kind: 'envelope', status: 202, warnings: [TIDY_STARTED], mountType: 'system' };
}

async function* leasesOf(vault: VaultRequest['vault'], call: VaultRequest['call']): AsyncGenerator<LeaseInfo> {
  const all = itemsOf((ask) => listLeases(vault, call, ask));
  for await (const lease of all) if (lease.kind === 'credential' && lease.state !== 'ended') yield lease;
}

async function list({ vault, call, at }: VaultRequest): Promise<Answer> {
  const under = at.path === undefined ? '' : `${at.path}/`;
  const names = new Set<string>();
  for await (const lease of leasesOf(vault, call)) {
    const id = leaseIdOf(lease);
    if (!id.startsWith(under)) continue;
    const rest = id.slice(under.length);
    names.add(rest.includes('/') ? rest.slice(0, rest.indexOf('/') + 1) : rest);
  }
  if (names.size === 0) throw notFound();
  return keys([...names].sort(), 'system');
}

const both = (pattern: string, verbs: Route['verbs']): Route[] => [
  { pattern, verbs },
  { pattern: `${pattern}/{path}`, verbs },
];

export const LEASE_ROUTES: readonly Route[] = [
  { pattern: 'leases/lookup', verbs: { POST: lookup, LIST: list } },
  { pattern: 'leases/lookup/{path}', verbs: { LIST: list } },
  ...both('leases/renew', { POST: renew }),
  ...both('renew', { POST: renew }),
  { pattern: 'leases/revoke-prefix/{path}', verbs: { POST: revokePrefix } },
  { pattern: 'revoke-prefix/{path}', verbs: { POST: revokePrefix } },
  { pattern: 'leases/revoke-force/{path}', verbs: { POST: revokeForce } },
  { pattern: 'revoke-force/{path}', verbs: { POST: revokeForce } },
  { pattern: 'leases/tidy', verbs: { POST: tidy } },
  ...both('leases/revoke', { POST: revoke }),
  ...both('revoke', { POST: revoke }),
];
