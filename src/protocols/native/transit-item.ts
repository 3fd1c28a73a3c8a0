/** Items of calls to named keys, and the answers for each: what all of their routes share. Bytes are base64 on both ways. */
import { z } from '@hono/zod-openapi';
import { LIMITS } from '../../config.ts';
import { faultError } from '../../transit/fault.ts';
import type { Result } from '../../transit/use.ts';
import { json } from './endpoint.ts';

export const base64 = z
  .string()
  .transform((text, context) => {
    const bytes = Buffer.from(text, 'base64');
    if (bytes.toString('base64') === text) return bytes;
    context.addIssue({ code: 'custom', message: 'expected bytes in base64, with padding' });
    return z.NEVER;
  })
  .openapi({ type: 'string', format: 'byte' });

export const context = base64.optional().openapi({
  description: `Of a derived key; at most ${LIMITS.transitContextBytesMax} bytes. Of an hpke key its info.`,
});
export const associatedData = base64
  .optional()
  .openapi({ description: 'Bound to the ciphertext and not in it: the same is needed to open it.' });
export const keyVersion = z
  .int()
  .min(0)
  .max(LIMITS.versionMax)
  .optional()
  .openapi({ description: 'The latest when absent or 0.' });
export const reference = z.string().max(256).optional().openapi({ description: 'Comes back with the answer.' });

export const itemsOf = <T extends z.ZodType>(item: T) =>
  z.strictObject({ items: z.array(item).min(1).max(LIMITS.transitCostMax) });

export const answerOf = <T extends z.ZodRawShape>(fields: T) =>
  z.object({
    items: z.array(
      z
        .object(fields)
        .partial()
        .extend({
          error: z.string().optional().openapi({ description: 'What is wrong with the item, in place of the rest.' }),
          reference: z.string().optional(),
        }),
    ),
  });

/** Throws when every item failed: the call is recorded as failed too. */
export function answer<T>(results: readonly Result<T>[], shape: (ok: T) => object): Response {
  const faults = results.flatMap((result) => ('fault' in result ? [result.fault] : []));
  if (faults.length === results.length) throw faultError(faults[0]!);
  const items = results.map((result) => {
    const named = result.reference === undefined ? {} : { reference: result.reference };
    return 'fault' in result ? { error: result.fault.message, ...named } : { ...shape(result.ok), ...named };
  });
  return json(200, { items });
}

export const text64 = (bytes: Uint8Array) =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('base64');

export const common = { method: 'post', tag: 'transit', errors: ['not_found', 'conflict', 'integrity'] } as const;
