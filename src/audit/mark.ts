/**
 * The mark: the last checkpoint of every log, kept in a file outside the database. Whoever puts an older database back
 * does not put this file back, so the next start sees it.
 *
 *     one JSON object a line: {"origin": "<deployment>/<tenant>", "note": "<signed note>"}; the last of an origin counts
 *
 * Lines are appended and synced; the file is rewritten when most of it is out of date. A last line without its line feed
 * was cut by a crash and is ignored. The file holds nothing secret, and must never be trusted without its signatures.
 */
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { type Checkpoint, parseCheckpoint } from '../crypto/note.ts';
import { randomId } from '../crypto/token.ts';
import { asTenantId, SYSTEM, type TenantId, transaction } from '../db/database.ts';
import { VaultError } from '../errors.ts';
import { withoutToken } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import {
  assertExtends,
  type LogKeys,
  openCheckpoint,
  originOf,
  type SignedCheckpoint,
  verifiersOf,
} from './checkpoint.ts';
import { VAULT_ACTOR } from './entry.ts';
import { readExtent } from './tree.ts';

export type Mark = {
  readonly file: string;
  /** Notes by origin. */
  readonly notes: Map<string, string>;
  lines: number;
};

const STALE_LINES_MAX = 1000;
const PROBLEMS_SAID_MAX = 3;

/** Reads the mark, or an empty one where there is none. Throws `integrity` when the file is not a mark. */
export function readMark(file: string): Mark {
  const text = readIfThere(file) ?? '';
  const notes = new Map<string, string>();
  const lines = text.split('\n').slice(0, -1);
  for (const line of lines) {
    const { origin, note } = parseLine(line, file);
    notes.set(origin, note);
  }
  return { file, notes, lines: lines.length };
}

function parseLine(line: string, file: string): { origin: string; note: string } {
  try {
    const { origin, note } = JSON.parse(line) as { origin: unknown; note: unknown };
    if (typeof origin === 'string' && typeof note === 'string') return { origin, note };
  } catch {
    // Said below.
  }
  throw new VaultError(
    'integrity',
    `${file} holds a line that is no checkpoint: it was edited or damaged. Restore it, or acknowledge that it is lost with "bulla audit acknowledge-rollback".`,
  );
}

