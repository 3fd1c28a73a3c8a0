/** RFC 6749 §4.4 by a client that is not ours: what stock libraries send is what the vault takes, and they read its answers. */
import * as oauth from 'oauth4webapi';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createClientSecret } from '../src/auth/client-secret.ts';
import { createService } from '../src/auth/service.ts';
import { type TestVault, testVault } from './harness.ts';

let t: TestVault;
let server: oauth.AuthorizationServer;
let client: oauth.Client;
let secret: string;

beforeAll(async () => {
  t = await testVault();
  const address = await t.address();
  server = { issuer: address, token_endpoint: `${address}/oauth/token` };
  await createService(t.vault, t.call(t.admin), { name: 'billing', policies: ['reader'] });
  const made = await createClientSecret(t.vault, t.call(t.admin), 'billing', { name: 'one' });
  [client, secret] = [{ client_id: made.clientId }, made.clientSecret];
  await t.request('PUT', '/api/v1/secrets/a', { token: t.admin, body: { text: 'a value' } });
});
afterAll(async () => {
  await t.check();
  await t.close();
});

/** Plain HTTP is for loopback alone, and a stock client has to be told so. */
const PLAIN = { [oauth.allowInsecureRequests]: true };

async function granted(auth: oauth.ClientAuth, parameters: Record<string, string> = {}) {
  const answer = await oauth.clientCredentialsGrantRequest(server, client, auth, parameters, PLAIN);
  return oauth.processClientCredentialsResponse(server, client, answer);
}

describe.each([
  ['Basic', oauth.ClientSecretBasic],
  ['the body', oauth.ClientSecretPost],
])('a stock client that shows its secret by %s', (_, by) => {
  it('gets a token, narrows it by scope, and uses it', async () => {
    const { access_token: token, token_type, expires_in } = await granted(by(secret));
    expect([token_type, expires_in]).toEqual(['bearer', 3600]);
    const url = new URL('/api/v1/secrets/a', server.issuer);
    const answer = await oauth.protectedResourceRequest(token, 'GET', url, undefined, undefined, PLAIN);
    expect(await answer.json()).toMatchObject({ text: 'a value' });
    expect(await granted(by(secret), { scope: 'reader' })).toMatchObject({ scope: 'reader' });
  });

  it('hears which of the errors it was', async () => {
    const error = (act: Promise<unknown>) =>
      act.then(
        () => 'none',
        (thrown: oauth.ResponseBodyError) => thrown,
      );
    expect(await error(granted(by('nonsense')))).toMatchObject(
      // By Basic the answer has a challenge, which the library hands on in place of the body.
      by === oauth.ClientSecretBasic ? { status: 401 } : { status: 401, error: 'invalid_client' },
    );
    expect(await error(granted(by(secret), { scope: 'no-such-policy' }))).toMatchObject({ error: 'invalid_scope' });
  });
});
