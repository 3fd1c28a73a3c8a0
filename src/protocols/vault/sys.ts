/** Everything under sys/, in the order in which a path is looked for. */
import { HEALTH_ROUTES } from './health.ts';
import { MOUNT_ROUTES } from './mount.ts';
import type { Route } from './route.ts';

export const SYS_ROUTES: readonly Route[] = [...HEALTH_ROUTES, ...MOUNT_ROUTES];
