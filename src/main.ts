#!/usr/bin/env -S node --max-semi-space-size=16 --initial-old-space-size=64 --heap-growing-percent=150 --no-allocation-site-pretenuring --v8-pool-size=1
/**
 * The `bulla` command. It alone reads the arguments of the process, and hands over to cli/.
 */
import { trapFaults } from './cli/ending.ts';
import { runProgram } from './cli/program.ts';
import { loadClientConfig } from './config-client.ts';

trapFaults();

// A reader that has seen enough, such as `head`, is no fault; what a shell reports for it is.
const BROKEN_PIPE_EXIT_CODE = 128 + 13;
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  process.exit(error.code === 'EPIPE' ? BROKEN_PIPE_EXIT_CODE : 1);
});

const { stdin, stdout, stderr } = process;
process.exitCode = await runProgram(process.argv.slice(2), {
  io: { stdin, stdout, stderr },
  config: loadClientConfig(),
  serve: async (settings) => {
    // Loaded here, so that every other command starts without the server and its settings.
    const { loadConfig } = await import('./config.ts');
    const { runServer } = await import('./cli/server.ts');
    const { createAsker } = await import('./cli/io.ts');
    const ask = async (question: string, again: boolean) => {
      const asker = createAsker({ stdin, stdout, stderr });
      try {
        return await (again ? asker.newSecret(question) : asker.secret(question));
      } finally {
        asker.close();
      }
    };
    const config = loadConfig(undefined, settings);
    return runServer(config, { stdout, stderr, isTty: stdout.isTTY, ...(stdin.isTTY ? { ask } : {}) });
  },
  unsealHere: async () => {
    const { loadConfig } = await import('./config.ts');
    const { unsealHere } = await import('./cli/host-vault.ts');
    return unsealHere(loadConfig());
  },
  unlockHere: async (unlock) => {
    const { loadConfig } = await import('./config.ts');
    const { unlockHere } = await import('./cli/host-vault.ts');
    return unlockHere(loadConfig(), unlock);
  },
});
