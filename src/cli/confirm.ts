/** Asking before what cannot be undone: at a terminal by typing the name, elsewhere only with --yes. */
import { VaultError } from '../errors.ts';
import { createAsker, type Io } from './io.ts';

export async function confirm(io: Io, question: string, name: string): Promise<void> {
  if (!io.stdin.isTTY)
    throw new VaultError('invalid_request', `${question} Nothing was done: say --yes where nobody can be asked.`);
  const asker = createAsker(io);
  try {
    const answer = await asker.line(`${question} This cannot be undone. Type ${name} to go on`);
    if (answer !== name) throw new VaultError('invalid_request', 'That is not the name; nothing was done.');
  } finally {
    asker.close();
  }
}
