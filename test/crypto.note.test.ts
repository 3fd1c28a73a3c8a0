/** Signed notes and checkpoints: golang.org/x/mod's examples, and what the specifications refuse (case T-092). */
import { inspect } from 'node:util';
import { describe, expect, test } from 'vitest';
import { SecretBytes } from '../src/crypto/keys.ts';
import {
  formatCheckpoint,
  formatVerifierKey,
  NoteSigner,
  openNote,
  parseCheckpoint,
  parseVerifierKey,
  signNote,
} from '../src/crypto/note.ts';
import { VaultError } from '../src/errors.ts';
import { utf8 } from './crypto.reference.ts';

const signer = (name: string, fill: number) =>
  new NoteSigner(name, SecretBytes.fromBytes(new Uint8Array(32).fill(fill)));
const log = signer('vault/log', 1);
const witness = signer('witness.example', 2);
const verifier = parseVerifierKey(log.verifierKey);
const TEXT = 'a text\n\nwith an empty line\n';

describe('the example of golang.org/x/mod/sumdb/note', () => {
  const vkey = 'PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW';
  // The body of PRIVATE+KEY+PeterNeumann+c74f20a3+…: 0x01, then the seed. It is published, so it is no secret.
  const seed = Buffer.from('AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz', 'base64').subarray(1);
  const text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
  const peter =
    '— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n';
  const enoch =
    '— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n';

  test('signs to the same bytes and has the same verifier key', () => {
    const signer = new NoteSigner('PeterNeumann', SecretBytes.fromBytes(seed));
    expect(signer.verifierKey).toBe(vkey);
    expect(signNote(text, [signer])).toBe(`${text}\n${peter}`);
  });

  test('opens, alone and beside a signature by a key that is not known here', () => {
    for (const note of [`${text}\n${peter}`, `${text}\n${peter}${enoch}`, `${text}\n${enoch}${peter}`]) {
      const opened = openNote(utf8(note), [parseVerifierKey(vkey)]);
      expect(opened.text).toBe(text);
      expect(opened.signedBy.map(({ name }) => name)).toEqual(['PeterNeumann']);
    }
  });
});

