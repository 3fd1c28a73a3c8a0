/**
 * In which order the files run: those that take longest first, or one of them would begin when all others have ended and
 * leave a processor idle. The rest goes by size, as Vitest has it.
 */
import { basename } from 'node:path';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

const LONGEST = [
  'server',
  'postgres15',
  'auth',
  'kill',
  'e2e',
  'rotation',
  'cli.run',
  'cli.secret',
  'cli.login',
  'http.header',
  'db.embedded',
  'secret.list',
  'isolation.routes',
  'audit.canary-routes',
  'audit.matrix',
  'known',
  'seal.migration',
  'throttle',
  'totp',
  'http.tls',
  'http.tls-certificate',
  'tenant-delete',
  'lease.client',
  'lease.sweeper',
  'crypto.password',
  'flipped-column',
  'workers',
  'seal.process',
  'server.outside',
  'account',
  'http.hostile',
  'soak',
  'audit.tamper',
  'flipped-bit',
];

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const bySize = await super.sort(files);
    return bySize.toSorted((a, b) => rankOf(a) - rankOf(b));
  }
}

function rankOf({ moduleId }: TestSpecification): number {
  const at = LONGEST.indexOf(basename(moduleId, '.test.ts'));
  return at < 0 ? LONGEST.length : at;
}
