/**
 * How fast keys rotate: re-encryption of many secrets with readers beside it, and the root key of many tenants.
 *
 * Run as a program it prints one JSON line per measurement: `node test/bench/rotation.mjs [secrets] [tenants] [ms of reads before]`. Figures
 * are of one run on one machine; the ratios between them travel better than the figures.
 */
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { pino } from 'pino';
import postgres from 'postgres';
import { login } from '../../dist/auth/login.js';
import { changePassword } from '../../dist/auth/password.js';
import { loadConfig } from '../../dist/config.js';
import { seal } from '../../dist/crypto/envelope.js';
import { Key } from '../../dist/crypto/keys.js';
import { parseToken, randomId } from '../../dist/crypto/token.js';
import { transaction } from '../../dist/db/database.js';
import { startEmbedded } from '../../dist/db/embedded.js';
import { migrate } from '../../dist/db/migrate.js';
import { initialise } from '../../dist/job/initialise.js';
import { startJobs } from '../../dist/job/kinds.js';
import { rotateKey, rotateRoot } from '../../dist/job/reencrypt.js';
import { readSecret } from '../../dist/policy/read.js';
import { activeDataKey, activeRootKey, dataKeyContext } from '../../dist/tenant/keyring.js';
import { closeVault, openVault } from '../../dist/vault.js';

const PASSWORD = 'correct horse battery staple';
const SECRET_BYTES = 1024;
const ROWS_PER_INSERT = 500;
/** Beside readers it is measured for so many times as long as they were before, and then goes on without them. */
const BESIDE_PER_BEFORE = 5;

/**
 * A vault of its own; `use` gets it with a connection of the owner and a call for each of the first two accounts. `restart`
 * ends PostgreSQL and starts it again, which checkpoints: from then on it writes over files of its log, as it does from
 * its first minutes on, instead of making new ones.
 */
async function withVault(use) {
  const directory = mkdtempSync(join(tmpdir(), 'bulla-bench-'));
  chmodSync(directory, 0o711);
  const dataDir = join(directory, 'data');
  const config = loadConfig({
    ...{ BULLA_ARGON2_MEMORY_KIB: '19456', BULLA_ARGON2_PASSES: '2', BULLA_ARGON2_LANES: '1' },
  });
  const open = async () => {
    const embedded = await startEmbedded({ dataDir });
    await migrate(embedded.owner);
    const log = pino({ level: 'silent' });
    const vault = await openVault({ config, target: embedded.app, setRole: false, dataDir, log });
    const owner = postgres({ ...embedded.owner, max: 1, onnotice() {}, connection: { search_path: 'bulla' } });
    const postmaster = readFileSync(join(dataDir, 'pg', 'postmaster.pid'), 'utf8').split('\n')[0];
    return { embedded, vault, owner, postmaster };
  };
  const close = async ({ embedded, vault, owner }) => {
    await owner.end();
    await closeVault(vault);
    await embedded.stop();
  };
  let parts = await open();
  try {
    const first = await initialise(parts.vault, () => undefined);
    const operator = await callOf(parts.vault, first.system);
    const admin = await callOf(parts.vault, first.default);
    const stage = { ...parts, operator, admin };
    stage.restart = async () => {
      await close(parts);
      parts = await open();
      Object.assign(stage, parts);
    };
    return await use(stage);
  } finally {
    await close(parts);
    rmSync(directory, { recursive: true, force: true });
  }
}

async function callOf(vault, account) {
  const origin = { requestId: 'bench', source: '127.0.0.1', protocol: 'native' };
  const once = await login(vault, { ...origin, token: undefined }, account);
  const change = { currentPassword: account.password, newPassword: PASSWORD };
  await changePassword(vault, { ...origin, token: parseToken(once.token) }, change);
  const { token } = await login(vault, { ...origin, token: undefined }, { ...account, password: PASSWORD });
  return { ...origin, token: parseToken(token) };
}

