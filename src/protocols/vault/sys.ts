/** Everything under sys/, in the order in which a path is looked for. */
import { AUTH_MOUNT_ROUTES } from './auth-mount.ts';
import { CAPABILITY_ROUTES } from './capability.ts';
import { HEALTH_ROUTES } from './health.ts';
import { LEASE_ROUTES } from './lease.ts';
import { MOUNT_ROUTES } from './mount.ts';
import { POLICY_ROUTES } from './policy.ts';
import { RESULTANT_ACL_ROUTES } from './resultant-acl.ts';
import type { Route } from './route.ts';
import { TOOL_ROUTES } from './tool.ts';
import { WRAPPING_ROUTES } from './wrapping.ts';

export const SYS_ROUTES: readonly Route[] = [
  ...HEALTH_ROUTES,
  ...MOUNT_ROUTES,
  ...AUTH_MOUNT_ROUTES,
  ...POLICY_ROUTES,
  ...LEASE_ROUTES,
  ...CAPABILITY_ROUTES,
  ...RESULTANT_ACL_ROUTES,
  ...WRAPPING_ROUTES,
  ...TOOL_ROUTES,
];
