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
  /** `effect` is `more` where what is shown is taken once. */
  async function enter<T extends { readonly token: string }>(
    route: 'login' | 'service' | 'jwt' | 'oidc' | 'cert',
    effect: 'none' | 'more',
    json: object,
    options: CallOptions,
  ): Promise<T> {
    const path = `${API}/auth/${route}`;
    const answer = await sendForJson<T>(connection, {
      method: 'POST',
      path,
      effect,
      anonymous: true,
      json,
      ...options,
    });
    connection.setToken(answer.token);
    return answer;
  }

  return {
    /** A code of a second factor is taken once. */
    login: (request: LoginBody, options: CallOptions = {}): Promise<Login> =>
      enter('login', request.totp === undefined ? 'none' : 'more', request, options),

    /** A service with one of its client secrets. */
    service: (request: LoginServiceBody, options: CallOptions = {}): Promise<ProvenLogin> =>
      enter('service', 'none', request, options),

    /** By a login role, with a token that somebody else has signed. */
    jwt: (request: LoginJwtBody, options: CallOptions = {}): Promise<ProvenLogin> =>
      enter('jwt', 'none', request, options),

    /**
     * Begins a login at an OpenID provider: send a browser to `authorization_url`, and take what it brings back to
     * `oidc`.
     */
    beginOidc: (request: BeginOidcLoginBody, options: CallOptions = {}): Promise<OidcLogin> => {
      const path = `${API}/auth/oidc/begin`;
      return sendForJson(connection, {
        method: 'POST',
        path,
        effect: 'none',
        anonymous: true,
        json: request,
        ...options,
      });
    },

    /** Concludes it, once. Let whoever sits at the browser say first that it was they who began. */
    oidc: (request: LoginOidcBody, options: CallOptions = {}): Promise<ProvenLogin> =>
      enter('oidc', 'more', request, options),

    /** With the client certificate that the connection shows: the option `certificate`. */
    certificate: (request: LoginCertificateBody, options: CallOptions = {}): Promise<ProvenLogin> =>
      enter('cert', 'none', request, options),

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
