/**
 * The policies that every tenant has from the start, as documents like any other.
 *
 * They are the same in the `system` tenant: there `admin` covers the system-only actions too, because it covers
 * everything. `key-admin` and `auditor` hold no action that reveals a secret. Their names cannot be changed or deleted;
 * the policy store sees to that.
 */
import type { PolicyDocument } from './policy.ts';

export type BuiltInPolicy = { readonly about: string; readonly document: PolicyDocument };

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
            'audit.read',
            'audit.read-deleted',
            'audit.sign',
            'policy.list',
            'policy.read',
            'user.list',
            'user.read',
            'token.list',
            'token.read',
          ],
          resources: ['audit:**', 'policy:**', 'user:**', 'token:**'],
        },
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

export type BuiltInPolicyName = keyof typeof BUILT_IN_POLICIES;
