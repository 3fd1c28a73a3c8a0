/**
 * Logging in and what a token's holder does to their own login. Whoever logs in here goes on with the new token; the
 * token is also in the answer, for callers that keep it.
 */
import { API, sendForJson } from './answer.ts';
import type { CallOptions, Connection } from './connection.ts';
import type {
  BeginOidcLoginBody,
  Elevated,
  Login,
  LoginBody,
  LoginCertificateBody,
  LoginJwtBody,
  LoginOidcBody,
  LoginServiceBody,
  OidcLogin,
  ProvenLogin,
  Renewal,
  Self,
} from './types.ts';

export type Auth = ReturnType<typeof createAuth>;

export function createAuth(connection: Connection) {
  return {
    login: async (request: LoginBody, options: CallOptions = {}): Promise<Login> => {
      const answer = await sendForJson<Login>(connection, {
        method: 'POST',
        path: `${API}/auth/login`,
        // A code is taken once.
        effect: request.totp === undefined ? 'none' : 'more',
        anonymous: true,
        json: request,
        ...options,
      });
      connection.setToken(answer.token);
      return answer;
    },

    /** A service with one of its client secrets. */
    service: async (request: LoginServiceBody, options: CallOptions = {}): Promise<ProvenLogin> => {
      const answer = await sendForJson<ProvenLogin>(connection, {
        method: 'POST',
        path: `${API}/auth/service`,
        effect: 'none',
        anonymous: true,
        json: request,
        ...options,
      });
      connection.setToken(answer.token);
      return answer;
    },

    /** By a login role, with a token that somebody else has signed. */
    jwt: async (request: LoginJwtBody, options: CallOptions = {}): Promise<ProvenLogin> => {
      const answer = await sendForJson<ProvenLogin>(connection, {
        method: 'POST',
        path: `${API}/auth/jwt`,
        effect: 'none',
        anonymous: true,
        json: request,
        ...options,
      });
      connection.setToken(answer.token);
      return answer;
    },

    /** Begins a login at an OpenID provider: send a browser to `authorization_url`, and take what it brings back to `oidc`. */
    beginOidc: (request: BeginOidcLoginBody, options: CallOptions = {}): Promise<OidcLogin> =>
      sendForJson(connection, {
        ...{
          method: 'POST',
          path: `${API}/auth/oidc/begin`,
          effect: 'none',
          anonymous: true,
          json: request,
          ...options,
        },
      }),

    /** Concludes it, once. Let whoever sits at the browser say first that it was they who began. */
    oidc: async (request: LoginOidcBody, options: CallOptions = {}): Promise<ProvenLogin> => {
      const answer = await sendForJson<ProvenLogin>(connection, {
        method: 'POST',
        path: `${API}/auth/oidc`,
        effect: 'more',
        anonymous: true,
        json: request,
        ...options,
      });
      connection.setToken(answer.token);
      return answer;
    },

    /** With the client certificate that the connection shows: the option `certificate`. */
    certificate: async (request: LoginCertificateBody, options: CallOptions = {}): Promise<ProvenLogin> => {
      const answer = await sendForJson<ProvenLogin>(connection, {
        method: 'POST',
        path: `${API}/auth/cert`,
        effect: 'none',
        anonymous: true,
        json: request,
        ...options,
      });
      connection.setToken(answer.token);
      return answer;
    },

    self: (options: CallOptions = {}): Promise<Self> =>
      sendForJson(connection, { method: 'GET', path: `${API}/auth/self`, effect: 'none', ...options }),

    /** Moves the end of the token, counted from now, no further than its maximum. */
    renew: (options: CallOptions & { readonly ttl?: string | number } = {}): Promise<Renewal> => {
      const { ttl, ...rest } = options;
      return sendForJson(connection, {
        method: 'POST',
        path: `${API}/auth/renew`,
        effect: 'same',
        json: ttl === undefined ? {} : { ttl },
        ...rest,
      });
    },

    /** Ends the token on every node. */
    logout: async (options: CallOptions = {}): Promise<void> => {
      await connection.send({ method: 'POST', path: `${API}/auth/logout`, effect: 'same', ...options });
      connection.setToken(undefined);
    },

    /** All tokens of the user end with it, the one in use too: log in again. */
    changePassword: async (currentPassword: string, newPassword: string, options: CallOptions = {}): Promise<void> => {
      await connection.send({
        method: 'POST',
        path: `${API}/auth/password`,
        effect: 'more',
        json: { current_password: currentPassword, new_password: newPassword },
        ...options,
      });
      connection.setToken(undefined);
    },

    /** Shows the second factor again; goes on with the new token. */
    elevate: async (code: string, options: CallOptions = {}): Promise<Elevated> => {
      const path = `${API}/auth/elevate`;
      const json = { totp: code };
      const answer = await sendForJson<Elevated>(connection, {
        ...{ method: 'POST', path, effect: 'more', json, ...options },
      });
      connection.setToken(answer.token);
      return answer;
    },
  };
}
