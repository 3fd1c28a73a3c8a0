/** Clients that are programs, beside a listener that is in this process: nothing here waits for one without letting go. */
import { execFileSync, spawn } from 'node:child_process';
import { homedir } from 'node:os';
import { join } from 'node:path';

export type Asked = { readonly env?: NodeJS.ProcessEnv; readonly input?: string; readonly deadlineMs?: number };

/** Its exit code, and what it said on both streams as it came. One that has not ended by its deadline is killed. */
export async function runClient(
  program: string,
  args: readonly string[],
  { env = process.env, input = '', deadlineMs = 25_000 }: Asked = {},
): Promise<[code: number | null, said: string]> {
  const child = spawn(program, args, { env });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      said += chunk;
    });
  }
  child.stdin.on('error', () => undefined);
  child.stdin.end(input);
  const timer = setTimeout(() => child.kill('SIGKILL'), deadlineMs);
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  clearTimeout(timer);
  return [code, said];
}

/** Those that can import hvac: Debian's, and a newer one where it is at hand. */
export const PYTHONS = ['/usr/bin/python3', join(homedir(), '.cache/bulla-hvac/bin/python')].filter((python) => {
  try {
    execFileSync(python, ['-c', 'import hvac'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
});
export const NO_HVAC = 'no python3 that can import hvac; .ci/run installs python3-hvac';
