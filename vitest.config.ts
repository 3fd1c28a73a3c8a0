/**
 * Tests import `../src/x.ts` and run the compiled `dist/x.js` in its place: what is tested is what ships, and child
 * processes (password hashing) start from the same files as in production. `npm test` compiles first.
 */
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const dist = fileURLToPath(new URL('./dist/', import.meta.url));

export default defineConfig({
  resolve: { alias: [{ find: /^(?:\.\.\/)+src\/(.*)\.ts$/, replacement: `${dist}$1.js` }] },
  test: {
    include: ['test/**/*.test.ts'],
    // Minutes long: `vitest run --config vitest.long.config.ts` runs these.
    exclude: ['node_modules/**', 'test/long/**'],
    globalSetup: ['test/setup.ts'],
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 30_000,
    hookTimeout: 60_000,
    server: { deps: { external: [/\/dist\//] } },
  },
});
