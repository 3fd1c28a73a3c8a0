/**
 * Two workers against one process: the same audited reads from two servers that run side by side, each with its own
 * PostgreSQL. Two scale where a core is free, so each row says how many there are: server, database and load share them.
 */
import { availableParallelism } from 'node:os';
import { fill, readsAt, warmUp } from './read.ts';
import { load, residentOf, type Stage, startStage } from './stage.ts';
import { figure, type Row, round } from './table.ts';

export async function benchWorkers(one: Stage, rounds: number, seconds: number): Promise<Row[]> {
  const two = await startStage({ BULLA_WORKERS: '2' });
  try {
    await fill(two);
    const rows: Row[] = [];
    const at = ({ port, admin }: Stage, connections: number) => {
      const requests = readsAt(port, admin);
      return () => load({ port, connections, seconds, warmupSeconds: 0.3, requests });
    };
    for (const stage of [one, two]) await warmUp(stage.port, readsAt(stage.port, stage.admin), seconds);
    for (const connections of [64, 256]) {
      const name = `two workers, audited read, ${connections} connections, ${availableParallelism()} cores`;
      const costs: string[] = [];
      const reference = async () => {
        const before = await one.used();
        const measured = await at(one, connections)();
        const after = await one.used();
        const of = (side: 'node' | 'database') => (after[side] - before[side]) / measured.answers;
        costs.push(`${of('node').toFixed(0)} + ${of('database').toFixed(0)} µs`);
        return measured;
      };
      rows.push(await round(name, 'one process', rounds, { ours: at(two, connections), reference, used: two.used }));
      rows.push(figure(`one process meanwhile, ${connections} connections: server + database`, costs.join(', ')));
    }
    rows.push(figure('two workers, memory of all three processes', `${Math.round(residentOf(two.pid))} MiB`));
    return rows;
  } finally {
    await two.end();
  }
}
