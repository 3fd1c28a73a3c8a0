/** The open set of backends: one line a member. */
import type { BackendMember } from '../backend.ts';
import { mysqlBackend } from './mysql.ts';
import { postgresBackend } from './postgres.ts';
import { redisBackend } from './redis.ts';
import { sshBackend } from './ssh.ts';
import { webhookBackend } from './webhook.ts';

/** Each member takes only its own configuration and roles, which its own schemas made: the types meet nowhere else. */
const member = <Config, Role>(one: BackendMember<Config, Role>) => one as unknown as BackendMember;

export const BACKENDS: Readonly<Record<string, BackendMember>> = {
  postgres: member(postgresBackend),
  mysql: member(mysqlBackend),
  redis: member(redisBackend),
  ssh: member(sshBackend),
  webhook: member(webhookBackend),
};
