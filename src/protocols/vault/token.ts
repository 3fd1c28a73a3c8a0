/** auth/token: what a token is, renewing it, ending it, and making others that are no stronger. */
import { logout, readSelf, renewToken, type Self, type TokenInfo } from '../../auth/token.ts';
import { type Answer, type Auth, data, EMPTY, json } from './answer.ts';
import { saying } from './error.ts';
import type { Route, VaultRequest } from './route.ts';

const MOUNT_TYPE = 'token';

/** Whole seconds between two times; what has less than one left has one. */
export function secondsBetween(from: string, to: string): number {
  return Math.max(0, Math.round((Date.parse(to) - Date.parse(from)) / 1000));
}

const METHOD_PATH: Readonly<Record<string, string>> = {
  password: 'auth/userpass/login',
  service: 'auth/approle/login',
};

/** `default` is what every token may: it is always among them, as clients expect. */
export const policiesOf = (policies: readonly string[]): string[] => [...new Set(['default', ...policies])].sort();

function shape(token: TokenInfo, policies: readonly string[], now: number, id: string) {
  const ttl = Math.max(0, Math.floor((Date.parse(token.expiresAt) - now) / 1000));
  return {
    accessor: token.accessor,
    creation_time: Math.floor(Date.parse(token.createdAt) / 1000),
    creation_ttl: secondsBetween(token.createdAt, token.expiresAt),
    display_name: token.name ?? `${token.method}-${token.username}`,
    entity_id: '',
    expire_time: token.expiresAt,
    explicit_max_ttl: 0,
    id,
    issue_time: token.createdAt,
    meta: metaOf(token),
    num_uses: token.usesLeft ?? 0,
    orphan: token.parent === null,
    path: token.kind === 'login' ? (METHOD_PATH[token.method] ?? `auth/${token.method}/login`) : 'auth/token/create',
    ...(token.periodSeconds === null ? {} : { period: token.periodSeconds }),
    ...(token.cidrs === null ? {} : { bound_cidrs: token.cidrs }),
    policies: policiesOf(token.bound ?? policies),
    renewable: token.renewable,
    ttl,
    type: 'service',
  };
}

const metaOf = ({ username, metadata }: TokenInfo) => ({ username, ...metadata });

async function lookupSelf({ vault, call, exchange }: VaultRequest): Promise<Answer> {
  const self = await readSelf(vault, call);
  const token =
    exchange.incoming.headers['x-vault-token'] ?? exchange.incoming.headers.authorization?.slice('Bearer '.length);
  return data(json(shape(self, self.policies, Date.now(), String(token))), { mountType: MOUNT_TYPE });
}

/** The auth block of a token that is shown again: renewing. */
export function authOf(self: Self, clientToken: string, seconds: number): Auth {
  const policies = policiesOf(self.bound ?? self.policies);
  return {
    client_token: clientToken,
    accessor: self.accessor,
    policies,
    token_policies: policies,
    metadata: metaOf(self),
    lease_duration: seconds,
    renewable: self.renewable,
    entity_id: '',
    token_type: 'service',
    orphan: self.parent === null,
    mfa_requirement: null,
    num_uses: self.usesLeft ?? 0,
  };
}

async function renewSelf({ vault, call, fields, exchange }: VaultRequest): Promise<Answer> {
  const increment = fields.duration('increment') ?? 0;
  const most = vault.config.tokenMaxTtlSeconds;
  const ttl = increment > 0 ? Math.min(increment, most) : undefined;
  const renewed = await saying(renewToken(vault, call, ttl), { conflict: 'lease is not renewable' });
  const self = await readSelf(vault, call);
  const token =
    exchange.incoming.headers['x-vault-token'] ?? exchange.incoming.headers.authorization?.slice('Bearer '.length);
  const seconds = Math.max(0, Math.round((Date.parse(renewed.expiresAt) - Date.now()) / 1000));
  return { kind: 'envelope', auth: authOf(self, String(token), seconds), mountType: MOUNT_TYPE };
}

async function revokeSelf({ vault, call }: VaultRequest): Promise<Answer> {
  await logout(vault, call);
  return EMPTY;
}

export const TOKEN_ROUTES: readonly Route[] = [
  { pattern: 'lookup-self', verbs: { GET: lookupSelf, POST: lookupSelf } },
  { pattern: 'renew-self', verbs: { POST: renewSelf } },
  { pattern: 'revoke-self', verbs: { POST: revokeSelf } },
];
