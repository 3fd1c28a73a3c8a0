/** The tests that take minutes (`npm run test:long`): everything is as in vitest.config.ts but which files run. */
import config from './vitest.config.ts';

export default { ...config, test: { ...config.test, include: ['test/long/**/*.test.ts'], exclude: [] } };
