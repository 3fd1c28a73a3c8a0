/**
 * The types of the SDK are those of openapi.yaml. After a change of the interface, write them anew with
 * `npx vitest run test/client.types.test.ts --update`.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { type OpenapiDocument, typesOf } from './openapi-types.ts';

const HEADER = `/**
 * The bodies of the API, as openapi.yaml describes them. Made by test/client.types.test.ts: never edited by hand.
 */
`;

const root = (path: string) => fileURLToPath(new URL(`../${path}`, import.meta.url));

test('the SDK has exactly the types of openapi.yaml', async () => {
  const document = parse(readFileSync(root('openapi.yaml'), 'utf8')) as OpenapiDocument;
  const types = execFileSync(root('node_modules/.bin/biome'), ['format', '--stdin-file-path=src/client/types.ts'], {
    cwd: root(''),
    input: HEADER + typesOf(document),
    encoding: 'utf8',
    stdio: 'pipe',
  });
  await expect(types).toMatchFileSnapshot(root('src/client/types.ts'));
});
