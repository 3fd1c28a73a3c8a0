/** What is not there is no error to who wants it gone, or wants to know what is there. */
import { type ErrorCode, VaultError } from '../../errors.ts';
import { type Answer, EMPTY } from './answer.ts';

/** `codes`: what counts as not being there. */
export async function orNone<T>(
  act: Promise<T> | undefined,
  codes: readonly ErrorCode[] = ['not_found'],
): Promise<T | undefined> {
  try {
    return await act;
  } catch (error) {
    if (error instanceof VaultError && codes.includes(error.code)) return undefined;
    throw error;
  }
}

export async function ignoreAbsent(act: Promise<unknown> | undefined): Promise<Answer> {
  await orNone(act);
  return EMPTY;
}
