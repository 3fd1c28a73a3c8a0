/** docs/audit.md in bytes: the published vectors hold for the product and for the second verifier. */
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { verifyLog } from '../src/audit/verify-log.ts';
import { SecretBytes } from '../src/crypto/keys.ts';
import { leafHash, treeRoot, verifyConsistency, verifyInclusion } from '../src/crypto/merkle.ts';
import { NoteSigner, openNote, parseCheckpoint, parseVerifierKey, signNote } from '../src/crypto/note.ts';
import { referenceVerify } from './verifier.reference.ts';

const DIRECTORY = fileURLToPath(new URL('./vectors/', import.meta.url));
const vector = (name: string) => JSON.parse(readFileSync(`${DIRECTORY}audit-${name}.json`, 'utf8'));
const bytes = (text: string) => Buffer.from(text, 'base64');
const base64 = (value: Uint8Array) => Buffer.from(value).toString('base64');

const whole = vector('export') as { lines: string[]; key: string; older: string; checkpoint: string; proven: string };
const leaves = whole.lines.map((line) => leafHash(Buffer.from(line)));
const roots = (vector('tree').roots as string[]).map(bytes);
const SIZE = leaves.length;

describe('vectors', () => {
  it('leaf and roots', () => {
    const { line, leaf } = vector('leaf');
    expect(base64(leafHash(Buffer.from(line)))).toBe(leaf);
    for (let size = 0; size <= SIZE; size++) expect(base64(treeRoot(leaves.slice(0, size)))).toBe(base64(roots[size]!));
  });

  it('checkpoint: the seed gives the key and, Ed25519 being deterministic, the note', () => {
    const { seed, key, note } = vector('checkpoint');
    const signer = new NoteSigner(key.split('+')[0], SecretBytes.fromBytes(bytes(seed)));
    expect(signer.verifierKey).toBe(key);
    const { text } = openNote(Buffer.from(note), [parseVerifierKey(key)]);
    expect(signNote(text, [signer])).toBe(note);
    expect(parseCheckpoint(text)).toMatchObject({ size: SIZE });
  });

  it('inclusion and consistency', () => {
    for (const { index, size, proof } of vector('inclusion').proofs) {
      expect(verifyInclusion(index, size, leaves[index]!, proof.map(bytes), roots[size]!), String(index)).toBe(true);
    }
    for (const { from, to, proof } of vector('consistency').proofs) {
      expect(verifyConsistency(from, roots[from]!, to, roots[to]!, proof.map(bytes)), String(from)).toBe(true);
    }
  });

  const exports = readdirSync(DIRECTORY).filter((name) => name.startsWith('audit-export'));
  it.each(exports)('%s, as the whole log and as a choice of it', async (name) => {
    const { lines, proven, key, older, checkpoint } = JSON.parse(readFileSync(DIRECTORY + name, 'utf8'));
    const expected = !name.includes('-fail-');
    const all = `${lines.join('\n')}\n`;
    for (const [text, note] of [
      [all, checkpoint],
      [proven, undefined],
    ]) {
      const report = await verifyLog(() => [Buffer.from(text)], { checkpoint: note, keys: [key], older });
      expect(report.ok, JSON.stringify(report)).toBe(expected);
      expect(referenceVerify(text, { note, older, key })).toBe(expected);
    }
  });
});
