/**
 * A vault that is listened to: what it says anywhere but to whoever may hear it (entries, log lines, metrics, errors), to
 * be searched for what must not be there, in any encoding.
 */
import { Writable } from 'node:stream';
import { pino } from 'pino';
import { loadConfig } from '../src/config.ts';
import { createApp } from '../src/http/app.ts';
import { listen } from '../src/http/listener.ts';
import { closeVault, openVault } from '../src/vault.ts';
import { spellings, type TestVault, testVault } from './harness.ts';

export type Watched = {
  readonly t: TestVault;
  readonly address: string;
  /** Sends a request; of an error the answer is kept, and given. */
  readonly send: (target: string, request: RequestInit) => Promise<string>;
  /** All that was said, by place. */
  readonly said: () => Promise<Readonly<Record<'entries' | 'errors' | 'log' | 'metrics', string>>>;
  readonly close: () => Promise<void>;
};

export async function watchedVault(): Promise<Watched> {
  const t = await testVault();
  const written: string[] = [];
  const errors: string[] = [];
  const out = new Writable({
    write: (chunk, _, done) => {
      written.push(String(chunk));
      done();
    },
  });
  const log = pino({ level: 'trace' }, out);
  const config = loadConfig({ BULLA_LISTEN: '127.0.0.1:0', BULLA_LOG_LEVEL: 'debug' });
  const vault = await openVault({ config, target: t.app, setRole: false, dataDir: t.dataDir, log });
  const listener = await listen(vault, createApp(vault), config);
  const { address } = listener;
  return {
    ...{ t, address },
    send: async (target, request) => {
      const answer = await fetch(`${address}${target}`, { redirect: 'manual', ...request });
      const text = await answer.text();
      if (answer.status < 400) return '';
      const error = text + JSON.stringify([...answer.headers]);
      errors.push(error);
      return error;
    },
    said: async () => {
      const rows = await t.owner`SELECT lines FROM audit_segments`;
      return {
        entries: rows.map((row) => row.lines.toString('latin1')).join(''),
        errors: errors.join('\n'),
        log: written.join(''),
        metrics: await (await fetch(`${address}/metrics`)).text(),
      };
    },
    close: async () => {
      await listener.close();
      await closeVault(vault);
      await t.close();
    },
  };
}

export function everySpelling(text: string): string[] {
  return [
    ...spellings(text).map((bytes) => bytes.toString('latin1')),
    encodeURIComponent(text),
    Buffer.from(text).toString('base64url'),
    Buffer.from(text).toString('hex').toUpperCase(),
    Buffer.from(text, 'utf16le').toString('latin1'),
  ];
}