function readIfThere(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Keeps checkpoints, durably on return. */
export function keepInMark(mark: Mark, checkpoints: readonly { origin: string; note: string }[]): void {
  if (checkpoints.length === 0) return;
  for (const { origin, note } of checkpoints) mark.notes.set(origin, note);
  if (mark.lines + checkpoints.length > 2 * mark.notes.size + STALE_LINES_MAX) {
    rewrite(mark);
    return;
  }
  write(mark.file, 'a', checkpoints);
  mark.lines += checkpoints.length;
}

function rewrite(mark: Mark): void {
  const all = [...mark.notes].map(([origin, note]) => ({ origin, note }));
  const next = `${mark.file}.new`;
  write(next, 'w', all);
  renameSync(next, mark.file);
  mark.lines = all.length;
}

function write(file: string, flag: 'a' | 'w', lines: readonly { origin: string; note: string }[]): void {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  const descriptor = openSync(file, flag, 0o600);
  try {
    writeSync(descriptor, lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

const acknowledgedFile = (file: string) => `${file}.acknowledged`;

/** Whether an operator has set a mark aside and no start has recorded that yet. */
export const isAcknowledged = (file: string) => existsSync(acknowledgedFile(file));

/** Sets the mark aside: the next start goes on without it and records that. False where there is no mark. */
export function acknowledgeRollback(file: string): boolean {
  try {
    renameSync(file, acknowledgedFile(file));
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}

/**
 * Compares the database with the mark. Throws `integrity` with a sentence for the operator where a log is not an
 * extension of what was marked. What an operator acknowledged is recorded first, in the system log and in the logs.
 */
export async function checkMark(vault: Vault, keys: LogKeys, file: string): Promise<Mark> {
  await recordAcknowledged(vault, keys, file);
  const mark = readMark(file);
  const problems: string[] = [];
  for (const [origin, note] of mark.notes) {
    const problem = await problemWith(vault, keys, origin, note);
    if (problem !== undefined) problems.push(problem);
  }
  if (problems.length > 0) {
    const said = problems.slice(0, PROBLEMS_SAID_MAX).join(' ');
    throw new VaultError(
      'integrity',
      `${said} ${file} keeps what was signed of ${problems.length} such ${problems.length === 1 ? 'log' : 'logs'}. If an older database was put back on purpose, run "bulla audit acknowledge-rollback" and start again: that is recorded.`,
    );
  }
  return mark;
}

async function problemWith(vault: Vault, keys: LogKeys, origin: string, note: string): Promise<string | undefined> {
  const [deployment, tenant = ''] = origin.split('/');
  if (deployment !== vault.deploymentId) {
    return `The checkpoint of the log ${origin} is another deployment's: this database is ${vault.deploymentId}.`;
  }
  try {
    const id = asTenantId(tenant);
    const checkpoint = openCheckpoint(note, origin, verifiersOf(vault, id, keys));
    await transaction(vault.db, [id], async (tx) => assertExtends(tx, id, checkpoint, await readExtent(tx, id)));
    return undefined;
  } catch (error) {
    if (error instanceof VaultError && error.code === 'integrity') return error.message;
    throw error;
  }
}

async function recordAcknowledged(vault: Vault, keys: LogKeys, file: string): Promise<void> {
  const aside = acknowledgedFile(file);
  if (!existsSync(aside)) return;
  const found: { tenant: TenantId | undefined; marked: Checkpoint | undefined; origin: string }[] = [];
  for (const [origin, note] of notesSetAside(aside)) {
    if ((await problemWith(vault, keys, origin, note)) === undefined) continue;
    found.push({ origin, tenant: await ownTenant(vault, origin), marked: parsedOf(note) });
  }
  const call = { requestId: `rollback-${randomId()}`, source: '', protocol: 'vault' };
  const said = {
    actor: VAULT_ACTOR,
    action: 'audit.acknowledge-rollback',
    resource: 'audit:log',
    outcome: 'ok',
  } as const;
  const tenants = [...new Set([SYSTEM, ...found.flatMap(({ tenant }) => tenant ?? [])])];
  await withoutToken(vault, call, tenants, async () => {
    const records = found.flatMap(({ tenant, marked, origin }) => {
      const details = {
        origin,
        marked_size: marked?.size ?? 0,
        marked_root: Buffer.from(marked?.root ?? []).toString('base64'),
      };
      const record = { ...said, details };
      return tenant === undefined || tenant === SYSTEM
        ? [{ ...record, tenant: SYSTEM }]
        : [
            { ...record, tenant },
            { ...record, tenant: SYSTEM },
          ];
    });
    return { value: undefined, records };
  });
  rmSync(aside);
}

/** A file that cannot be read any more was acknowledged as lost: the entry says so. */
function notesSetAside(file: string): ReadonlyMap<string, string> {
  try {
    return readMark(file).notes;
  } catch (error) {
    if (error instanceof VaultError && error.code === 'integrity') return new Map([['unreadable/', '']]);
    throw error;
  }
}

function parsedOf(note: string): Checkpoint | undefined {
  try {
    return parseCheckpoint(note.slice(0, note.lastIndexOf('\n\n') + 1));
  } catch {
    return undefined;
  }
}

/** The log's tenant when this database has it. */
async function ownTenant(vault: Vault, origin: string): Promise<TenantId | undefined> {
  const [deployment, tenant = ''] = origin.split('/');
  if (deployment !== vault.deploymentId) return undefined;
  const id = asTenantId(tenant);
  const rows = await transaction(vault.db, [id], (tx) => tx`SELECT 1 FROM audit_heads WHERE tenant_id = ${id}`);
  return rows.length > 0 ? id : undefined;
}

/** What the mark keeps of a checkpoint. */
export const markOf = (vault: Vault, { tenant, note }: SignedCheckpoint) => ({ origin: originOf(vault, tenant), note });
