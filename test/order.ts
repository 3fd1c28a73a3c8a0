/**
 * In which order the files run: those that take longest first, or one of them would begin when all others have ended and
 * leave a processor idle. The rest goes by size, as Vitest has it.
 */
import { basename } from 'node:path';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

const LONGEST = [
  ...[
    'server',
    'postgres15',
    'cli',
    'e2e',
    'db.embedded',
    'auth',
    'kill',
    'rotation',
    'server.outside',
    'seal.process',
  ],
  ...['totp', 'seal.migration', 'throttle', 'audit.tamper', 'lease.sweeper', 'lease.client', 'http.tls', 'flipped-bit'],
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
