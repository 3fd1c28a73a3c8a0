/**
 * Tests import `../src/x.ts` and run the compiled `dist/x.js` in its place: what is tested is what is bundled, and child
 * processes (password hashing) start from the same files. Servers and command lines that tests start are the bundle.
 * `npm test` compiles and bundles first.
 */
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { useMemory } from './test/memory.ts';
import { LongestFirst } from './test/order.ts';

useMemory();
const dist = fileURLToPath(new URL('./dist/', import.meta.url));

export default defineConfig({
  resolve: { alias: [{ find: /^(?:\.\.\/)+src\/(.*)\.ts$/, replacement: `${dist}$1.js` }] },
  test: {
    include: ['test/**/*.test.ts'],
    // Minutes long: `vitest run --config vitest.long.config.ts` runs these.
    exclude: ['node_modules/**', 'test/long/**'],
    globalSetup: ['test/setup.ts'],
    pool: 'forks',
    // Many tests wait, for a process or a time: three keep two cores busy. A worker imports the product once for all its files.
    maxWorkers: 3,
    isolate: false,
    sequence: { sequencer: LongestFirst },
    // Only what hangs takes as long as this, on however busy a machine.
    testTimeout: 120_000,
    hookTimeout: 120_000,
    server: { deps: { external: [/\/dist\//] } },
  },
});
