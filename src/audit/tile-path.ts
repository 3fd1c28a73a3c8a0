/**
 * The path of a tile in c2sp.org/tlog-tiles, after `tile/`:
 *
 *     <level> "/" <n> [".p/" <width>]       n in groups of three digits, each but the last with an x before it:
 *                                           1234067 is x001/x234/067
 */
import { VaultError } from '../errors.ts';

export type TilePath = { readonly level: number; readonly tile: number; readonly width: number };

const FORM = /^([0-6])\/((?:x\d{3}\/)*)(\d{3})(?:\.p\/([1-9]\d{0,2}))?$/;
const FULL = 256;

/** Throws `invalid_request`. A full tile is never spelled as a partial one, nor with needless groups. */
export function parseTilePath(text: string): TilePath {
  const match = FORM.exec(text);
  const groups = match?.[2] ?? '';
  const width = match?.[4] === undefined ? FULL : Number(match[4]);
  const tile = Number(groups.replaceAll(/[x/]/g, '') + (match?.[3] ?? ''));
  if (
    match === null ||
    groups.startsWith('x000/') ||
    !Number.isSafeInteger(tile) ||
    (match[4] !== undefined && width >= FULL)
  ) {
    throw new VaultError('invalid_request', 'tile: expected <level>/<n>, such as 0/x001/x234/067 or 0/003.p/17.');
  }
  return { level: Number(match[1]), tile, width };
}
