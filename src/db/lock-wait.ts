/** Waiting less long than a session would for what others have locked. */
import { sendLast, type Tx } from './database.ts';
import { sqlState } from './sql-error.ts';

/** lock_not_available and deadlock_detected. */
const HELD = new Set(['55P03', '40P01']);

/**
 * `work` waits so long for each lock; what comes after it in the transaction waits as ever. That others hold something for
 * longer, or wait for us, is no outage of the database: it is thrown as an error that undoes the transaction and no more.
 */
export async function waitingAtMost<T>(tx: Tx, lockMs: number, work: () => Promise<T>): Promise<T> {
  // Both travel with the statements behind them.
  sendLast(tx, tx.unsafe(`SET LOCAL lock_timeout = ${Math.ceil(lockMs)}`));
  try {
    const value = await work();
    sendLast(tx, tx.unsafe('SET LOCAL lock_timeout = DEFAULT'));
    return value;
  } catch (error) {
    throw HELD.has(sqlState(error) ?? '') ? new Error('others hold what was to be locked') : error;
  }
}
