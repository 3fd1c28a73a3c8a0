/** How far something long is, on a terminal that a person looks at: a bar where the end is known, a count where not. */
import type { Io } from './io.ts';
import { clean } from './print.ts';

const BAR_CHARACTERS = 30;
const EVERY_MS = 100;

/** `[#####-----]  42000/100000` */
export function bar(done: number, total: number): string {
  const filled = total === 0 ? 0 : Math.floor((Math.min(done, total) / total) * BAR_CHARACTERS);
  return clean(`[${'#'.repeat(filled)}${'-'.repeat(BAR_CHARACTERS - filled)}]  ${done}/${total}`);
}

export type Progress = {
  /** `done` of the total where there is one; `count` of what has come. */
  show(done: number, count: number): void;
  /** Wipes the line; to be called whatever happened. */
  end(): void;
};

export function createProgress({ stderr }: Io, what: string, total: number | undefined): Progress {
  let shownAt = 0;
  return {
    show: (done, count) => {
      if (!stderr.isTTY || Date.now() - shownAt < EVERY_MS) return;
      shownAt = Date.now();
      const text = `${count.toLocaleString('en')} ${what}`;
      stderr.write(`\r\u001b[K${total === undefined ? text : `${bar(done, total)}  ${text}`}`);
    },
    end: () => {
      if (shownAt > 0) stderr.write('\r\u001b[K');
    },
  };
}
