/** What a mount or a method says of itself, in the members that every client of this API reads. */
import { type Answer, data, type Json, json } from './answer.ts';
import { LEASE_SECONDS_DEFAULT } from './kv1.ts';

export type Info = Record<string, unknown>;

export function infoOf(type: string, id: string, description: string, options: Info | null): Info {
  return {
    type,
    description,
    accessor: `${type}_${id.slice(0, 8)}`,
    local: false,
    seal_wrap: false,
    external_entropy_access: false,
    options,
    uuid: uuidOf(id),
    plugin_version: '',
    running_plugin_version: '',
    running_sha256: '',
    deprecation_status: 'supported',
    config: {
      default_lease_ttl: LEASE_SECONDS_DEFAULT,
      max_lease_ttl: LEASE_SECONDS_DEFAULT,
      force_no_cache: false,
    },
  };
}

/** The 16 characters of an id as a uuid of their own: the same each time, and nothing else's. */
function uuidOf(id: string): string {
  const hex = Buffer.from(id.padEnd(16, 'a')).toString('hex').slice(0, 32);
  const parts = [hex.slice(0, 8), hex.slice(8, 12), `4${hex.slice(13, 16)}`, `8${hex.slice(17, 20)}`, hex.slice(20)];
  return parts.join('-');
}

export const engineInfo = ({ path, type, description }: { path: string; type: string; description: string }) =>
  infoOf(type, path.padEnd(8, 'a'), description, null);

export const bySlash = (entries: (readonly [string, Info])[]) =>
  Object.fromEntries(entries.map(([path, info]) => [`${path}/`, info] as const).sort(([a], [b]) => (a < b ? -1 : 1)));

/** Members of `data` stand at the top too, where older clients look for them. */
export function twice(members: Record<string, unknown>): Answer {
  const onTop = Object.fromEntries(Object.entries(members).map(([key, value]): [string, Json] => [key, json(value)]));
  return data(json(members), { mountType: 'system', alsoOnTop: onTop });
}
