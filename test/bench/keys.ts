/** Rotation: rotation.mjs in a process of its own, which is a vault with its own PostgreSQL, so that its memory is its own too. */
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { NODE_ARGS, startBeside } from './stage.ts';
import { figure, type Row } from './table.ts';

const ROTATION = fileURLToPath(new URL('../../../test/bench/rotation.mjs', import.meta.url));

export async function benchRotation(secrets: number, tenants: number, beforeMs: number): Promise<Row[]> {
  const child = startBeside(process.execPath, [
    ...[...NODE_ARGS, ROTATION],
    ...[secrets, tenants, beforeMs].map(String),
  ]);
  let output = '';
  child.stdout!.on('data', (chunk) => {
    output += chunk;
  });
  const [code] = await once(child, 'close');
  if (code !== 0) throw new Error(`rotation.mjs ended with ${code}`);
  const [moved, root] = output
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  const reads = `p99 ${moved.reads_before.p99_ms} → ${moved.reads_during.p99_ms} ms`;
  return [
    figure(`re-encryption of ${secrets} secrets of 1 KiB`, `${moved.alone_per_second}/s`, '15,000/s'),
    figure('its server + database', `${moved.node_us_per_secret} + ${moved.database_us_per_secret} µs a secret`),
    figure(
      'the same beside 200 reads a second',
      `${moved.with_reads_per_second}/s, ${reads}, ratio ${moved.p99_ratio}`,
      '2',
    ),
    figure('memory that it takes', `${moved.rss_growth_mib} MiB`, 'flat'),
    figure(`root rotation of ${tenants} tenants`, `${root.seconds} s`),
  ];
}
