/** The open set of backends: one line a member. */
import type { BackendMember } from '../backend.ts';
import { postgresBackend } from './postgres.ts';

/** Each member takes only its own configuration and roles, which its own schemas made: the types meet nowhere else. */
const member = <Config, Role>(one: BackendMember<Config, Role>) => one as unknown as BackendMember;

export const BACKENDS: Readonly<Record<string, BackendMember>> = {
  postgres: member(postgresBackend),
};
