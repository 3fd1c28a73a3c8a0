/** The tests of the verb LIST alone, without the database that all others share: for a Node of another version. */
import config from '../../vitest.config.ts';

const { globalSetup: _, ...test } = config.test;

export default { ...config, test: { ...test, include: ['test/http.list-verb.test.ts'], exclude: [], cache: false } };