describe('notes', () => {
  const refusal = (note: string | Uint8Array, verifiers = [verifier]) => {
    try {
      openNote(typeof note === 'string' ? utf8(note) : note, verifiers);
    } catch (error) {
      expect(error).toBeInstanceOf(VaultError);
      expect((error as VaultError).code).toBe('integrity');
      return (error as VaultError).message;
    }
    return undefined;
  };
  const note = signNote(TEXT, [log]);
  const line = note.slice(TEXT.length + 1);

  test('a note opens to its text and to the trusted keys that signed it, each once', () => {
    const both = signNote(TEXT, [log, witness]);
    expect(openNote(utf8(both), [verifier])).toEqual({ text: TEXT, signedBy: [verifier] });
    const verifiers = [verifier, parseVerifierKey(witness.verifierKey)];
    expect(openNote(utf8(both), verifiers).signedBy).toEqual(verifiers);
    expect(openNote(utf8(note + line), [verifier]).signedBy).toEqual([verifier]);
  });

  test('T-092 control characters and broken UTF-8 are refused', () => {
    for (const character of ['\u0000', '\t', '\r', '\u001b', '\u001f']) {
      expect(refusal(note.replace('a text', `a${character}text`))).toMatch(/control characters/);
    }
    expect(refusal(Buffer.concat([Uint8Array.of(0xff), utf8(note)]))).toMatch(/UTF-8/);
    expect(refusal(Buffer.concat([Uint8Array.of(0xed, 0xa0, 0x80), utf8(note)]))).toMatch(/UTF-8/);
  });

  test('T-092 a missing newline, a missing empty line and missing signatures are refused', () => {
    expect(refusal(note.slice(0, -1))).toMatch(/each ended by a newline/);
    expect(refusal(TEXT.replace('\n\n', '\n') + line)).toMatch(/empty line/);
    for (const broken of ['', '\n', 'text', TEXT, `${TEXT}\n`]) expect(refusal(broken)).toBeDefined();
  });

  test('T-092 a malformed signature line is refused, even beside a good one', () => {
    const base64 = line.split(' ')[2]!.trim();
    for (const bad of [
      `- vault/log ${base64}\n`,
      `—vault/log ${base64}\n`,
      `— vault/log  ${base64}\n`,
      `— vault/log ${base64} \n`,
      `— vault/log\n`,
      `—  ${base64}\n`,
      `— vault+log ${base64}\n`,
      `— vault\u00a0log ${base64}\n`,
      '— vault/log AAAA\n',
      '— vault/log AAAAAA==\n',
      `— vault/log ${base64.replace('=', '')}\n`,
      `— vault/log ${base64.slice(0, -2)}!=\n`,
      `— vault/log ${base64.replaceAll('+', '-').replaceAll('/', '_')}\n`.replace('— vault_log', '— vault/log'),
    ]) {
      if (bad === line) continue;
      expect(refusal(note + bad), bad).toBeDefined();
    }
    expect(refusal(`${note}\n`)).toBeDefined();
  });

  test('T-092 signatures by unknown keys are ignored, even under a known name or a known id', () => {
    const sameName = signNote(TEXT, [signer('vault/log', 9)]).slice(TEXT.length + 1);
    const otherName = line.replace('vault/log', 'vault/other');
    expect(openNote(utf8(note + sameName + otherName), [verifier]).signedBy).toEqual([verifier]);
    expect(openNote(utf8(`${TEXT}\n${sameName}${otherName}${line}`), [verifier]).signedBy).toEqual([verifier]);
  });

  test('T-092 no signature by a known key is refused', () => {
    expect(refusal(signNote(TEXT, [witness]))).toMatch(/no key that is trusted/);
    expect(refusal(note, [])).toMatch(/no key that is trusted/);
    expect(refusal(`${TEXT}\n${line.replace('vault/log', 'vault/other')}`)).toMatch(/no key that is trusted/);
  });

  test('T-092 a wrong key id makes the signature one by an unknown key', () => {
    const bytes = Buffer.from(line.split(' ')[2]!, 'base64');
    bytes[0]! ^= 1;
    expect(refusal(`${TEXT}\n— vault/log ${bytes.toString('base64')}\n`)).toMatch(/no key that is trusted/);
  });

  test('T-092 a wrong signature by a known key refuses the note, even beside a right one', () => {
    const bytes = Buffer.from(line.split(' ')[2]!, 'base64');
    for (const changed of [
      bytes.subarray(0, -1),
      Buffer.concat([bytes, Uint8Array.of(0)]),
      bytes.map((b, i) => (i === 40 ? b ^ 1 : b)),
    ]) {
      const bad = `— vault/log ${Buffer.from(changed).toString('base64')}\n`;
      expect(refusal(`${TEXT}\n${bad}`)).toMatch(/signature .* is wrong/);
      expect(refusal(note + bad)).toMatch(/signature .* is wrong/);
    }
    expect(refusal(note.replace('a text', 'b text'))).toMatch(/edited after it was signed/);
  });

  test('the number of signatures is bounded, and 16 are accepted', () => {
    expect(openNote(utf8(note + line.replace('vault', 'other').repeat(15)), [verifier]).text).toBe(TEXT);
    expect(refusal(note + line.repeat(100))).toMatch(/at most 100/);
    expect(refusal(utf8(`${'x'.repeat(1_000_000)}\n`))).toMatch(/at most 1000000 bytes/);
  });

  test('a text that could not be opened again is not signed', () => {
    for (const text of ['', 'no newline', 'tab\there\n', 'half \ud800\n'])
      expect(() => signNote(text, [log])).toThrow(/assertion/);
    expect(() => signNote(TEXT, [])).toThrow(/assertion/);
    for (const name of ['', 'a b', 'a+b', 'a\u2003b', 'a\nb']) expect(() => signer(name, 1)).toThrow(/assertion/);
  });
});

