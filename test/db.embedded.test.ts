/**
 * The embedded PostgreSQL with real processes: started, stopped, killed at bad moments, adopted, fought over. Linux.
 */
import { spawn } from 'node:child_process';
import { chownSync, existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { closeDatabase, openDatabase, SYSTEM, type Tx, transaction } from '../src/db/database.ts';
import {
  answers,
  connect,
  freshDir,
  isRoot,
  isServer,
  kill,
  mode,
  ownDirectories,
  query,
  refusal,
  serverPid,
  spawnVault,
  start,
  stop,
  usedDir,
} from './fixtures/embedded.ts';
import { until } from './until.ts';

ownDirectories();

// ---- starting and stopping ----------------------------------------------------------------------------------------

describe('a start', () => {
  it('makes a cluster whose roles have no power over it, keeps data over a stop, and leaks no password', async () => {
    const dataDir = freshDir();
    const first = await start(dataDir);
    const [me] = await query(
      first.app,
      `SELECT rolsuper OR rolbypassrls OR rolcreatedb OR rolcreaterole OR rolreplication AS power,
              has_database_privilege('bulla', 'CREATE') OR has_database_privilege('bulla', 'TEMP') AS creates,
              (SELECT count(*)::int FROM pg_class WHERE relowner = r.oid) AS owns
         FROM pg_roles r WHERE rolname = current_user`,
    );
    expect(me).toEqual({ power: false, creates: false, owns: 0 });
    const [owner] = await query(
      first.owner,
      'SELECT rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user',
    );
    expect(owner).toEqual({ rolsuper: false, rolbypassrls: false });
    await query(first.owner, 'CREATE TABLE kept (n int); INSERT INTO kept VALUES (42)');

    const pid = serverPid(dataDir) ?? 0;
    const secrets = [first.owner.password, first.app.password];
    const seen = ['cmdline', 'environ'].map((name) => readFileSync(`/proc/${pid}/${name}`, 'latin1')).join();
    for (const secret of secrets) expect(seen).not.toContain(secret);
    expect(seen).not.toContain('BULLA');

    await first.stop();
    await first.stop();
    expect(serverPid(dataDir)).toBeUndefined();
    expect(isServer(pid, dataDir)).toBe(false);
    const second = await start(dataDir);
    expect(second.adopted).toBe(false);
    expect(await query(second.owner, 'SELECT n FROM kept')).toEqual([{ n: 42 }]);
    expect(secrets).toEqual([second.owner.password, second.app.password]);
  });

  it('is durable, checksummed, UTF-8, bytewise sorted, and on a unix socket only', async () => {
    const { owner } = await start(await usedDir());
    const names = ['fsync', 'synchronous_commit', 'full_page_writes', 'data_checksums', 'jit'];
    names.push('listen_addresses', 'password_encryption', 'server_encoding', 'log_error_verbosity', 'log_min_messages');
    const rows = await query(owner, `SELECT name, setting FROM pg_settings WHERE name IN ('${names.join("','")}')`);
    expect(Object.fromEntries(rows.map(({ name, setting }) => [name, setting]))).toEqual({
      fsync: 'on',
      synchronous_commit: 'on',
      full_page_writes: 'on',
      data_checksums: 'on',
      jit: 'off',
      listen_addresses: '',
      password_encryption: 'scram-sha-256',
      server_encoding: 'UTF8',
      log_error_verbosity: 'terse',
      log_min_messages: 'log',
    });
    const sorted = `SELECT string_agg(x, '' ORDER BY x) AS s, lower('É') AS l FROM unnest(ARRAY['a','B','é']) x`;
    expect(await query(owner, sorted)).toEqual([{ s: 'Baé', l: 'é' }]);
  });

  it('T-250 leaves files that only their user can read, whatever the umask', async () => {
    const old = process.umask(0o000);
    try {
      const dataDir = freshDir();
      const { app } = await start(dataDir);
      expect(mode(dataDir)).toBe(isRoot ? '711' : '700');
      for (const name of ['pg', 'socket', 'lock']) expect(mode(join(dataDir, name))).toBe('700');
      for (const name of ['pg-credentials.json', 'pg.log']) expect(mode(join(dataDir, name))).toBe('600');
      expect(mode(join(dataDir, 'socket', '.s.PGSQL.5432'))).toBe('700');
      expect(app.host).toBe(join(dataDir, 'socket'));
      expect(statSync(join(dataDir, 'pg-credentials.json')).uid).toBe(process.getuid?.());
      if (isRoot) expect(statSync(join(dataDir, 'pg')).uid).not.toBe(0);
    } finally {
      process.umask(old);
    }
  });

  it('lets nobody in without the right password, and the superuser not at all', async () => {
    const { app, owner } = await start(await usedDir());
    const wrong = { ...app, password: owner.password };
    await expect(query(wrong, 'SELECT 1')).rejects.toMatchObject({ code: '28P01' });
    for (const database of ['bulla', 'postgres', 'template1']) {
      const attempt = query({ ...app, database, username: 'bulla_super', password: '' }, 'SELECT 1');
      await expect(attempt).rejects.toMatchObject({ code: '28000' });
    }
    await expect(query({ ...app, database: 'postgres' }, 'SELECT 1')).rejects.toMatchObject({ code: '42501' });
  });

  it('writes no value of a failing statement into its log', async () => {
    const dataDir = await usedDir();
    const { owner } = await start(dataDir);
    const canary = 'canary-5f1c';
    const sql = connect(owner);
    await sql`CREATE TABLE narrow (t text CHECK (t = 'x'))`;
    await expect(sql`INSERT INTO narrow VALUES (${canary})`).rejects.toMatchObject({ code: '23514' });
    await expect(sql.unsafe(`SELECT '${canary}'::json`)).rejects.toMatchObject({ code: '22P02' });
    await expect(sql.unsafe(`SELECT '${canary}' FROM missing`)).rejects.toMatchObject({ code: '42P01' });
    await sql.end();
    expect(readFileSync(join(dataDir, 'pg.log'), 'utf8')).not.toContain('canary');
  });

  it.runIf(existsSync('/proc/self/stat'))('runs the server in a session of its own', async () => {
    const dataDir = await usedDir();
    await start(dataDir);
    const pid = serverPid(dataDir);
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
    expect(Number(fields[3])).toBe(pid);
  });

  it('turns a long log over', async () => {
    const dataDir = await usedDir();
    writeFileSync(join(dataDir, 'pg.log'), 'x'.repeat(1_100_000), { mode: 0o600 });
    await start(dataDir);
    expect(statSync(join(dataDir, 'pg.log')).size).toBeLessThan(10_000);
    expect(statSync(join(dataDir, 'pg.log.1')).size).toBe(1_100_000);
    expect(mode(join(dataDir, 'pg.log.1'))).toBe('600');
  });
});

// ---- kills --------------------------------------------------------------------------------------------------------

describe('after a kill', () => {
  it('T-178 of the vault, the server is adopted with its data, and stopped by who adopted it', async () => {
    const dataDir = await usedDir();
    const killed = spawnVault(dataDir);
    expect(await killed.answer).toMatchObject({ adopted: false });
    const pid = serverPid(dataDir) ?? 0;
    await kill(killed);
    expect(isServer(pid, dataDir)).toBe(true);
    const next = await start(dataDir);
    expect(next.adopted).toBe(true);
    expect(serverPid(dataDir)).toBe(pid);
    await next.stop();
    expect(isServer(pid, dataDir)).toBe(false);
    expect((await start(dataDir)).adopted).toBe(false);
  });

  it('T-178 of vault and server, the next start recovers every commit', async () => {
    const dataDir = await usedDir();
    const first = await start(dataDir);
    await first.stop();
    const killed = spawnVault(dataDir);
    await killed.answer;
    await query(first.owner, 'INSERT INTO ledger SELECT generate_series(1, 1000)');
    await kill(killed);
    process.kill(serverPid(dataDir) ?? 0, 'SIGKILL');
    const next = await start(dataDir);
    expect(next.adopted).toBe(false);
    expect(await query(next.owner, 'SELECT count(*)::int AS n FROM ledger')).toEqual([{ n: 1000 }]);
  });

  it('T-178 of the server, a running vault brings it up again, even while a backend outlives it', async () => {
    const dataDir = await usedDir();
    const { owner, stop: stopIt } = await start(dataDir);
    const busy = connect(owner);
    const long = busy`SELECT count(*) FROM generate_series(1, 12000000)`.then(
      () => 'finished',
      () => 'lost',
    );
    const active = `SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%generate_series(1, 12000000)' AND pid <> pg_backend_pid()`;
    await until('the long statement runs', async () => (await query(owner, active)).length > 0);
    const pid = serverPid(dataDir) ?? 0;
    process.kill(pid, 'SIGKILL');
    await until('the server is back', async () => serverPid(dataDir) !== pid && (await answers(owner)));
    await long;
    await busy.end({ timeout: 1 });
    await stopIt();
    expect(serverPid(dataDir)).toBeUndefined();
  });

  it('T-178 of the server while many commit beside each other, all that was acknowledged is there', async () => {
    const dataDir = await usedDir();
    const { owner } = await start(dataDir);
    const options = { target: owner, setRole: false, connections: 8, deadlineMs: 2_000, clockOffsetSeconds: 0 };
    const db = openDatabase(options);
    const acknowledged: number[] = [];
    let sent = 0;
    let over = false;
    const writer = async () => {
      while (!over) {
        sent += 1;
        const n = sent;
        const done = transaction(db, [SYSTEM], (tx) => tx`INSERT INTO public.ledger VALUES (${n})`);
        const kept = await done.then(
          () => true,
          () => false,
        );
        if (kept) acknowledged.push(n);
        over ||= !kept;
      }
    };
    const writers = Array.from({ length: 16 }, writer);
    await until('many have committed', async () => acknowledged.length > 500);
    const pid = serverPid(dataDir) ?? 0;
    process.kill(pid, 'SIGKILL');
    await Promise.all(writers);
    await closeDatabase(db);
    await until('the server is back', async () => serverPid(dataDir) !== pid && (await answers(owner)));
    const kept = new Set((await query(owner, 'SELECT * FROM ledger')).map((row) => Object.values(row)[0]));
    expect(acknowledged.filter((n) => !kept.has(n))).toEqual([]);
  });

  it('T-178 of the server, what put its flush off is there with the first commit that did not', async () => {
    const dataDir = await usedDir();
    const { owner } = await start(dataDir);
    const options = { target: owner, setRole: false, connections: 1, deadlineMs: 2_000, clockOffsetSeconds: 0 };
    const db = openDatabase(options);
    let put = 0;
    await until('a commit has not waited for the disk', async () => {
      put += 1;
      const insert = (tx: Tx) => tx`INSERT INTO public.ledger VALUES (${put})`;
      await transaction(db, [SYSTEM], insert, { flushed: 'with-the-next-commit' });
      const [at] = await query(owner, 'SELECT pg_current_wal_insert_lsn() > pg_current_wal_flush_lsn() AS behind');
      return at!.behind === true;
    });
    put += 1;
    await transaction(db, [SYSTEM], (tx) => tx`INSERT INTO public.ledger VALUES (${put})`);
    const pid = serverPid(dataDir) ?? 0;
    process.kill(pid, 'SIGKILL');
    await closeDatabase(db);
    await until('the server is back', async () => serverPid(dataDir) !== pid && (await answers(owner)));
    const kept = (await query(owner, 'SELECT * FROM ledger')).map((row) => Object.values(row)[0]);
    expect(kept).toEqual(expect.arrayContaining(Array.from({ length: put }, (_, i) => i + 1)));
  });

  it('T-178 of an adopted server, the vault that adopted it brings it up again', async () => {
    const dataDir = await usedDir();
    const killed = spawnVault(dataDir);
    await killed.answer;
    await kill(killed);
    const { app, adopted } = await start(dataDir);
    expect(adopted).toBe(true);
    const pid = serverPid(dataDir) ?? 0;
    process.kill(pid, 'SIGKILL');
    await until('the server is back', async () => serverPid(dataDir) !== pid && (await answers(app)));
  });

  it('a stop while the server is down ends at once and leaves nothing running', async () => {
    const dataDir = await usedDir();
    const embedded = await start(dataDir);
    process.kill(serverPid(dataDir) ?? 0, 'SIGKILL');
    await embedded.stop();
    const pid = serverPid(dataDir);
    expect(pid !== undefined && isServer(pid, dataDir)).toBe(false);
    expect(await answers((await start(dataDir)).app)).toBe(true);
  });

  it('of a vault at any moment of the first start, the next start works', async () => {
    const dataDir = freshDir();
    const unfinished = () =>
      (existsSync(dataDir) ? readdirSync(dataDir) : []).filter((name) => name.startsWith('pg.tmp-'));
    let left: string[] = [];
    const cluster = () => join(dataDir, unfinished().find((name) => !left.includes(name)) ?? 'none');
    const databases = () => (existsSync(join(cluster(), 'base')) ? readdirSync(join(cluster(), 'base')).length : 0);
    const moments: Record<string, () => boolean> = {
      'the directory is there': () => existsSync(dataDir),
      'the lock is taken': () => existsSync(join(dataDir, 'lock', '1')),
      'initdb is to begin': () => existsSync(cluster()),
      'initdb has begun': () => existsSync(join(cluster(), 'PG_VERSION')),
      'initdb is past bootstrap': () => databases() > 1,
      'the database is made': () => databases() > 3,
      'the passwords are written': () => existsSync(join(dataDir, 'pg-credentials.json')),
      'the cluster is in place': () => existsSync(join(dataDir, 'pg')),
      'the server has begun': () => serverPid(dataDir) !== undefined,
    };
    for (const [moment, reached] of Object.entries(moments)) {
      left = unfinished();
      const vault = spawnVault(dataDir);
      const over = new AbortController();
      vault.ended.then(() => over.abort());
      await until(moment, () => reached() || over.signal.aborted);
      expect(over.signal.aborted, `the vault ended before: ${moment}`).toBe(false);
      await kill(vault);
    }
    const embedded = await start(dataDir);
    expect(await answers(embedded.app)).toBe(true);
    expect(await answers(embedded.owner)).toBe(true);
    await embedded.stop();
    await (await start(dataDir)).stop();
    expect(unfinished()).toEqual([]);
  });

  it('a pid that now belongs to another process of that user does not keep the server from starting', async () => {
    const dataDir = await usedDir();
    const { uid, gid } = statSync(join(dataDir, 'pg'));
    const stranger = spawn('sleep', ['60'], { uid, gid });
    try {
      const stale = `${stranger.pid}\n${join(dataDir, 'pg')}\n1700000000\n5432\n${join(dataDir, 'socket')}\n\n\nready\n`;
      writeFileSync(join(dataDir, 'pg', 'postmaster.pid'), stale);
      chownSync(join(dataDir, 'pg', 'postmaster.pid'), uid, gid);
      const embedded = await start(dataDir);
      expect(embedded.adopted).toBe(false);
      await embedded.stop();
      expect(stranger.exitCode).toBeNull();
    } finally {
      stranger.kill('SIGKILL');
    }
  });
});

// ---- two vaults ---------------------------------------------------------------------------------------------------

describe('ten vaults on one directory', () => {
  it('exactly one of them starts, the others name it; and again after it was killed', async () => {
    const dataDir = freshDir();
    for (const round of ['first start', 'after a kill']) {
      const vaults = Array.from({ length: 10 }, () => spawnVault(dataDir));
      const said = await Promise.all(vaults.map((vault) => vault.answer));
      const winners = said.filter((answer) => answer.pid !== undefined);
      expect(winners, `${round}: ${JSON.stringify(said)}`).toHaveLength(1);
      expect(winners[0]?.adopted).toBe(round === 'after a kill');
      const sentence = `another Bulla (pid ${winners[0]?.pid}) is running on ${dataDir}; stop it or set BULLA_DATA_DIR.`;
      for (const answer of said) {
        if (answer.pid === undefined) expect(answer).toEqual({ code: 'conflict', message: sentence });
      }
      const winner = vaults.find((vault) => vault.child.pid === winners[0]?.pid);
      if (winner) await kill(winner);
    }
    expect(readdirSync(join(dataDir, 'lock'))).toHaveLength(1);
  });

  it('one that is stopped by a signal still holds its directory', async () => {
    const dataDir = await usedDir();
    const vault = spawnVault(dataDir);
    await vault.answer;
    vault.child.kill('SIGSTOP');
    expect(await refusal(dataDir)).toMatch(/^VaultError conflict: another Bulla is running on /);
    vault.child.kill('SIGCONT');
    await stop(vault);
    expect((await start(dataDir)).adopted).toBe(false);
  });
});
