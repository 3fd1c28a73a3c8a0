/**
 * What anybody may ask of a server: whether it serves, whether it is sealed, and who leads.
 *
 * Clients and load balancers branch on the status of sys/health; the bodies say the vault's own seal, and of the cluster
 * and of other tenants nothing. A share or the passphrase goes in by sys/unseal.
 */
import { readSealState, sealVault, unseal as unsealVault } from '../../tenant/seal.ts';
import type { Vault } from '../../vault.ts';
import { type Answer, asJson, EMPTY, json } from './answer.ts';
import { badRequest } from './error.ts';
import type { Fields } from './field.ts';
import type { Route, VaultRequest } from './route.ts';

/** Which release of that API is spoken: clients read it as a version. Ours is nobody's to know (T-248). */
const API_VERSION = '1.18.0';

function codeOf(fields: Fields, name: string, fallback: number): number {
  const code = fields.integer(name);
  if (code === undefined) return fallback;
  if (code < 200 || code > 599) throw badRequest(`bad status code for ${name}`);
  return code;
}

async function health({ vault, query, verb }: VaultRequest): Promise<Answer> {
  const { sealed } = readSealState(vault);
  const status = sealed ? codeOf(query, 'sealedcode', 503) : codeOf(query, 'activecode', 200);
  if (verb === 'HEAD') return { kind: 'empty', status };
  const body = {
    initialized: true,
    sealed,
    standby: false,
    performance_standby: false,
    replication_performance_mode: 'disabled',
    replication_dr_mode: 'disabled',
    server_time_utc: Math.floor(Date.now() / 1000),
    version: API_VERSION,
  };
  return { kind: 'bare', status, body: json(body) };
}

function sealStatusOf(vault: Vault) {
  const { sealed, kind, progress } = readSealState(vault);
  const threshold = progress?.threshold ?? 1;
  return {
    type: kind,
    initialized: true,
    sealed,
    t: threshold,
    n: progress?.shares ?? threshold,
    progress: progress?.given ?? 0,
    nonce: '',
    version: API_VERSION,
    build_date: '1970-01-01T00:00:00Z',
    migration: false,
    recovery_seal: false,
    storage_type: 'postgresql',
  };
}

const sealStatus = async ({ vault }: VaultRequest): Promise<Answer> => ({
  kind: 'bare',
  body: json(sealStatusOf(vault)),
});

const LEADER = json({
  ha_enabled: false,
  is_self: true,
  active_time: '0001-01-01T00:00:00Z',
  leader_address: '',
  leader_cluster_address: '',
});

async function unseal({ vault, call, fields }: VaultRequest): Promise<Answer> {
  const key = fields.string('key') ?? '';
  if (key === '' && !fields.boolean('reset')) {
    throw badRequest("'key' must be specified in request body as JSON, or 'reset' set to true");
  }
  // There is nothing to reset: a share that does not fit is dropped at once, and one that fits stays.
  if (key !== '')
    await unsealVault(vault, call, readSealState(vault).takes === 'passphrase' ? { passphrase: key } : { share: key });
  return { kind: 'bare', body: json(sealStatusOf(vault)) };
}

async function seal({ vault, call }: VaultRequest): Promise<Answer> {
  await sealVault(vault, call);
  return EMPTY;
}

async function refuseInit(): Promise<Answer> {
  throw badRequest('Vault is already initialized');
}

export const HEALTH_ROUTES: readonly Route[] = [
  { pattern: 'health', verbs: { GET: health, HEAD: health }, open: true },
  { pattern: 'seal-status', verbs: { GET: sealStatus }, open: true },
  { pattern: 'leader', verbs: { GET: async () => ({ kind: 'bare', body: LEADER }) }, open: true },
  {
    pattern: 'init',
    verbs: { GET: async () => ({ kind: 'bare', body: asJson('{"initialized":true}') }), POST: refuseInit },
    open: true,
  },
  { pattern: 'unseal', verbs: { POST: unseal }, open: true },
  { pattern: 'seal', verbs: { POST: seal } },
];
