/** The tests that take minutes (`npm run test:long`): everything is as in vitest.config.ts but which files run. */
import config from './vitest.config.ts';

const { test } = config;
const patience = { testTimeout: 300_000, hookTimeout: 300_000 };
/** Some of them measure times, of which others beside them would make noise. */
const maxWorkers = 1;

export default {
  ...config,
  test: { ...test, ...patience, maxWorkers, include: ['test/long/**/*.test.ts'], exclude: [] },
};
