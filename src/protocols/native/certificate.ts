/** Client certificates: logging in with one, whose authorities a tenant believes, and what roles give to which names. */
import { z } from '@hono/zod-openapi';
import {
  type AuthorityInfo,
  type CertificateRole,
  deleteAuthority,
  deleteCertificateRole,
  listAuthorities,
  listCertificateRoles,
  putAuthority,
  putCertificateRole,
  putRevocationList,
  readAuthority,
  readCertificateRole,
} from '../../auth/authority.ts';
import { cert } from '../../auth/methods/cert.ts';
import { loginBy } from '../../auth/proven-login.ts';
import { LIMITS } from '../../config.ts';
import { boundTo, proven, provenExample, shapeProven } from './auth.ts';
import { endpoint, json, noContent, page } from './endpoint.ts';
import { duration, listOf, name, pageQuery, time } from './schema.ts';

const NOW = '2026-01-02T03:04:05.678901Z';
const LATER = '2026-01-09T03:04:05.678901Z';
const PEM = '-----BEGIN CERTIFICATE-----\nMIIB…\n-----END CERTIFICATE-----\n';
const LIST = '-----BEGIN X509 CRL-----\nMIIB…\n-----END X509 CRL-----\n';
const pem = z.string().max(512 * 1024);
const role = name.openapi({ example: 'web' });

export const certLogin = endpoint(
  {
    method: 'post',
    path: '/auth/cert',
    id: 'loginCertificate',
    tag: 'login',
    summary: 'Log in with the client certificate of this connection',
    description:
      'The token is bound to the certificate (RFC 8705): it is taken only over connections with it. What is wrong with a ' +
      'login is told to nobody but the log.',
    withoutToken: true,
    body: z.strictObject({
      tenant: z.string().max(256).openapi({ example: 'acme' }),
      role: z.string().max(256).openapi({ example: 'web' }),
      policies: boundTo,
    }),
    bodyExample: { tenant: 'acme', role: 'web' },
    answers: { 200: { about: 'A token for the holder of this certificate.', schema: proven, example: provenExample } },
    errors: ['login_failed', 'tenant_suspended'],
  },
  async ({ vault, exchange, call, body }) => {
    const chain = exchange.clientCertificate?.chain() ?? [];
    const credentials = { tenant: body.tenant, role: body.role, chain };
    return json(200, shapeProven(await loginBy(vault, call, cert, credentials, { policies: body.policies })));
  },
);

const authority = z
  .object({
    name,
    certificates: z.string(),
    list_required: z.boolean(),
    stale_list: z.enum(['refuse', 'accept']),
    lists: z.array(z.object({ issuer_key: z.string(), this_update: time, next_update: time, revoked: z.int() })),
    created_at: time,
    updated_at: time,
  })
  .openapi('Authority');

const authorityExample = {
  name: 'corp',
  certificates: PEM,
  list_required: false,
  stale_list: 'refuse',
  lists: [{ issuer_key: '9f2c4d1e0b3a5c67'.repeat(4), this_update: NOW, next_update: LATER, revoked: 2 }],
  created_at: NOW,
  updated_at: NOW,
};

const shapeAuthority = (found: AuthorityInfo) => ({
  name: found.name,
  certificates: found.certificates,
  list_required: found.listRequired,
  stale_list: found.staleList,
  lists: found.lists.map((list) => ({
    issuer_key: list.issuerKey,
    this_update: list.thisUpdate,
    next_update: list.nextUpdate,
    revoked: list.revoked,
  })),
  created_at: found.createdAt,
  updated_at: found.updatedAt,
});

const TAG = 'certificates';
const oneAuthority = { 200: { about: 'The authority.', schema: authority, example: authorityExample } };

export const listTheAuthorities = endpoint(
  {
    method: 'get',
    path: '/authorities',
    id: 'listAuthorities',
    tag: TAG,
    summary: 'List the authorities whose clients may log in',
    query: pageQuery,
    answers: {
      200: {
        about: 'A page of them.',
        schema: listOf(authority),
        example: { items: [authorityExample], next_cursor: null },
      },
    },
    errors: [],
  },
  async ({ vault, call, query }) => page(await listAuthorities(vault, call, query), shapeAuthority),
);

export const readTheAuthority = endpoint(
  {
    method: 'get',
    path: '/authorities/{name}',
    id: 'readAuthority',
    tag: TAG,
    summary: 'Read an authority and its revocation lists',
    answers: oneAuthority,
    errors: ['not_found'],
  },
  async ({ vault, call, param }) => json(200, shapeAuthority(await readAuthority(vault, call, param))),
);

