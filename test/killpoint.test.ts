/** The list of kill points is complete: each stands in the code, in SECURITY.md and among the cases. */
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { atKillpoints, KILLPOINTS, killpoint } from '../src/db/killpoint.ts';
import { KILL_CASES } from './kill-cases.ts';

const root = (path: string) => fileURLToPath(new URL(`../${path}`, import.meta.url));

const code = readdirSync(root('src'), { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts') && file !== 'db/killpoint.ts')
  .map((file) => readFileSync(root(`src/${file}`), 'utf8'))
  .join('\n');

test('T-170 every point of the list is in the code, and every point in the code is in the list', () => {
  const calls = code.match(/killpoint\(/g)!.length;
  const named = KILLPOINTS.filter((name) => code.includes(`'${name}'`));
  expect(named).toEqual([...KILLPOINTS]);
  expect(KILLPOINTS.length).toBeGreaterThanOrEqual(25);
  expect(new Set(KILLPOINTS).size).toBe(KILLPOINTS.length);
  // One call names two points.
  expect(calls).toBe(KILLPOINTS.length - 1);
});

test('T-170 every point has a case', () => {
  expect(Object.keys(KILL_CASES).sort()).toEqual([...KILLPOINTS].sort());
});

test('T-170 SECURITY.md publishes the list', () => {
  const published = readFileSync(root('SECURITY.md'), 'utf8');
  expect(KILLPOINTS.filter((name) => !published.includes(`\`${name}\``))).toEqual([]);
});

test('nothing of src asks for kill points, so no server can be told to die at one', () => {
  expect(code).not.toMatch(/atKillpoints/);
});

test('a point does nothing while nobody asks', () => {
  let reached: string[] = [];
  killpoint('audit.locked');
  atKillpoints((name) => reached.push(name));
  killpoint('audit.locked');
  atKillpoints(() => undefined);
  expect(reached).toEqual(['audit.locked']);
  reached = [];
});
