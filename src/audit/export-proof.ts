/**
 * Exports that prove themselves: any choice of entries, with the hashes that lead to a checkpoint (proof-format.ts).
 * They end at the newest checkpoint: what is not signed yet cannot be proven.
 */
import type { TreeNode } from '../crypto/merkle.ts';
import { type TenantId, transaction } from '../db/database.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import type { Vault } from '../vault.ts';
import { readCheckpoint } from './checkpoint.ts';
import {
  CHUNK_ENTRIES,
  detailsOf,
  type Export,
  type ExportFilter,
  type Matcher,
  matcherOf,
  permitExport,
  segments,
  stretchOf,
} from './export.ts';
import type { DeletedLog } from './log.ts';
import { gapNodes, PROOF_START } from './proof-format.ts';
import { nodesOf, readExtent } from './tree.ts';

/**
 * The chosen entries up to the newest checkpoint, with their proof. The hashes are cut at `extending`, so that the
 * reader can compute the root that the log had at that size: an older checkpoint that it holds.
 */
export async function exportProven(
  vault: Vault,
  call: Call,
  filter: ExportFilter,
  extending?: number,
  log?: DeletedLog,
): Promise<Export> {
  const matches = matcherOf(filter);
  const said = { export: 'proof', ...detailsOf(filter), ...(extending === undefined ? {} : { extending }) };
  const { tenant } = await permitExport(vault, call, log, said);
  const checkpoint = await transaction(vault.db, [tenant], (tx) => readCheckpoint(tx, tenant));
  if (!checkpoint) {
    throw new VaultError('not_found', 'Nothing of this log is signed yet: POST /audit/checkpoint has it signed now.');
  }
  const { size, note } = checkpoint;
  const source = { vault, tenant, size, filter, matches, extending: extending ?? 0 };
  return { size, origin: `${vault.deploymentId}/${tenant}`, lines: readProven(source, note) };
}

type Source = {
  readonly vault: Vault;
  readonly tenant: TenantId;
  readonly size: number;
  readonly filter: ExportFilter;
  readonly matches: Matcher;
  readonly extending: number;
};

type Chosen = { readonly seq: number; readonly line: string };

async function* readProven(source: Source, note: string): AsyncGenerator<string> {
  const { vault, tenant, size, filter } = source;
  yield `${PROOF_START}"checkpoint":${JSON.stringify(note)}}\n`;
  let left = filter.limit ?? Number.POSITIVE_INFINITY;
  let proven = 0;
  const { start, end } = await stretchOf(vault, tenant, size, filter);
  for (let at = start; at < end && left > 0; at += CHUNK_ENTRIES) {
    const chosen = (await choose(source, at, Math.min(end, at + CHUNK_ENTRIES), end)).slice(0, left);
    if (chosen.length === 0) continue;
    left -= chosen.length;
    yield await proofText(source, proven, chosen);
    proven = chosen.at(-1)!.seq + 1;
  }
  if (proven < size) yield await proofText(source, proven, [], size);
}

/** The wanted lines of the segments that start from `from` to before `to`. */
async function choose(
  { vault, tenant, filter, matches }: Source,
  from: number,
  to: number,
  end: number,
): Promise<Chosen[]> {
  const rows = await segments(vault, tenant, from, to, filter);
  return rows.flatMap(({ firstSeq, lines }) =>
    lines
      .split('\n')
      .slice(0, -1)
      .map((line, i) => ({ seq: firstSeq + i, line }))
      .filter(({ seq, line }) => seq >= (filter.fromIndex ?? 0) && seq < end && (!matches || matches(line))),
  );
}

/** What leads from leaf `proven` over the chosen lines, and to `end` where that is given. */
async function proofText(source: Source, proven: number, chosen: readonly Chosen[], end?: number): Promise<string> {
  const { vault, tenant, extending } = source;
  const steps: { readonly node: TreeNode; readonly line?: string }[] = [];
  const skip = (low: number, high: number) => {
    const cut = extending > low && extending < high ? [low, extending, high] : [low, high];
    for (let i = 1; i < cut.length; i++) for (const node of gapNodes(cut[i - 1]!, cut[i]!)) steps.push({ node });
  };
  let at = proven;
  for (const { seq, line } of chosen) {
    skip(at, seq);
    steps.push({ node: { level: 0, index: seq }, line });
    at = seq + 1;
  }
  if (end !== undefined) skip(at, end);
  const hashes = await transaction(vault.db, [tenant], async (tx) =>
    nodesOf(tx, tenant, await readExtent(tx, tenant))(steps.map(({ node }) => node)),
  );
  let text = '';
  steps.forEach(({ node, line }, i) => {
    const hash = Buffer.from(hashes[i]!).toString('base64');
    text += line === undefined ? `{"hash":"${hash}","level":${node.level}}\n` : `{"leaf":"${hash}"}\n${line}\n`;
  });
  return text;
}