export const putTheAuthority = endpoint(
  {
    method: 'put',
    path: '/authorities/{name}',
    id: 'putAuthority',
    tag: TAG,
    summary: 'Create or replace an authority',
    description: 'Every certificate given may have issued a client’s. Replacing one ends the tokens of its clients.',
    body: z.strictObject({
      certificates: pem.openapi({ description: 'PEM, from 1 to 32.' }),
      list_required: z.boolean().default(false).openapi({ description: 'No login without a list of every issuer.' }),
      stale_list: z
        .enum(['refuse', 'accept'])
        .default('refuse')
        .openapi({ description: 'What a list past its next update does to logins.' }),
    }),
    bodyExample: { certificates: PEM },
    answers: oneAuthority,
    errors: [],
  },
  async ({ vault, call, param, body }) => {
    const change = { certificates: body.certificates, listRequired: body.list_required, staleList: body.stale_list };
    return json(200, shapeAuthority(await putAuthority(vault, call, param, change)));
  },
);

export const deleteTheAuthority = endpoint(
  {
    method: 'delete',
    path: '/authorities/{name}',
    id: 'deleteAuthority',
    tag: TAG,
    summary: 'Delete an authority that no role names',
    answers: { 204: { about: 'It is gone.' } },
    errors: ['not_found', 'conflict'],
  },
  async ({ vault, call, param }) => {
    await deleteAuthority(vault, call, param);
    return noContent();
  },
);

export const putList = endpoint(
  {
    method: 'put',
    path: '/authorities/{name}/crl',
    id: 'putRevocationList',
    tag: TAG,
    summary: 'Give the newest revocation list of an authority',
    description: 'Ends the tokens that are bound to a certificate in it, on every node, before the answer.',
    body: z.strictObject({
      crl: z.string().max(LIMITS.bodyBytesMax).openapi({ description: 'PEM, signed by one of its certificates.' }),
    }),
    bodyExample: { crl: LIST },
    answers: oneAuthority,
    errors: ['not_found', 'conflict'],
  },
  async ({ vault, call, param, body }) =>
    json(200, shapeAuthority(await putRevocationList(vault, call, param, body.crl))),
);

const certificateRole = z
  .object({
    name: role,
    authority: name,
    names: z.array(z.string()),
    policies: z.array(name),
    token_ttl_seconds: z.int().nullable(),
    created_at: time,
    updated_at: time,
  })
  .openapi('CertificateRole');

const roleExample = {
  name: 'web',
  authority: 'corp',
  names: ['dns:*.web.example.com'],
  policies: ['reader'],
  token_ttl_seconds: 900,
  created_at: NOW,
  updated_at: NOW,
};

const shapeRole = (found: CertificateRole) => ({
  name: found.name,
  authority: found.authority,
  names: found.names,
  policies: found.policies,
  token_ttl_seconds: found.tokenTtlSeconds,
  created_at: found.createdAt,
  updated_at: found.updatedAt,
});

const oneRole = { 200: { about: 'The role.', schema: certificateRole, example: roleExample } };

export const listRoles = endpoint(
  {
    method: 'get',
    path: '/certificate-roles',
    id: 'listCertificateRoles',
    tag: TAG,
    summary: 'List what client certificates give',
    query: pageQuery,
    answers: {
      200: {
        about: 'A page of them.',
        schema: listOf(certificateRole),
        example: { items: [roleExample], next_cursor: null },
      },
    },
    errors: [],
  },
  async ({ vault, call, query }) => page(await listCertificateRoles(vault, call, query), shapeRole),
);

export const readRole = endpoint(
  {
    method: 'get',
    path: '/certificate-roles/{name}',
    id: 'readCertificateRole',
    tag: TAG,
    summary: 'Read a certificate role',
    answers: oneRole,
    errors: ['not_found'],
  },
  async ({ vault, call, param }) => json(200, shapeRole(await readCertificateRole(vault, call, param))),
);

export const putRole = endpoint(
  {
    method: 'put',
    path: '/certificate-roles/{name}',
    id: 'putCertificateRole',
    tag: TAG,
    summary: 'Create or replace a certificate role',
    description: 'Replacing one ends the tokens that it gave.',
    body: z.strictObject({
      authority: name,
      names: z.array(z.string().max(512)).openapi({
        description:
          'Patterns of subjectAltName, one of which has to fit: `dns:*.web.example.com`, `uri:spiffe://corp/ns/*`, `email:`, `ip:`. A * stands for one label or segment.',
      }),
      policies: z.array(name),
      token_ttl: duration.optional(),
    }),
    bodyExample: { authority: 'corp', names: ['dns:*.web.example.com'], policies: ['reader'], token_ttl: '15m' },
    answers: oneRole,
    errors: ['not_found'],
  },
  async ({ vault, call, param, body }) => {
    const { authority: by, names, policies, token_ttl: tokenTtlSeconds } = body;
    return json(
      200,
      shapeRole(await putCertificateRole(vault, call, param, { authority: by, names, policies, tokenTtlSeconds })),
    );
  },
);

export const deleteRole = endpoint(
  {
    method: 'delete',
    path: '/certificate-roles/{name}',
    id: 'deleteCertificateRole',
    tag: TAG,
    summary: 'Delete a certificate role, the accounts that came by it and their tokens',
    answers: { 204: { about: 'It is gone.' } },
    errors: ['not_found'],
  },
  async ({ vault, call, param }) => {
    await deleteCertificateRole(vault, call, param);
    return noContent();
  },
);
