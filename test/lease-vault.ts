/** A vault whose sweeper runs, and a target beside it; what the vault has left at the end is proven. */
import { startSweeper } from '../src/lease/sweeper.ts';
import { testVault } from './harness.ts';
import { leaseTarget } from './lease-target.ts';

export async function leaseVault(env: Record<string, string> = {}) {
  const [t, target] = [await testVault({ env }), await leaseTarget()];
  t.secrets.add(target.config.password);
  const sweeper = startSweeper(t.vault);
  const close = async () => {
    await sweeper.stop();
    await t.check();
    await t.close();
    await target.close();
  };
  return { t, target, close };
}
