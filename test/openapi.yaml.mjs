/**
 * The text of openapi.yaml, made from the routes; run as a program (`npm run openapi`) it writes the file.
 * It works on the compiled routes, so compile first.
 */
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
import { openapiDocument } from '../dist/http/openapi.js';

export const OPENAPI_FILE = fileURLToPath(new URL('../openapi.yaml', import.meta.url));

export function openapiYaml() {
  const head = '# Generated from the routes by `npm run openapi`; do not edit.\n';
  // Times look like timestamps to a YAML 1.1 reader: those are quoted.
  return head + stringify(openapiDocument(), { lineWidth: 120, aliasDuplicateObjects: false, compat: 'yaml-1.1' });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(OPENAPI_FILE, openapiYaml());
