/** The reference of a login: Argon2id and nothing else, as many at once as the server allows itself. Prints hashes per second. */
import { setTimeout as sleep } from 'node:timers/promises';
import { hash } from 'argon2';

const [cost = '{}', atOnce = '1', seconds = '2'] = process.argv.slice(2);
const { memoryKib, passes, lanes } = JSON.parse(cost) as { memoryKib: number; passes: number; lanes: number };
let done = 0;
let over = false;
async function worker(): Promise<void> {
  while (!over) {
    await hash('a password for the bench only', { memoryCost: memoryKib, timeCost: passes, parallelism: lanes });
    done += 1;
  }
}
const started = performance.now();
const workers = Array.from({ length: Number(atOnce) }, worker);
await sleep(Number(seconds) * 1000);
over = true;
await Promise.all(workers);
process.stdout.write(`${done / ((performance.now() - started) / 1000)}\n`);
