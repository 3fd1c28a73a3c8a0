/**
 * The policies that every tenant has from the start, as documents like any other.
 *
 * They are the same in the `system` tenant: there `admin` covers the system-only actions too, because it covers
 * everything. Whoever holds `key-admin` or `auditor` reads no secret, whatever else they hold or write: both deny it, and
 * a deny wins everywhere. None of them can be changed or deleted; the policy store sees to that.
 */
import { ACTION_NAMES, ACTIONS } from './action.ts';
import type { PolicyDocument } from './policy.ts';

export type BuiltInPolicy = { readonly about: string; readonly document: PolicyDocument };

const REVEALS_NOTHING: PolicyDocument['rules'][number] = {
  effect: 'deny',
  actions: ACTION_NAMES.filter((name) => ACTIONS[name].reveals),
  resources: ['**'],
};

export const BUILT_IN_POLICIES = {
  admin: {
    about: 'Everything in the tenant.',
    document: { rules: [{ effect: 'allow', actions: ['*'], resources: ['**'] }] },
  },
  'key-admin': {
    about: 'Rotates and destroys keys and watches the jobs that it starts; reads no secret and uses no named key.',
    document: {
      rules: [
        { effect: 'allow', actions: ['key.*', 'job.*'], resources: ['key:**', 'job:**'] },
        {
          effect: 'allow',
          actions: ['transit.list', 'transit.read', 'transit.configure', 'transit.rotate', 'transit.trim'],
          resources: ['transit:**'],
        },
        REVEALS_NOTHING,
      ],
    },
  },
  auditor: {
    about: 'Reads, exports and proves the audit log and sees who may do what; reads no secret.',
    document: {
      rules: [
        {
          effect: 'allow',
          actions: [
            ...['audit.read', 'audit.read-deleted', 'audit.sign', 'policy.list', 'policy.read', 'policy.explain'],
            ...['user.list', 'user.read', 'group.list', 'group.read', 'token.list', 'token.read', 'approval.list'],
          ],
          resources: ['audit:**', 'policy:**', 'user:**', 'group:**', 'token:**', 'approval:**'],
        },
        REVEALS_NOTHING,
      ],
    },
  },
  reader: {
    about: 'Reads and lists every secret and its history; changes nothing.',
    document: {
      rules: [
        {
          effect: 'allow',
          actions: ['secret.read', 'secret.list', 'secret.history', 'secret.metadata-read'],
          resources: ['secret:**'],
        },
      ],
    },
  },
} satisfies Readonly<Record<string, BuiltInPolicy>>;
