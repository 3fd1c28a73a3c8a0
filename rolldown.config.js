/**
 * Bundles what runs: `bulla`, its workers and the process that hashes passwords, from the modules that tsc has made, with
 * the packages that every start loads. Reading and linking some 700 small files took a third of a start.
 *
 * The files lie two folders below the root, as the modules do, so that what is found from `import.meta.url` is found.
 */
/** One entry a package, with what it brings along. */
export const BUNDLED = [
  '@asteasolutions/zod-to-openapi',
  '@hono/node-server',
  '@hono/zod-openapi',
  '@hono/zod-validator',
  '@noble/ciphers',
  '@opentelemetry/api',
  'bintrees',
  'commander',
  'hono',
  'hpke',
  'libsodium',
  'otpauth',
  'postgres',
  'postgres-array',
  'prom-client',
  'rate-limiter-flexible',
  'shamir-secret-sharing',
  'tdigest',
  'zod',
];

/** Whatever else is a package stays one: it loads when it is first used, or has binaries or processes of its own. */
function external(id) {
  const isPackage = !/^[./]/.test(id);
  return isPackage && !BUNDLED.some((name) => id === name || id.startsWith(`${name}/`));
}

export default {
  input: {
    main: 'dist/main.js',
    worker: 'dist/cli/worker.js',
    'password-child': 'dist/crypto/password-child.js',
  },
  platform: 'node',
  external,
  output: { dir: 'dist/bundle', entryFileNames: '[name].js', chunkFileNames: '[name].js' },
};
