/**
 * Audit entries as events of the Open Cybersecurity Schema Framework 1.3.0, for SIEMs: logins and logouts as
 * Authentication (3002), everything else as API Activity (6003). No event has a member that its class does not know.
 *
 * `metadata.event_code` is the entry's action, `metadata.sequence` its number and `raw_data` the canonical line, so an event
 * can be proved against the log.
 */
const VERSION = '1.3.0';

const AUTHENTICATION = {
  class_uid: 3002,
  class_name: 'Authentication',
  category_uid: 3,
  category_name: 'Identity & Access Management',
};
const API_ACTIVITY = {
  class_uid: 6003,
  class_name: 'API Activity',
  category_uid: 6,
  category_name: 'Application Activity',
};

/** activity_id of class 3002. */
const LOGINS: Readonly<Record<string, readonly [id: number, name: string]>> = {
  'auth.login': [1, 'Logon'],
  'auth.logout': [2, 'Logoff'],
};

/** activity_id of class 6003, by the last word of the action; 99 is Other. */
const ACTIVITIES: Readonly<Record<string, readonly [id: number, name: string]>> = {
  create: [1, 'Create'],
  initialise: [1, 'Create'],
  issue: [1, 'Create'],
  read: [2, 'Read'],
  list: [2, 'Read'],
  history: [2, 'Read'],
  subkeys: [2, 'Read'],
  reveal: [2, 'Read'],
  export: [2, 'Read'],
  self: [2, 'Read'],
  write: [3, 'Update'],
  update: [3, 'Update'],
  configure: [3, 'Update'],
  rotate: [3, 'Update'],
  renew: [3, 'Update'],
  password: [3, 'Update'],
  undelete: [3, 'Update'],
  delete: [4, 'Delete'],
  destroy: [4, 'Delete'],
  remove: [4, 'Delete'],
  revoke: [4, 'Delete'],
};

const OTHER = [99, 'Other'] as const;

type Entry = {
  readonly action: string;
  readonly actor: { readonly kind: string; readonly id?: string; readonly name?: string; readonly accessor?: string };
  readonly code?: string;
  readonly details?: Readonly<Record<string, unknown>>;
  readonly outcome: 'ok' | 'denied' | 'error';
  readonly protocol: string;
  readonly request: string;
  readonly resource?: string;
  readonly salt: string;
  readonly seq: number;
  readonly source: string;
  readonly time: string;
  readonly version?: number;
};

/** One event, with its line end. `line` is a canonical line of the log. */
export function ocsfEvent(line: string): string {
  const entry = JSON.parse(line) as Entry;
  const login = LOGINS[entry.action];
  const kind = login ? AUTHENTICATION : API_ACTIVITY;
  const [activity, name] = login ?? ACTIVITIES[entry.action.split(/[.-]/).at(-1)!] ?? OTHER;
  const ok = entry.outcome === 'ok';
  const user = userOf(entry);
  const api = { operation: entry.action, request: { uid: entry.request }, service: { name: entry.protocol } };
  const resources = entry.resource === undefined ? {} : { resources: [resourceOf(entry.resource, entry.version)] };
  const event = {
    activity_id: activity,
    activity_name: name,
    ...kind,
    type_uid: kind.class_uid * 100 + activity,
    type_name: `${kind.class_name}: ${name}`,
    time: Date.parse(entry.time),
    severity_id: ok ? 1 : entry.outcome === 'denied' ? 3 : 2,
    severity: ok ? 'Informational' : entry.outcome === 'denied' ? 'Medium' : 'Low',
    status_id: ok ? 1 : 2,
    status: ok ? 'Success' : 'Failure',
    ...(entry.code === undefined ? {} : { status_code: entry.code }),
    metadata: {
      version: VERSION,
      product: { name: 'Bulla', vendor_name: 'Bulla' },
      uid: entry.salt,
      correlation_uid: entry.request,
      event_code: entry.action,
      sequence: entry.seq,
      original_time: entry.time,
    },
    actor: { user, ...(entry.actor.accessor === undefined ? {} : { session: { uid: entry.actor.accessor } }) },
    ...(login ? { user, service: { name: 'Bulla' } } : { api, ...resources }),
    src_endpoint: entry.source === '' ? { name: 'vault' } : { ip: entry.source },
    ...(entry.details === undefined ? {} : { unmapped: entry.details }),
    raw_data: line,
  };
  return `${JSON.stringify(event)}\n`;
}

/** type_id: 1 a user, 3 the system itself, 0 unknown. */
function userOf({ actor }: Entry) {
  const type = actor.kind === 'user' ? 1 : actor.kind === 'vault' ? 3 : 0;
  return {
    name: actor.name ?? actor.kind,
    ...(actor.id === undefined ? {} : { uid: actor.id }),
    type_id: type,
  };
}

function resourceOf(resource: string, version: number | undefined) {
  const colon = resource.indexOf(':');
  return {
    type: resource.slice(0, colon),
    name: resource.slice(colon + 1),
    ...(version === undefined ? {} : { version: String(version) }),
  };
}