/** Stores secrets `bench/<n>` by the owner, sealed as the vault would. */
async function fill(vault, owner, tenant, count) {
  const body = Buffer.alloc(SECRET_BYTES, 'x');
  for (let from = 0; from < count; from += ROWS_PER_INSERT) {
    const key = await transaction(vault.db, [tenant], (tx) => activeDataKey(vault, tx, tenant));
    const rows = Array.from({ length: Math.min(ROWS_PER_INSERT, count - from) }, (_, i) => {
      const id = randomId();
      const envelope = Buffer.from(seal(key, { label: 'secret', tenant, secret: id, version: 1 }, body));
      return { id, path: `bench/${from + i}`, envelope: envelope.toString('base64') };
    });
    const ids = rows.map((row) => row.id);
    await owner.begin((sql) => [
      sql`INSERT INTO secrets SELECT ${tenant}, id, path, 1, NULL, now(), now()
          FROM unnest(${ids}::text[], ${rows.map((row) => row.path)}::text[]) u (id, path)`,
      sql`INSERT INTO secret_versions SELECT ${tenant}, id, 1, ${key.version}, 'text', NULL, decode(e, 'base64'), now(), 'bench'
          FROM unnest(${ids}::text[], ${rows.map((row) => row.envelope)}::text[]) u (id, e)`,
    ]);
  }
  await owner.unsafe('VACUUM ANALYZE secrets, secret_versions');
}

/** Reads at a steady pace, as many clients would, until `stop`; gives the durations in milliseconds. */
function startReaders(vault, call, count, perSecond) {
  const durations = [];
  let stopped = false;
  const under = new Set();
  const pace = (async () => {
    const started = performance.now();
    for (let n = 0; !stopped; ) {
      const due = ((performance.now() - started) / 1000) * perSecond;
      for (; n < due; n += 1) {
        const at = performance.now();
        const path = `bench/${Math.floor(Math.random() * count)}`;
        const read = readSecret(vault, call, path, 0).then(() => durations.push(performance.now() - at));
        under.add(read);
        read.finally(() => under.delete(read));
      }
      await sleep(2);
    }
    await Promise.all(under);
  })();
  return {
    stop: async () => {
      stopped = true;
      await pace;
      return durations;
    },
  };
}

function quantile(values, q) {
  const sorted = [...values].sort((a, b) => a - b);
  return Math.round((sorted[Math.floor((sorted.length - 1) * q)] ?? 0) * 100) / 100;
}

const shown = (durations) => ({
  p50_ms: quantile(durations, 0.5),
  p99_ms: quantile(durations, 0.99),
  n: durations.length,
});

/** Microseconds of processor time that the vault's PostgreSQL has used: its postmaster, with what ended, and its children. */
function databaseMicros(postmaster) {
  let ticks = 0;
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8');
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      if (name === postmaster) for (const at of [11, 12, 13, 14]) ticks += Number(fields[at]);
      else if (fields[1] === postmaster) ticks += Number(fields[11]) + Number(fields[12]);
    } catch {
      // It has ended.
    }
  }
  return ticks * 10_000;
}

/**
 * Until the job has ended, or for so many milliseconds. Asks the database itself how far it is: an audited read each time
 * would be a good part of what is measured.
 */
async function watch({ owner }, job, mostMs = Number.POSITIVE_INFINITY) {
  const started = performance.now();
  let rssPeak = 0;
  for (;;) {
    rssPeak = Math.max(rssPeak, process.memoryUsage.rss());
    const [now] = await owner`SELECT state, error, done::int FROM jobs WHERE job_id = ${job.id}`;
    if (now.state === 'failed') throw new Error(`the job failed: ${now.error}`);
    const seconds = (performance.now() - started) / 1000;
    if (now.state === 'done' || seconds * 1000 >= mostMs) return { seconds, done: now.done, rssPeak };
    await sleep(50);
  }
}

async function rotateAndWait(stage) {
  const cpu = process.cpuUsage();
  const database = databaseMicros(stage.postmaster);
  const { job } = await rotateKey(stage.vault, stage.admin, { reencrypt: true });
  const { seconds, rssPeak } = await watch(stage, job);
  const { user, system } = process.cpuUsage(cpu);
  return { seconds, rssPeak, nodeMicros: user + system, databaseMicros: databaseMicros(stage.postmaster) - database };
}

