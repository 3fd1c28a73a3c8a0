/** Rows of the bench: what was measured, against what, and how far the rounds were apart. */
import type { Load } from './load.ts';
import type { Used } from './stage.ts';

export type Row = {
  readonly name: string;
  /** What it is measured against in the same run. */
  readonly reference: string;
  readonly ours?: Load;
  readonly theirs?: Load;
  /** Ours by the reference, the median over the rounds, and the lowest and highest of them. */
  readonly ratio?: { readonly median: number; readonly low: number; readonly high: number };
  /** For one request, the median over the rounds: microseconds of processor time, and bytes of WAL. */
  readonly cost?: Used;
  readonly goal?: string;
  /** Where the figure is not a rate. */
  readonly text?: string;
};

export const median = (values: readonly number[]) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!;

function medianLoad(loads: readonly Load[]): Load {
  const of = (pick: (load: Load) => number) => median(loads.map(pick));
  return {
    perSecond: of((load) => load.perSecond),
    p50Ms: of((load) => load.p50Ms),
    p99Ms: of((load) => load.p99Ms),
    answers: of((load) => load.answers),
    failed: Math.max(...loads.map((load) => load.failed)),
  };
}

export type Round = {
  readonly ours: () => Promise<Load>;
  readonly reference: () => Promise<Load>;
  /** What our side has used so far. */
  readonly used?: () => Promise<Used>;
};

/** Runs ours and the reference in turn, so that a machine that changes its speed changes both. */
export async function round(name: string, reference: string, rounds: number, sides: Round): Promise<Row> {
  const a: Load[] = [];
  const b: Load[] = [];
  const costs: Used[] = [];
  for (let i = 0; i < rounds; i += 1) {
    b.push(await sides.reference());
    const before = await sides.used?.();
    const load = await sides.ours();
    const after = await sides.used?.();
    a.push(load);
    if (before && after) costs.push(perRequest(before, after, load.answers));
  }
  const ratios = a.map((load, i) => load.perSecond / b[i]!.perSecond);
  const ratio = { median: median(ratios), low: Math.min(...ratios), high: Math.max(...ratios) };
  const of = (pick: (used: Used) => number) => median(costs.map(pick));
  const cost =
    costs.length === 0
      ? {}
      : { cost: { node: of((c) => c.node), database: of((c) => c.database), walBytes: of((c) => c.walBytes) } };
  return { name, reference, ours: medianLoad(a), theirs: medianLoad(b), ratio, ...cost };
}

function perRequest(before: Used, after: Used, requests: number): Used {
  const of = (pick: (used: Used) => number) => (pick(after) - pick(before)) / requests;
  return { node: of((u) => u.node), database: of((u) => u.database), walBytes: of((u) => u.walBytes) };
}

export const figure = (name: string, text: string, goal?: string): Row => ({
  ...{ name, reference: goal === undefined ? '–' : `goal ${goal}`, text },
  ...(goal === undefined ? {} : { goal }),
});

const number = (value: number | undefined, digits = 0) =>
  value === undefined ? '' : value.toLocaleString('en', { maximumFractionDigits: digits });

export function print(rows: readonly Row[]): string {
  const cells = rows.map((row) => [
    row.name,
    row.text ?? `${number(row.ours?.perSecond)}/s`,
    row.ours ? `${number(row.ours.p50Ms, 2)} / ${number(row.ours.p99Ms, 2)}` : '',
    row.ratio ? `${row.ratio.median.toFixed(2)} (${row.ratio.low.toFixed(2)}–${row.ratio.high.toFixed(2)})` : '',
    row.theirs ? `${row.reference}: ${number(row.theirs.perSecond)}/s` : row.reference,
    row.cost ? `${number(row.cost.node)} + ${number(row.cost.database)} µs, ${number(row.cost.walBytes)} B` : '',
    row.ours?.failed ? `${row.ours.failed} failed` : '',
  ]);
  const header = ['', 'ours', 'p50 / p99 ms', 'ratio', 'against', 'server + database, WAL', ''];
  const widths = header.map((title, i) => Math.max(title.length, ...cells.map((cell) => cell[i]!.length)));
  return [header, ...cells]
    .map((line) =>
      line
        .map((cell, i) => cell.padEnd(widths[i]!))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