describe('keys', () => {
  test('a verifier key reads back, and every edit of it is refused', () => {
    const { name, publicKey } = verifier;
    expect(formatVerifierKey(name, publicKey)).toBe(log.verifierKey);
    const [, id, key] = log.verifierKey.split('+') as [string, string, string];
    const rest = log.verifierKey.slice(name.length + 10);
    expect(rest.startsWith(key)).toBe(true);
    const other = Buffer.from([2, ...publicKey]).toString('base64');
    for (const bad of [
      '',
      name,
      `${name}+${id}`,
      `+${id}+${rest}`,
      `${name}x+${id}+${rest}`,
      `a b+${id}+${rest}`,
      `${name}+${id.toUpperCase()}+${rest}x`,
      `${name}+00000000+${rest}`,
      `${name}+${id}+${rest.slice(0, -4)}`,
      `${name}+${id}+${other}`,
      `${log.verifierKey}\n`,
    ]) {
      expect(() => parseVerifierKey(bad), bad).toThrowError(VaultError);
    }
  });

  test('a signer prints its name and key id, never its key, and does not sign once wiped', () => {
    const seed = Uint8Array.from({ length: 32 }, (_, i) => 0xa0 + i);
    const hidden = new NoteSigner('vault/log', SecretBytes.fromBytes(seed));
    const prints = [
      String(hidden),
      JSON.stringify({ hidden }),
      inspect(hidden, { showHidden: true }),
      inspect(hidden, { customInspect: false, showHidden: true, depth: 9 }),
    ];
    for (const printed of prints) {
      for (const form of [
        Buffer.from(seed).toString('hex'),
        Buffer.from(seed).toString('base64').slice(0, 40),
        'PRIVATE',
        'a0 a1',
      ]) {
        expect(printed).not.toContain(form);
      }
    }
    expect(prints[0]).toMatch(/^\[NoteSigner vault\/log\+[0-9a-f]{8}\]$/);
    hidden.wipe();
    expect(() => hidden.sign(utf8('x'))).toThrow(/wiped/);
  });
});

describe('checkpoints', () => {
  test('the example of c2sp.org/tlog-checkpoint reads and writes', () => {
    const text = 'example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n';
    const checkpoint = parseCheckpoint(text);
    expect(checkpoint).toMatchObject({ origin: 'example.com/behind-the-sofa', size: 20852163, extensions: [] });
    expect(checkpoint.root.length).toBe(32);
    expect(formatCheckpoint(checkpoint)).toBe(text);
  });

  test('extension lines are kept in order', () => {
    const checkpoint = { origin: 'o', size: 0, root: new Uint8Array(32), extensions: ['b', 'a c'] };
    expect(parseCheckpoint(formatCheckpoint(checkpoint))).toMatchObject({ extensions: ['b', 'a c'], size: 0 });
  });

  test.each([
    ['no last newline', 'o\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I='],
    ['two lines', 'o\n1\n'],
    ['an empty origin', '\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n'],
    ['an empty extension', 'o\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n'],
    ['a leading zero', 'o\n01\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n'],
    ['a sign', 'o\n+1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n'],
    ['hexadecimal', 'o\n0x1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n'],
    ['a size beyond 2^53', 'o\n9007199254740993\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n'],
    ['a short root', 'o\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jx\n'],
    ['a root with other trailing bits', 'o\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2J=\n'],
    ['an unpadded root', 'o\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I\n'],
  ])('%s is refused', (_, text) => {
    expect(() => parseCheckpoint(text)).toThrowError(VaultError);
  });

  test('a checkpoint that would not read back is not written', () => {
    const good = { origin: 'o', size: 1, root: new Uint8Array(32), extensions: [] };
    for (const bad of [
      { origin: '' },
      { origin: 'a\nb' },
      { size: -1 },
      { size: 1.5 },
      { root: new Uint8Array(31) },
      { extensions: [''] },
    ]) {
      expect(() => formatCheckpoint({ ...good, ...bad })).toThrow(/assertion/);
    }
  });
});
