/**
 * auth/cert: machines that have a client certificate. `certs/<name>` is an authority and a certificate role of that name:
 * whose certificates count, and which of their names get which policies.
 *
 * Names are those of subjectAltName; the common name is nobody's identity here (T-137). The token is bound to the
 * certificate, as `disable_binding` false says there.
 */
import {
  deleteAuthority,
  deleteCertificateRole,
  listCertificateRoles,
  putAuthority,
  putCertificateRole,
  readAuthority,
  readCertificateRole,
} from '../../auth/authority.ts';
import { cert } from '../../auth/methods/cert.ts';
import { loginBy } from '../../auth/proven-login.ts';
import { orNone } from './absent.ts';
import { type Answer, data, EMPTY, json } from './answer.ts';
import { badRequest, saying } from './error.ts';
import type { Fields } from './field.ts';
import { listing } from './paging.ts';
import type { Route, VaultRequest } from './route.ts';
import { loginAuth, metaOf } from './token.ts';
import { refuseNotKept, shapeTokenFields, tokenFieldsIn } from './token-field.ts';
import { TENANT_DEFAULT } from './userpass.ts';

const MOUNT_TYPE = 'cert';
const nameOf = ({ at }: VaultRequest) => at.name!.toLowerCase();

async function logIn(request: VaultRequest): Promise<Answer> {
  const {
    vault,
    call: { token: _, ...call },
    exchange,
    host,
    fields,
    namespace,
  } = request;
  if (!host.tls()) throw badRequest('tls connection required');
  const chain = exchange.clientCertificate?.chain() ?? [];
  if (chain.length === 0) throw badRequest('client certificate must be supplied');
  const name = (fields.string('name') ?? '').toLowerCase();
  const credentials = { tenant: namespace ?? TENANT_DEFAULT, role: name === '' ? undefined : name, chain };
  const made = await saying(loginBy(vault, call, cert, credentials), {
    login_failed: 'invalid certificate or no client certificate supplied',
  });
  return loginAuth(made, metaOf({ method: 'cert', ...made }));
}

// ---- whose certificates, and which --------------------------------------------------------------------------------

/** What names a client: each field and the kind of name that it is. */
const NAMES = [
  ['allowed_dns_sans', 'dns'],
  ['allowed_email_sans', 'email'],
  ['allowed_uri_sans', 'uri'],
] as const;

const NOT_KEPT = [
  ...['allowed_common_names', 'allowed_names', 'allowed_organizational_units', 'required_extensions', 'display_name'],
  ...['allowed_metadata_extensions', 'ocsp_enabled', 'ocsp_ca_certificates', 'ocsp_servers_override'],
];

const namesIn = (fields: Fields): string[] =>
  NAMES.flatMap(([field, kind]) => (fields.strings(field) ?? []).map((name) => `${kind}:${name}`));

async function write(request: VaultRequest): Promise<Answer> {
  const { vault, call, fields } = request;
  refuseNotKept(fields, NOT_KEPT);
  const { policies = [], ...tokens } = tokenFieldsIn(fields);
  const [name, names, certificates] = [nameOf(request), namesIn(fields), fields.string('certificate') ?? ''];
  if (certificates === '') throw badRequest("missing 'certificate'");
  if (names.length === 0) {
    throw badRequest(
      'one of allowed_dns_sans, allowed_email_sans, allowed_uri_sans is required: whose certificates count',
    );
  }
  // What the native interface says of revocation lists stays.
  const before = await orNone(readAuthority(vault, call, name), ['not_found']);
  const { listRequired = false, staleList = 'refuse' } = before ?? {};
  if (before?.certificates.trim() !== certificates.trim()) {
    await putAuthority(vault, call, name, { certificates, listRequired, staleList });
  }
  await putCertificateRole(vault, call, name, { authority: name, names, policies, ...tokens });
  return EMPTY;
}

async function read(request: VaultRequest): Promise<Answer> {
  const { vault, call } = request;
  const role = await readCertificateRole(vault, call, nameOf(request));
  const authority = await orNone(readAuthority(vault, call, role.authority), ['not_found', 'forbidden']);
  const named = NAMES.map(([field, kind]) => [
    field,
    role.names.filter((name) => name.startsWith(`${kind}:`)).map((name) => name.slice(kind.length + 1)),
  ]);
  const shape = {
    ...Object.fromEntries(named),
    certificate: authority?.certificates ?? '',
    ...shapeTokenFields(role, role.policies),
  };
  return data(json(shape), { mountType: MOUNT_TYPE });
}

const list = listing(
  ({ vault, call }, ask) => listCertificateRoles(vault, call, ask),
  ({ name }) => name,
  MOUNT_TYPE,
);

/** The role first: from then on nobody logs in. An authority that other roles stand on stays. */
async function remove(request: VaultRequest): Promise<Answer> {
  const { vault, call } = request;
  for (const act of [deleteCertificateRole, deleteAuthority]) {
    await orNone(act(vault, call, nameOf(request)), ['not_found', 'conflict']);
  }
  return EMPTY;
}

async function configure({ vault, call, fields }: VaultRequest): Promise<Answer> {
  if (fields.boolean('disable_binding'))
    throw badRequest('disable_binding: a token is always bound to its certificate');
  refuseNotKept(fields, ['enable_identity_alias_metadata', 'enable_metadata_on_failures']);
  await listCertificateRoles(vault, call, { limit: 1 });
  return EMPTY;
}

async function readConfig({ vault, call }: VaultRequest): Promise<Answer> {
  await listCertificateRoles(vault, call, { limit: 1 });
  return data(json({ disable_binding: false, enable_identity_alias_metadata: false }), { mountType: MOUNT_TYPE });
}

export const CERT_ROUTES: readonly Route[] = [
  { pattern: 'login', verbs: { POST: logIn }, open: true },
  { pattern: 'certs', verbs: { LIST: list } },
  { pattern: 'certs/{name}', verbs: { GET: read, POST: write, DELETE: remove } },
  { pattern: 'config', verbs: { GET: readConfig, POST: configure } },
];