/**
 * Re-encryption of `secrets` secrets of 1 KiB: alone, and with readers beside it, whose p99 is compared with the p99 of
 * the same readers before. Memory is the peak of this process, which is the vault, over what it was before.
 */
async function benchReencryption({ secrets = 100_000, readsPerSecond = 200, beforeMs = 5_000 } = {}) {
  return withVault(async (stage) => {
    const { admin } = stage;
    await fill(stage.vault, stage.owner, admin.token.tenantId, secrets);
    await stage.restart();
    const rssBefore = process.memoryUsage.rss();
    const alone = await withJobs(stage, () => rotateAndWait(stage));
    await stage.owner.unsafe('VACUUM secret_versions');
    await stage.restart();
    return withJobs(stage, async () => {
      // The first reads of a process are slower than all others.
      const first = startReaders(stage.vault, admin, secrets, readsPerSecond);
      await sleep(beforeMs / 2);
      await first.stop();
      const before = startReaders(stage.vault, admin, secrets, readsPerSecond);
      await sleep(beforeMs);
      const calm = await before.stop();
      const beside = startReaders(stage.vault, admin, secrets, readsPerSecond);
      const { job } = await rotateKey(stage.vault, admin, { reencrypt: true });
      const loaded = await watch(stage, job, beforeMs * BESIDE_PER_BEFORE);
      const busy = await beside.stop();
      await watch(stage, job);
      return {
        bench: 'reencryption',
        cores: availableParallelism(),
        secrets,
        alone_per_second: Math.round(secrets / alone.seconds),
        node_us_per_secret: Math.round(alone.nodeMicros / secrets),
        database_us_per_secret: Math.round(alone.databaseMicros / secrets),
        rss_growth_mib: Math.round((Math.max(alone.rssPeak, loaded.rssPeak) - rssBefore) / 2 ** 20),
        with_reads_per_second: Math.round(loaded.done / loaded.seconds),
        reads_before: shown(calm),
        reads_during: shown(busy),
        p99_ratio: Math.round((quantile(busy, 0.99) / quantile(calm, 0.99)) * 100) / 100,
      };
    });
  });
}

async function withJobs({ vault }, use) {
  const runner = startJobs(vault);
  try {
    return await use();
  } finally {
    await runner.stop();
  }
}

/** One root rotation with the data keys of `tenants` tenants to re-wrap. */
async function benchRootRotation({ tenants = 10_000 } = {}) {
  return withVault(async ({ vault, owner, operator }) => {
    const root = await activeRootKey(vault);
    const rows = Array.from({ length: tenants }, () => {
      const id = randomId();
      const wrapped = Buffer.from(root.wrap(dataKeyContext(id, 1), Key.generate(1)));
      return { id, wrapped: wrapped.toString('base64') };
    });
    const ids = rows.map((row) => row.id);
    await owner.begin((sql) => [
      sql`INSERT INTO tenants SELECT id, 'bench-' || id, 'active', now() FROM unnest(${ids}::text[]) u (id)`,
      sql`INSERT INTO audit_heads SELECT id, 0, '', now(), 0 FROM unnest(${ids}::text[]) u (id)`,
      sql`INSERT INTO data_keys SELECT id, 1, 'active', 'bench', now() FROM unnest(${ids}::text[]) u (id)`,
      sql`INSERT INTO data_key_material SELECT id, 1, 'system', ${root.version}, decode(w, 'base64')
          FROM unnest(${ids}::text[], ${rows.map((row) => row.wrapped)}::text[]) u (id, w)`,
    ]);
    const started = performance.now();
    const { rewrapped } = await rotateRoot(vault, operator);
    const seconds = (performance.now() - started) / 1000;
    return {
      bench: 'root-rotation',
      cores: availableParallelism(),
      tenants,
      rewrapped,
      seconds: Math.round(seconds * 100) / 100,
    };
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [secrets = 100_000, tenants = 10_000, beforeMs = 5_000] = process.argv.slice(2).map(Number);
  console.log(JSON.stringify(await benchReencryption({ secrets, beforeMs })));
  console.log(JSON.stringify(await benchRootRotation({ tenants })));
}
