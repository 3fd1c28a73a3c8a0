/** T-184: the disk under the log hangs. Callers are refused within five seconds, and served when it goes on. */
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { api, attempt, DEADLINE_MS, prove, VALUE } from '../disk.ts';
import { type Server, startServer, temporaryDirectory } from '../process.ts';
import { until } from '../until.ts';

test('T-184 a disk that hangs: refused in time, and served again when it goes on', async (context) => {
  if (!attempt('strace', ['-o', '/dev/null', 'true'])) {
    context.skip('strace is missing or may not trace: it delays what PostgreSQL writes');
  }
  const directory = temporaryDirectory('hung-disk');
  let server: Server | undefined;
  try {
    server = await startServer(join(directory.path, 'data'));
    const { ask, start } = api(server);
    await start();
    const postmaster = readFileSync(join(server.dataDir, 'pg', 'postmaster.pid'), 'utf8').split('\n')[0]!;
    const all = readdirSync('/proc').filter((pid) => pid === postmaster || parentOf(pid) === postmaster);
    const delayed = ['-e', 'trace=fdatasync', '-e', 'inject=fdatasync:delay_enter=8000000'];
    const tracer = spawn('strace', ['-f', '-o', '/dev/null', ...delayed, ...all.flatMap((pid) => ['-p', pid])], {
      stdio: 'ignore',
    });
    const gone = new Promise((resolve) => tracer.once('exit', resolve));
    await until('all are traced', async () => all.every((pid) => tracerOf(pid) === String(tracer.pid)), 10_000);
    const held = await Promise.all(
      Array.from({ length: 4 }, (_, i) => ask('GET', '/secrets/prod/db', undefined, `hung-${i}`)),
    );
    for (const { status, ms, text } of held) {
      expect(status).toBe(503);
      expect(ms).toBeLessThan(DEADLINE_MS);
      expect(text).not.toContain(VALUE);
    }
    tracer.kill('SIGINT');
    await gone;
    await until('it serves again', async () => (await ask('GET', '/secrets/prod/db')).status === 200, 20_000);
    await prove(ask, [], []);
  } finally {
    await server?.end('SIGTERM');
    directory.remove();
  }
}, 90_000);

const statusOf = (pid: string, field: string): string | undefined => {
  try {
    return new RegExp(`^${field}:\\s+(\\d+)$`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  } catch {
    return undefined;
  }
};
const parentOf = (pid: string) => (/^\d+$/.test(pid) ? statusOf(pid, 'PPid') : undefined);
const tracerOf = (pid: string) => statusOf(pid, 'TracerPid');
