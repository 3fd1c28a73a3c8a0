/** Rows of the bench: what was measured, against what, and how far the rounds were apart. */
import type { Load } from './load.ts';

export type Row = {
  readonly name: string;
  /** What it is measured against in the same run. */
  readonly reference: string;
  readonly ours?: Load;
  readonly theirs?: Load;
  /** Ours by the reference, the median over the rounds, and the lowest and highest of them. */
  readonly ratio?: { readonly median: number; readonly low: number; readonly high: number };
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

/** Runs ours and the reference in turn, so that a machine that changes its speed changes both. */
export async function round(
  name: string,
  reference: string,
  rounds: number,
  { ours, reference: theirs }: { ours: () => Promise<Load>; reference: () => Promise<Load> },
): Promise<Row> {
  const a: Load[] = [];
  const b: Load[] = [];
  for (let i = 0; i < rounds; i += 1) {
    b.push(await theirs());
    a.push(await ours());
  }
  const ratios = a.map((load, i) => load.perSecond / b[i]!.perSecond);
  const ratio = { median: median(ratios), low: Math.min(...ratios), high: Math.max(...ratios) };
  return { name, reference, ours: medianLoad(a), theirs: medianLoad(b), ratio };
}

const number = (value: number | undefined, digits = 0) =>
  value === undefined ? '' : value.toLocaleString('en', { maximumFractionDigits: digits });

export function print(rows: readonly Row[]): string {
  const cells = rows.map((row) => [
    row.name,
    row.text ?? `${number(row.ours?.perSecond)}/s`,
    row.ours ? `${number(row.ours.p50Ms, 2)} / ${number(row.ours.p99Ms, 2)}` : '',
    row.ratio ? `${row.ratio.median.toFixed(2)} (${row.ratio.low.toFixed(2)}–${row.ratio.high.toFixed(2)})` : '',
    row.theirs ? `${row.reference}: ${number(row.theirs.perSecond)}/s` : row.reference,
    row.ours?.failed ? `${row.ours.failed} failed` : '',
  ]);
  const header = ['', 'ours', 'p50 / p99 ms', 'ratio', 'against', ''];
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
