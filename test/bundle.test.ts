/** What runs is a bundle (rolldown.config.js): what it has in it, and what it leaves to the packages that are installed. */
import { readdirSync, readFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { join } from 'node:path';
import { type InputOptions, type OutputOptions, rolldown } from 'rolldown';
import { expect, it } from 'vitest';
import { parseAst } from 'vitest/node';
import { CHECKOUT, MODULES } from './process.ts';

const BUNDLE = join(MODULES, 'bundle');
type Configuration = {
  readonly BUNDLED: readonly string[];
  readonly default: InputOptions & { output: OutputOptions };
};
const { BUNDLED, default: config } = (await import(join(CHECKOUT, 'rolldown.config.js'))) as Configuration;
const { dependencies, optionalDependencies = {} } = JSON.parse(readFileSync(join(CHECKOUT, 'package.json'), 'utf8'));

const packageOf = (name: string) =>
  name
    .split('/')
    .slice(0, name.startsWith('@') ? 2 : 1)
    .join('/');

/** The packages that files of the bundle import, at once or when they are first used. */
function imported(): Set<string> {
  const found = new Set<string>();
  const walk = (node: unknown): void => {
    if (Array.isArray(node)) for (const one of node) walk(one);
    if (typeof node !== 'object' || node === null || Array.isArray(node)) return;
    const { type, source } = node as { type?: string; source?: { value?: unknown } | null };
    const name = /^(Import|Export)/.test(type ?? '') ? source?.value : undefined;
    if (typeof name === 'string' && !/^[./]|^node:/.test(name)) found.add(packageOf(name));
    for (const member of Object.values(node)) walk(member);
  };
  for (const file of readdirSync(BUNDLE)) walk(parseAst(readFileSync(join(BUNDLE, file), 'utf8')));
  for (const name of builtinModules) found.delete(name);
  return found;
}

it('imports packages that this one depends on itself, and none that is only there because another one is', () => {
  const own = new Set(Object.keys({ ...dependencies, ...optionalDependencies }));
  const names = [...imported()];
  expect(names).toContain('argon2');
  expect(names.filter((name) => !own.has(name))).toEqual([]);
});

it('has in it what its configuration names, and imports nothing of it', async () => {
  const names = imported();
  expect(BUNDLED.filter((name) => names.has(name))).toEqual([]);
  const build = await rolldown(config);
  const { output } = await build.generate(config.output);
  const files = output.flatMap((chunk) => (chunk.type === 'chunk' ? chunk.moduleIds : []));
  expect(BUNDLED.filter((name) => !files.some((file) => file.includes(`/node_modules/${name}/`)))).toEqual([]);
});
