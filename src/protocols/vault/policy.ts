/**
 * sys/policies/acl: policies as texts of HCL or JSON. The text is kept as it came and shown again; what is decided is its
 * translation (acl.ts). A policy that the native interface wrote is shown as its document.
 */
import { deletePolicy, listPolicies, putPolicy, readPolicyText } from '../../policy/store.ts';
import { allMountsFor } from '../../secret/mount.ts';
import { ignoreAbsent } from './absent.ts';
import { translatePolicy } from './acl.ts';
import { type Answer, data, EMPTY, json, keys } from './answer.ts';
import { DEFAULT_POLICY } from './default-policy.ts';
import { badRequest } from './error.ts';
import { twice } from './mount-info.ts';
import { itemsOf } from './paging.ts';
import type { Route, VaultRequest } from './route.ts';

const nameOf = ({ at }: VaultRequest) => at.name!.toLowerCase();
const TEXT_LENGTH_MAX = 64 * 1024;

async function allNames({ vault, call }: VaultRequest): Promise<string[]> {
  const names = ['default'];
  for await (const { name } of itemsOf((ask) => listPolicies(vault, call, ask))) names.push(name);
  return names.sort();
}

const list = async (request: VaultRequest): Promise<Answer> => keys(await allNames(request), 'system');

async function listOld(request: VaultRequest): Promise<Answer> {
  const names = await allNames(request);
  return twice({ keys: names, policies: names });
}

const textOf = async (request: VaultRequest): Promise<string> =>
  nameOf(request) === 'default' ? DEFAULT_POLICY : readPolicyText(request.vault, request.call, nameOf(request));

const read = async (request: VaultRequest): Promise<Answer> =>
  data(json({ name: nameOf(request), policy: await textOf(request) }), { mountType: 'system' });

const readOld = async (request: VaultRequest): Promise<Answer> =>
  twice({ name: nameOf(request), rules: await textOf(request) });

/** Base64 of a text is tolerated, as old clients sent it. */
function givenText({ fields }: VaultRequest): string {
  const given = fields.string('policy') ?? fields.string('rules') ?? '';
  if (given === '') throw badRequest("'policy' parameter not supplied or empty");
  if (given.length > TEXT_LENGTH_MAX) throw badRequest('failed to parse policy: it is too long');
  const decoded = /^[A-Za-z0-9+/]+={0,2}$/.test(given) ? Buffer.from(given, 'base64') : undefined;
  return decoded?.toString('base64') === given ? decoded.toString('utf8') : given;
}

async function write(request: VaultRequest): Promise<Answer> {
  const { vault, call, at } = request;
  const name = nameOf(request);
  if (name === 'root') throw badRequest('cannot update "root" policy');
  if (name === 'default') throw badRequest('cannot update "default" policy: what it grants is every token’s');
  const text = givenText(request);
  const document = translatePolicy(text, await allMountsFor(vault, call));
  await putPolicy(vault, call, name, document, undefined, text);
  if (name === at.name) return EMPTY;
  const warnings = [`policy name was converted to ${name}`];
  return { kind: 'envelope', warnings, mountType: 'system' };
}

async function remove(request: VaultRequest): Promise<Answer> {
  const name = nameOf(request);
  if (name === 'root') throw badRequest('cannot delete "root" policy');
  if (name === 'default') throw badRequest('cannot delete default policy');
  return ignoreAbsent(deletePolicy(request.vault, request.call, name));
}

export const POLICY_ROUTES: readonly Route[] = [
  { pattern: 'policies/acl', verbs: { GET: list, LIST: list } },
  { pattern: 'policies/acl/{name}', verbs: { GET: read, POST: write, DELETE: remove } },
  { pattern: 'policy', verbs: { GET: listOld, LIST: listOld } },
  { pattern: 'policy/{name}', verbs: { GET: readOld, POST: write, DELETE: remove } },
];
