/** The native REST interface under /api/v1: every route, in the order of its documentation. */
import type { Protocol } from '../protocol.ts';
import * as account from './account.ts';
import * as approval from './approval.ts';
import * as audit from './audit.ts';
import * as auditProof from './audit-proof.ts';
import * as auditQuestion from './audit-question.ts';
import * as auth from './auth.ts';
import * as backend from './backend.ts';
import * as certificate from './certificate.ts';
import type { Endpoint } from './endpoint.ts';
import { fetch } from './fetch.ts';
import * as group from './group.ts';
import * as issuer from './issuer.ts';
import * as job from './job.ts';
import * as key from './key.ts';
import * as lease from './lease.ts';
import * as metadata from './metadata.ts';
import * as mount from './mount.ts';
import * as oidc from './oidc.ts';
import { describeEndpoint, describeErrors } from './openapi.ts';
import * as pepper from './pepper.ts';
import * as policy from './policy.ts';
import * as rotator from './rotator.ts';
import * as seal from './seal.ts';
import * as secondFactor from './second-factor.ts';
import * as secret from './secret.ts';
import * as service from './service.ts';
import * as session from './session.ts';
import { status } from './status.ts';
import * as tenant from './tenant.ts';
import * as token from './token.ts';
import * as transit from './transit.ts';
import * as transitKey from './transit-key.ts';
import * as transitKeyless from './transit-keyless.ts';
import * as transitSign from './transit-sign.ts';
import * as user from './user.ts';
import * as version from './version.ts';

export const ENDPOINTS: readonly Endpoint[] = [
  ...[auth.login, auth.serviceLogin, auth.jwtLogin, oidc.begin, oidc.conclude],
  ...[auth.self, auth.renew, auth.logout, auth.password],
  ...[service.list, service.create, service.read, service.update, service.remove],
  ...[service.listSecrets, service.createSecret, service.removeSecret],
  ...[issuer.list, issuer.read, issuer.put, issuer.remove],
  ...[issuer.listRoles, issuer.readRole, issuer.putRole, issuer.removeRole],
  ...[token.create, token.list, token.read, token.revoke],
  ...[secondFactor.read, secondFactor.enrol, secondFactor.confirm, secondFactor.remove, secondFactor.codes],
  ...[secondFactor.elevate, secondFactor.reset, session.list, session.end, session.endOthers],
  certificate.certLogin,
  ...[certificate.listTheAuthorities, certificate.readTheAuthority, certificate.putTheAuthority],
  ...[certificate.deleteTheAuthority, certificate.putList],
  ...[certificate.listRoles, certificate.readRole, certificate.putRole, certificate.deleteRole],
  ...[user.list, user.create, user.read, user.update, user.remove, user.unlock],
  ...[group.list, group.create, group.read, group.listed, group.update, group.remove],
  ...[approval.list, approval.request, approval.read, approval.approve, approval.deny, approval.cancel],
  ...[policy.list, policy.read, policy.changes, policy.put, policy.dryRun, policy.explain, policy.remove],
  ...[secret.put, secret.read, secret.patch, secret.remove, secret.list, secret.move, fetch],
  ...[version.list, version.undelete, version.destroy],
  ...[metadata.read, metadata.patch, metadata.remove],
  ...[rotator.list, rotator.read, rotator.put, rotator.remove, rotator.rotate],
  ...[mount.list, mount.create, mount.read, mount.update, mount.remove],
  ...[lease.create, lease.list, lease.read, lease.renew, lease.revoke, lease.revokeMany],
  ...[lease.readSweeping, lease.confirmSweeping],
  ...[backend.list, backend.read, backend.put, backend.remove],
  ...[backend.listOfRoles, backend.readOneRole, backend.putOneRole, backend.removeRole],
  ...[account.list, account.read, account.put, account.remove, account.rotate, account.reveal],
  ...[key.list, key.rotate, key.destroy, key.listRoots, key.rotateRoot],
  ...[transitKey.list, transitKey.create, transitKey.read, transitKey.configure, transitKey.rotate, transitKey.trim],
  ...[transitKey.exportIt, transit.encrypt, transit.decrypt, transit.rewrap, transit.dataKey, transit.wrapped],
  ...[
    transitSign.sign,
    transitSign.verify,
    transitSign.hmac,
    transitSign.verifyHmac,
    transitSign.passwordHash,
    transitSign.passwordVerify,
  ],
  ...[transitKeyless.hash, transitKeyless.random, transitKeyless.sealTo, transitKey.remove],
  ...[pepper.list, pepper.rotate, pepper.users, pepper.destroy],
  ...[job.list, job.read, job.cancel, job.resume],
  ...[tenant.list, tenant.create, tenant.read, tenant.update, tenant.unlock, tenant.remove],
  ...[
    audit.entries,
    audit.tail,
    audit.tree,
    auditProof.checkpoint,
    auditProof.sign,
    auditProof.inclusion,
    auditProof.consistency,
  ],
  ...[auditProof.tile, auditProof.key, auditProof.rotateKey, auditProof.retention, auditProof.retain],
  ...[auditQuestion.whoCanDo, auditQuestion.whoDidIt, auditQuestion.unreadSecrets],
  ...[seal.read, seal.unseal, seal.seal, seal.migrate, seal.check],
  status,
];

export const native: Protocol = {
  name: 'native',
  mount: (router, vault, host) => {
    for (const endpoint of ENDPOINTS) endpoint.mount(router, vault, host);
  },
  plain: [secret.plainRead],
  describe: (document, statusOf) => {
    describeErrors(document, statusOf);
    for (const endpoint of ENDPOINTS) describeEndpoint(document, endpoint, statusOf);
  },
};
