/**
 * The bodies of the API, as openapi.yaml describes them. Made by test/client.types.test.ts: never edited by hand.
 */
export type Login = {
  /** Shown this once. Send it as a Bearer token. */
  token: string;
  /** Names the token and opens nothing. */
  accessor: string;
  tenant: string;
  username: string;
  policies: string[];
  expires_at: string;
  /** No renewal passes it; null: it is periodic and has none. */
  max_expires_at: string | null;
  password_change_required: boolean;
  mfa: boolean;
  mfa_required: boolean;
};

/** RFC 9457 problem details. */
export type Problem = {
  type: 'about:blank';
  title: string;
  status: number;
  /** For people; it may change. */
  detail: string;
  /** For programs; it is stable. */
  code:
    | 'invalid_request'
    | 'invalid_json'
    | 'invalid_path'
    | 'unauthenticated'
    | 'login_failed'
    | 'forbidden'
    | 'approval_required'
    | 'tenant_suspended'
    | 'password_change_required'
    | 'totp_required'
    | 'mfa_required'
    | 'not_found'
    | 'method_not_allowed'
    | 'conflict'
    | 'version_mismatch'
    | 'too_large'
    | 'unsupported_media_type'
    | 'idempotency_mismatch'
    | 'too_many_requests'
    | 'quota_exceeded'
    | 'integrity'
    | 'internal'
    | 'backend_failed'
    | 'busy'
    | 'unavailable'
    | 'outcome_unknown'
    | 'sealed';
  request_id: string;
};

export type ProvenLogin = {
  /** Shown this once. Send it as a Bearer token. */
  token: string;
  /** Names the token and opens nothing. */
  accessor: string;
  tenant: string;
  username: string;
  policies: string[];
  expires_at: string;
  /** No renewal passes it; null: it is periodic and has none. */
  max_expires_at: string | null;
};

export type OidcLogin = {
  /** Its holder alone concludes the login. */
  login: string;
  authorization_url: string;
  expires_at: string;
};

export type Self = {
  /** Names the token and opens nothing. */
  accessor: string;
  kind: 'login' | 'child' | 'lease' | 'wrapping';
  username: string;
  account_kind: 'person' | 'service' | 'external';
  /** How the login at the top was proven. */
  method: string;
  mfa: boolean;
  /** The token that it hangs under and ends with. */
  parent: string | null;
  /** One of these must allow an act too; null: the account’s policies alone decide. */
  token_policies: string[] | null;
  uses_left: number | null;
  cidrs: string[] | null;
  /** SHA-256 of the client certificate that it is bound to, in hex. */
  certificate: string | null;
  period_seconds: number | null;
  renewable: boolean;
  /** From its making to an end that no renewal passes, also of a periodic one; null: none was asked for. */
  explicit_max_ttl_seconds: number | null;
  /** It does not look at, renew or end itself, and keeps nothing: only what its policies allow. */
  without_default: boolean;
  /** The token role that it was made by. */
  role: string | null;
  name: string | null;
  metadata: Record<string, string>;
  /** The address that it was asked for from. */
  source: string;
  created_at: string;
  expires_at: string;
  /** No renewal passes it; null: it is periodic and has none. */
  max_expires_at: string | null;
  tenant: string;
  policies: string[];
  user_id: string;
  password_change_required: boolean;
};

export type Renewal = {
  /** Names the token and opens nothing. */
  accessor: string;
  expires_at: string;
  /** No renewal passes it; null: it is periodic and has none. */
  max_expires_at: string | null;
};

export type Service = {
  id: string;
  name: string;
  /** What it logs in with beside a client secret. */
  client_id: string;
  description: string;
  policies: string[];
  disabled: boolean;
  token_ttl_seconds: number | null;
  /** What clients of other interfaces may name it by. */
  role_id: string | null;
  token_max_ttl_seconds: number | null;
  token_period_seconds: number | null;
  token_uses: number | null;
  token_cidrs: string[] | null;
  secret_ttl_seconds: number | null;
  secret_uses: number | null;
  secret_cidrs: string[] | null;
  created_at: string;
  last_login_at: string | null;
};

export type ClientSecret = {
  id: string;
  name: string;
  cidrs: string[] | null;
  /** Logins that it still does; null: however many. */
  uses_left: number | null;
  /** What the tokens given for it show. */
  metadata: Record<string, string>;
  created_at: string;
  expires_at: string;
  expired: boolean;
  last_used_at: string | null;
  last_used_from: string | null;
};

export type NewClientSecret = {
  client_id: string;
  /** Shown this once. */
  client_secret: string;
  id: string;
  name: string;
  cidrs: string[] | null;
  /** Logins that it still does; null: however many. */
  uses_left: number | null;
  /** What the tokens given for it show. */
  metadata: Record<string, string>;
  created_at: string;
  expires_at: string;
  expired: boolean;
  last_used_at: string | null;
  last_used_from: string | null;
};

export type Issuer = {
  name: string;
  issuer: string;
  /** Public keys (RFC 7517); without them they are found by discovery. */
  jwks: {
    keys: Record<string, unknown>[];
  } | null;
  jwks_url: string | null;
  ca: string | null;
  algorithms: ('RS256' | 'RS384' | 'RS512' | 'PS256' | 'PS384' | 'PS512' | 'ES256' | 'ES384' | 'ES512' | 'EdDSA')[];
  clock_skew_seconds: number;
  /** What the vault is registered as, for people who log in there. */
  client: {
    id: string;
    /** It has a secret, which is never shown. */
    confidential: boolean;
    redirect_uris: string[];
    scopes: string[];
  } | null;
  revision: number;
  created_at: string;
  updated_at: string;
};

export type LoginRole = {
  name: string;
  /** jwt: whoever shows a token of the issuer. oidc: people who log in there with a browser. */
  kind: 'jwt' | 'oidc';
  issuer: string;
  audiences: string[];
  rules: {
    /** All of these claims must fit one of their patterns: `*` is any run of characters but / and :, `**` any run. */
    claims: Record<string, string[]>;
    policies: string[];
  }[];
  token_ttl_seconds: number | null;
  cidrs: string[] | null;
  revision: number;
  created_at: string;
  updated_at: string;
};

export type NewToken = {
  /** Shown this once. Send it as a Bearer token. */
  token: string;
  /** Names the token and opens nothing. */
  accessor: string;
  kind: 'login' | 'child' | 'lease' | 'wrapping';
  username: string;
  account_kind: 'person' | 'service' | 'external';
  /** How the login at the top was proven. */
  method: string;
  mfa: boolean;
  /** The token that it hangs under and ends with. */
  parent: string | null;
  /** One of these must allow an act too; null: the account’s policies alone decide. */
  token_policies: string[] | null;
  uses_left: number | null;
  cidrs: string[] | null;
  /** SHA-256 of the client certificate that it is bound to, in hex. */
  certificate: string | null;
  period_seconds: number | null;
  renewable: boolean;
  /** From its making to an end that no renewal passes, also of a periodic one; null: none was asked for. */
  explicit_max_ttl_seconds: number | null;
  /** It does not look at, renew or end itself, and keeps nothing: only what its policies allow. */
  without_default: boolean;
  /** The token role that it was made by. */
  role: string | null;
  name: string | null;
  metadata: Record<string, string>;
  /** The address that it was asked for from. */
  source: string;
  created_at: string;
  expires_at: string;
  /** No renewal passes it; null: it is periodic and has none. */
  max_expires_at: string | null;
};

export type Token = {
  /** Names the token and opens nothing. */
  accessor: string;
  kind: 'login' | 'child' | 'lease' | 'wrapping';
  username: string;
  account_kind: 'person' | 'service' | 'external';
  /** How the login at the top was proven. */
  method: string;
  mfa: boolean;
  /** The token that it hangs under and ends with. */
  parent: string | null;
  /** One of these must allow an act too; null: the account’s policies alone decide. */
  token_policies: string[] | null;
  uses_left: number | null;
  cidrs: string[] | null;
  /** SHA-256 of the client certificate that it is bound to, in hex. */
  certificate: string | null;
  period_seconds: number | null;
  renewable: boolean;
  /** From its making to an end that no renewal passes, also of a periodic one; null: none was asked for. */
  explicit_max_ttl_seconds: number | null;
  /** It does not look at, renew or end itself, and keeps nothing: only what its policies allow. */
  without_default: boolean;
  /** The token role that it was made by. */
  role: string | null;
  name: string | null;
  metadata: Record<string, string>;
  /** The address that it was asked for from. */
  source: string;
  created_at: string;
  expires_at: string;
  /** No renewal passes it; null: it is periodic and has none. */
  max_expires_at: string | null;
};

export type Totp = {
  state: 'none' | 'pending' | 'active';
  required: boolean;
  recovery_codes_left: number;
};

export type TotpSeed = {
  secret: string;
  /** For a QR code. */
  uri: string;
};

export type TotpConfirmed = {
  /** Shown this once. Send it as a Bearer token. */
  token: string;
  /** Names the token and opens nothing. */
  accessor: string;
  expires_at: string;
  /** No renewal passes it; null: it is periodic and has none. */
  max_expires_at: string | null;
  /** Shown this once. Each takes the place of a code, once. */
  recovery_codes: string[];
};

export type RecoveryCodes = {
  /** Shown this once. Each takes the place of a code, once. */
  recovery_codes: string[];
};

export type Elevated = {
  /** Shown this once. Send it as a Bearer token. */
  token: string;
  /** Names the token and opens nothing. */
  accessor: string;
  expires_at: string;
  /** No renewal passes it; null: it is periodic and has none. */
  max_expires_at: string | null;
};

export type Session = {
  /** Names the token and opens nothing. */
  accessor: string;
  kind: 'login' | 'child' | 'lease' | 'wrapping';
  username: string;
  account_kind: 'person' | 'service' | 'external';
  /** How the login at the top was proven. */
  method: string;
  mfa: boolean;
  /** The token that it hangs under and ends with. */
  parent: string | null;
  /** One of these must allow an act too; null: the account’s policies alone decide. */
  token_policies: string[] | null;
  uses_left: number | null;
  cidrs: string[] | null;
  /** SHA-256 of the client certificate that it is bound to, in hex. */
  certificate: string | null;
  period_seconds: number | null;
  renewable: boolean;
  /** From its making to an end that no renewal passes, also of a periodic one; null: none was asked for. */
  explicit_max_ttl_seconds: number | null;
  /** It does not look at, renew or end itself, and keeps nothing: only what its policies allow. */
  without_default: boolean;
  /** The token role that it was made by. */
  role: string | null;
  name: string | null;
  metadata: Record<string, string>;
  /** The address that it was asked for from. */
  source: string;
  created_at: string;
  expires_at: string;
  /** No renewal passes it; null: it is periodic and has none. */
  max_expires_at: string | null;
  current: boolean;
};

export type SessionsEnded = {
  ended: number;
};

export type Authority = {
  name: string;
  certificates: string;
  list_required: boolean;
  stale_list: 'refuse' | 'accept';
  lists: {
    issuer_key: string;
    this_update: string;
    next_update: string;
    revoked: number;
  }[];
  created_at: string;
  updated_at: string;
};

export type CertificateRole = {
  name: string;
  authority: string;
  names: string[];
  policies: string[];
  token_ttl_seconds: number | null;
  created_at: string;
  updated_at: string;
};

export type User = {
  id: string;
  username: string;
  /** external: proven by somebody else, without a password here. */
  kind: 'person' | 'external';
  policies: string[];
  /** Whose policies it has beside its own. */
  groups: string[];
  disabled: boolean;
  locked_until: string | null;
  password_change_required: boolean;
  /** This user must have one, whatever the tenant says. */
  mfa_required: boolean;
  /** There is a second factor. */
  totp: boolean;
  created_at: string;
  last_login_at: string | null;
};

export type UserWithPassword = User & {
  /** Shown this once, and to be changed at the first login. */
  one_time_password?: string;
};

export type Group = {
  id: string;
  name: string;
  policies: string[];
  /** How many. */
  members: number;
  created_at: string;
  updated_at: string;
};

export type Member = {
  username: string;
  kind: 'person' | 'service' | 'external';
  added_at: string;
};

export type Approval = {
  id: string;
  requested_by: string;
  action: string;
  resource: string;
  /** What of it: a version, `1,2`, `all`, or empty where there is no more. */
  subject: string;
  reason: string;
  state: 'open' | 'approved' | 'used' | 'denied' | 'cancelled' | 'expired';
  /** What the rules asked for then; what they ask for at the act is what counts. */
  requirements: {
    by: string;
    count: number;
    within_seconds: number;
  }[];
  approved_by: string[];
  denied_by: string[];
  created_at: string;
  expires_at: string;
  ended_at: string | null;
};

export type PolicyInfo = {
  name: string;
  revision: number;
  built_in: boolean;
  created_at: string;
  updated_at: string;
};

export type Policy = {
  name: string;
  revision: number;
  built_in: boolean;
  created_at: string;
  updated_at: string;
  rules: {
    effect: 'allow' | 'deny';
    actions: string[];
    resources: string[];
    conditions?: {
      cidrs?: string[];
      /** Whether the login had a second factor. */
      mfa?: boolean;
      /** A stretch of the week by the wall clock of a zone (UTC); past midnight when until is not later than from. */
      time?: {
        /** UTC, or a name of the IANA time zone database. */
        zone?: string;
        days?: ('sun' | 'mon' | 'tue' | 'wed' | 'thu' | 'fri' | 'sat')[];
        from?: string;
        until?: string;
      };
      /** Kinds of token, as GET /auth/self shows them. */
      token_kinds?: string[];
    };
    /** Allowed once these have approved. An approval that one rule asks for is needed, whatever others allow. */
    approval?: {
      /** The policy whose holders may approve. */
      by: string;
      /** How many of them, 1 unless it says otherwise. */
      count?: number;
      /** From the request to the act, such as 4h; at most 7d. */
      within: string;
    };
  }[];
};

export type PolicyChange = {
  number: number;
  revision: number;
  /** null: it was deleted. */
  rules:
    | {
        effect: 'allow' | 'deny';
        actions: string[];
        resources: string[];
        conditions?: {
          cidrs?: string[];
          /** Whether the login had a second factor. */
          mfa?: boolean;
          /** A stretch of the week by the wall clock of a zone (UTC); past midnight when until is not later than from. */
          time?: {
            /** UTC, or a name of the IANA time zone database. */
            zone?: string;
            days?: ('sun' | 'mon' | 'tue' | 'wed' | 'thu' | 'fri' | 'sat')[];
            from?: string;
            until?: string;
          };
          /** Kinds of token, as GET /auth/self shows them. */
          token_kinds?: string[];
        };
        /** Allowed once these have approved. An approval that one rule asks for is needed, whatever others allow. */
        approval?: {
          /** The policy whose holders may approve. */
          by: string;
          /** How many of them, 1 unless it says otherwise. */
          count?: number;
          /** From the request to the act, such as 4h; at most 7d. */
          within: string;
        };
      }[]
    | null;
  /** The id of the account; null: the vault itself. */
  changed_by: string | null;
  /** Its name then. */
  changed_by_name: string | null;
  changed_at: string;
};

export type PolicyPreview = {
  name: string;
  /** Of the policy that is stored; 0 when there is none. */
  revision: number;
  /** Accounts that hold it, by themselves or by a group. */
  holders: number;
  changes: HolderChange[];
  /** There are more holders than were looked at. */
  truncated: boolean;
};

export type HolderChange = {
  username: string;
  kind: 'person' | 'service' | 'external';
  /** Rules that come to allow, and restrictions that go. */
  gains: {
    effect: 'allow' | 'deny';
    actions: string[];
    resources: string[];
    conditions?: {
      cidrs?: string[];
      /** Whether the login had a second factor. */
      mfa?: boolean;
      /** A stretch of the week by the wall clock of a zone (UTC); past midnight when until is not later than from. */
      time?: {
        /** UTC, or a name of the IANA time zone database. */
        zone?: string;
        days?: ('sun' | 'mon' | 'tue' | 'wed' | 'thu' | 'fri' | 'sat')[];
        from?: string;
        until?: string;
      };
      /** Kinds of token, as GET /auth/self shows them. */
      token_kinds?: string[];
    };
    /** Allowed once these have approved. An approval that one rule asks for is needed, whatever others allow. */
    approval?: {
      /** The policy whose holders may approve. */
      by: string;
      /** How many of them, 1 unless it says otherwise. */
      count?: number;
      /** From the request to the act, such as 4h; at most 7d. */
      within: string;
    };
  }[];
  /** Rules that allow no longer, and restrictions that come. */
  loses: {
    effect: 'allow' | 'deny';
    actions: string[];
    resources: string[];
    conditions?: {
      cidrs?: string[];
      /** Whether the login had a second factor. */
      mfa?: boolean;
      /** A stretch of the week by the wall clock of a zone (UTC); past midnight when until is not later than from. */
      time?: {
        /** UTC, or a name of the IANA time zone database. */
        zone?: string;
        days?: ('sun' | 'mon' | 'tue' | 'wed' | 'thu' | 'fri' | 'sat')[];
        from?: string;
        until?: string;
      };
      /** Kinds of token, as GET /auth/self shows them. */
      token_kinds?: string[];
    };
    /** Allowed once these have approved. An approval that one rule asks for is needed, whatever others allow. */
    approval?: {
      /** The policy whose holders may approve. */
      by: string;
      /** How many of them, 1 unless it says otherwise. */
      count?: number;
      /** From the request to the act, such as 4h; at most 7d. */
      within: string;
    };
  }[];
};

export type Explanation = {
  username: string;
  allowed: boolean;
  reason:
    | 'allowed'
    | 'no_rule'
    | 'denied'
    | 'conditions'
    | 'approval'
    | 'template'
    | 'token'
    | 'disabled'
    | 'other_tenant';
  rule: DecidingRule;
  /** Rules that would allow it, and which of their conditions do not hold. */
  almost: {
    policy: string;
    revision: number;
    /** Its place in the policy, from 0. */
    index: number;
    /** null to whoever may not read the policy. */
    rule: {
      effect: 'allow' | 'deny';
      actions: string[];
      resources: string[];
      conditions?: {
        cidrs?: string[];
        /** Whether the login had a second factor. */
        mfa?: boolean;
        /** A stretch of the week by the wall clock of a zone (UTC); past midnight when until is not later than from. */
        time?: {
          /** UTC, or a name of the IANA time zone database. */
          zone?: string;
          days?: ('sun' | 'mon' | 'tue' | 'wed' | 'thu' | 'fri' | 'sat')[];
          from?: string;
          until?: string;
        };
        /** Kinds of token, as GET /auth/self shows them. */
        token_kinds?: string[];
      };
      /** Allowed once these have approved. An approval that one rule asks for is needed, whatever others allow. */
      approval?: {
        /** The policy whose holders may approve. */
        by: string;
        /** How many of them, 1 unless it says otherwise. */
        count?: number;
        /** From the request to the act, such as 4h; at most 7d. */
        within: string;
      };
    } | null;
    conditions: string[];
  }[];
  requirements: {
    by: string;
    count: number;
    within_seconds: number;
  }[];
  /** The least that would allow it; null where no rule could. */
  smallest_rule: {
    effect: 'allow' | 'deny';
    actions: string[];
    resources: string[];
    conditions?: {
      cidrs?: string[];
      /** Whether the login had a second factor. */
      mfa?: boolean;
      /** A stretch of the week by the wall clock of a zone (UTC); past midnight when until is not later than from. */
      time?: {
        /** UTC, or a name of the IANA time zone database. */
        zone?: string;
        days?: ('sun' | 'mon' | 'tue' | 'wed' | 'thu' | 'fri' | 'sat')[];
        from?: string;
        until?: string;
      };
      /** Kinds of token, as GET /auth/self shows them. */
      token_kinds?: string[];
    };
    /** Allowed once these have approved. An approval that one rule asks for is needed, whatever others allow. */
    approval?: {
      /** The policy whose holders may approve. */
      by: string;
      /** How many of them, 1 unless it says otherwise. */
      count?: number;
      /** From the request to the act, such as 4h; at most 7d. */
      within: string;
    };
  } | null;
};

/** The rule that decided, if one did. */
export type DecidingRule = {
  policy: string;
  revision: number;
  /** Its place in the policy, from 0. */
  index: number;
  /** null to whoever may not read the policy. */
  rule: {
    effect: 'allow' | 'deny';
    actions: string[];
    resources: string[];
    conditions?: {
      cidrs?: string[];
      /** Whether the login had a second factor. */
      mfa?: boolean;
      /** A stretch of the week by the wall clock of a zone (UTC); past midnight when until is not later than from. */
      time?: {
        /** UTC, or a name of the IANA time zone database. */
        zone?: string;
        days?: ('sun' | 'mon' | 'tue' | 'wed' | 'thu' | 'fri' | 'sat')[];
        from?: string;
        until?: string;
      };
      /** Kinds of token, as GET /auth/self shows them. */
      token_kinds?: string[];
    };
    /** Allowed once these have approved. An approval that one rule asks for is needed, whatever others allow. */
    approval?: {
      /** The policy whose holders may approve. */
      by: string;
      /** How many of them, 1 unless it says otherwise. */
      count?: number;
      /** From the request to the act, such as 4h; at most 7d. */
      within: string;
    };
  } | null;
} | null;

export type WrittenVersion = {
  path: string;
  version: number;
  created_at: string;
  expires_at: string | null;
};

export type NewVersion = {
  /** Stored and answered as the text that was received. */
  data?: Record<string, unknown>;
  text?: string;
  /** Base64 with padding. */
  bytes?: string;
  content_type?: string;
  /** The current version; 0: there must be none. */
  cas?: number;
  ttl?: string | number;
  expires_at?: string;
  /** Whoever may write the metadata may bring it along. */
  metadata?: Record<string, string>;
  /** As metadata: it takes `secret.metadata-write` too. */
  versions_kept?: number;
};

export type Secret = {
  path: string;
  version: number;
  kind: 'data' | 'text' | 'bytes';
  /** When kind is data: the object as it was received. */
  data?: Record<string, unknown>;
  text?: string;
  /** Base64. */
  bytes?: string;
  content_type?: string;
  created_at: string;
  expires_at: string | null;
  metadata: Record<string, string>;
};

export type ListedSecret =
  | {
      path: string;
      folder: false;
      version: number;
      updated_at: string;
    }
  | {
      path: string;
      folder: true;
    };

export type Moved = {
  path: string;
  version: number;
};

export type Fetch = {
  paths?: string[];
  prefixes?: string[];
  format?: 'json' | 'flat' | 'env';
};

export type History = {
  path: string;
  current_version: number;
  items: VersionInfo[];
};

export type VersionInfo = {
  version: number;
  state: 'readable' | 'deleted' | 'expired' | 'destroyed';
  kind: 'data' | 'text' | 'bytes';
  created_at: string;
  /** The id of the user who wrote it. */
  created_by: string;
  expires_at: string | null;
  deleted_at: string | null;
  destroyed_at: string | null;
};

export type Versions = Record<string, unknown>;

export type Metadata = {
  path: string;
  current_version: number;
  versions_kept: number;
  cas_required: boolean;
  /** Seconds from its writing until a version is not readable. */
  delete_after: number | null;
  created_at: string;
  updated_at: string;
  metadata: Record<string, string>;
};

export type Rotator = {
  path: string;
  /** password: random characters. diceware: six words. account: the password of a static account, whenever that changes. webhook: what an endpoint of yours answers. */
  kind: 'password' | 'diceware' | 'account' | 'webhook';
  field?: string;
  length?: number;
  alphabet?: string;
  account?: string;
  /** Without its secret. */
  webhook?: {
    url: string;
    ca?: string;
  };
  /** Without its secret. */
  notify?: {
    url: string;
    ca?: string;
  };
  /** Seconds. */
  every: number | null;
  /** Seconds that the version before stays readable. */
  grace: number;
  rotated_at: string | null;
  /** By its schedule, or for another try. */
  next_at: string | null;
  /** The last one that it made. */
  version: number | null;
  /** How often it has failed since it last worked. */
  attempts: number;
  last_error: string | null;
  /** Why notify has not been told of the last version yet. */
  notice_error: string | null;
  created_at: string;
  updated_at: string;
};

export type Mount = {
  path: string;
  /** Where in the tree of secrets it begins; empty is the root. */
  prefix: string;
  /** 1: one value a secret; 2: versions. */
  version: number;
  description: string;
  versions_kept: number | null;
  cas_required: boolean;
  delete_after: number | null;
  created_at: string | null;
};

export type TakenLease = Lease & {
  /** Of a dynamic credential or an account: what the kind of the backend gives. */
  credential?: Record<string, unknown>;
  /** Of access to a stored secret. */
  token?: string;
};

export type Lease = {
  id: string;
  kind: 'credential' | 'account' | 'access';
  /** backend/role, backend/account, or that of the secret. */
  path: string;
  /** pending: not outside yet. revoking: to be gone from the target. checking: gone, and looked for once more, because its issuing was cut off. ended: gone. */
  state: 'pending' | 'active' | 'revoking' | 'checking' | 'ended';
  /** Its revocation has failed several times, and is tried for ever. */
  stuck: boolean;
  /** Why it ends: expired, revoked, used, token, role, account, backend, tenant, failed, forced. */
  reason: string | null;
  holder: string;
  /** What it is called at the target; of an access, the accessor of its token. */
  handle: string;
  /** Of the token that took it: the lease ends with it. */
  token_accessor: string;
  issued_at: string;
  expires_at: string;
  max_expires_at: string;
  renewable: boolean;
  renewals: number;
  renewed_at: string | null;
  ended_at: string | null;
  /** How often its revocation has failed. */
  attempts: number;
  last_error: string | null;
};

export type EndedLease = Lease & {
  warning?: string;
};

export type CondemnedLeases = {
  condemned: number;
};

export type Sweeper = {
  /** The clock has jumped, and no lease expires until it is confirmed. */
  latched: boolean;
  latched_at: string | null;
  jump_seconds: number | null;
  /** The time that would be confirmed. */
  now: string;
};

export type Backend = {
  name: string;
  kind: 'postgres' | 'mysql' | 'redis' | 'ssh' | 'webhook';
  /** Without its secrets. */
  config: Record<string, unknown>;
  /** Names of the roles and static accounts that it serves, in which * is any characters; null: every one. */
  allowed_roles: string[] | null;
  /** Seconds. */
  default_ttl: number | null;
  /** Seconds. */
  max_ttl: number | null;
  /** It is being deleted and gives no new lease. */
  closing: boolean;
  created_at: string;
  updated_at: string;
};

export type Role = {
  name: string;
  backend: string;
  /** What leases of it are taken by. */
  path: string;
  settings: Record<string, unknown>;
  /** Seconds. */
  default_ttl: number | null;
  /** Seconds. */
  max_ttl: number | null;
  leases_max: number | null;
  closing: boolean;
  created_at: string;
  updated_at: string;
};

export type Account = {
  name: string;
  backend: string;
  /** As the target writes it. */
  username: string;
  /** active: the password is proven. rotating: it is being changed, or that was cut off. stuck: changing it has failed several times, or no password of it logs in; it is tried for ever. */
  state: 'active' | 'rotating' | 'stuck';
  /** Seconds. */
  rotation_period: number | null;
  end_sessions: boolean;
  /** Seconds. */
  default_ttl: number | null;
  /** Seconds. */
  max_ttl: number | null;
  rotated_at: string | null;
  next_rotation_at: string | null;
  /** Somebody has checked it out. */
  held_until: string | null;
  /** How often changing the password has failed since it last worked. */
  attempts: number;
  last_error: string | null;
  closing: boolean;
  created_at: string;
  updated_at: string;
};

export type AccountCredential = {
  /** What the kind of the backend gives. */
  credential: Record<string, unknown>;
  rotated_at: string | null;
  next_rotation_at: string | null;
  held_until: string | null;
};

export type DataKey = {
  version: number;
  state: 'active' | 'decrypt_only' | 'destroyed';
  /** Of the key’s commitment. */
  fingerprint: string;
  created_at: string;
  destroyed_at: string | null;
  /** The root key version that wraps it. */
  root_version: number | null;
  /** Stored ciphertexts that it opens. */
  depends: number;
  age_seconds: number;
  /** When it rotates by itself; null when it does not. */
  due_at: string | null;
};

export type DataKeyRotation = DataKey & {
  job: Job;
};

export type Job = {
  id: string;
  kind: 'reencrypt' | 'tenant-delete' | 'root-key-rotate';
  /** What it is about: a key version, or the id of a tenant. */
  subject: string;
  state: 'queued' | 'running' | 'done' | 'failed' | 'cancelled';
  total: number;
  done: number;
  /** Items a second; null when no node works on it. */
  rate: number | null;
  seconds_left: number | null;
  /** The id of a user, or vault. */
  started_by: string;
  created_at: string;
  updated_at: string;
  finished_at: string | null;
  /** The code of the error that ended it. */
  error: string | null;
  /** What was done, once it has ended. */
  report: Record<string, unknown> | null;
};

export type RootKey = {
  version: number;
  state: 'active' | 'retiring' | 'destroyed';
  /** Of the key’s commitment. */
  fingerprint: string;
  /** The kind of seal that wraps it; null when it is destroyed. */
  seal: string | null;
  created_at: string;
  destroyed_at: string | null;
  age_seconds: number;
  /** When it rotates by itself; null when it does not. */
  due_at: string | null;
};

export type RootRotation = {
  version: number;
  state: 'active' | 'retiring' | 'destroyed';
  /** Of the key’s commitment. */
  fingerprint: string;
  /** The kind of seal that wraps it; null when it is destroyed. */
  seal: string | null;
  created_at: string;
  destroyed_at: string | null;
  age_seconds: number;
  /** When it rotates by itself; null when it does not. */
  due_at: string | null;
  /** Keys that are wrapped by it now. */
  rewrapped: number;
  destroyed_version: number;
  /** The job that keeps the report. */
  job: string;
};

export type ListedNamedKey = {
  name: string;
  type:
    | 'aes256-gcm96'
    | 'aes128-gcm96'
    | 'chacha20-poly1305'
    | 'xchacha20-poly1305'
    | 'ed25519'
    | 'ecdsa-p256'
    | 'ecdsa-p384'
    | 'ecdsa-p521'
    | 'rsa-2048'
    | 'rsa-3072'
    | 'rsa-4096'
    | 'hpke'
    | 'hmac'
    | 'password';
  latest_version: number;
  created_at: string;
};

export type NamedKey = {
  name: string;
  type:
    | 'aes256-gcm96'
    | 'aes128-gcm96'
    | 'chacha20-poly1305'
    | 'xchacha20-poly1305'
    | 'ed25519'
    | 'ecdsa-p256'
    | 'ecdsa-p384'
    | 'ecdsa-p521'
    | 'rsa-2048'
    | 'rsa-3072'
    | 'rsa-4096'
    | 'hpke'
    | 'hmac'
    | 'password';
  derived: boolean;
  convergent_encryption: boolean;
  exportable: boolean;
  deletion_allowed: boolean;
  latest_version: number;
  min_available_version: number;
  min_decryption_version: number;
  /** 0: as min_decryption_version. */
  min_encryption_version: number;
  /** Seconds; 0: never by itself. */
  auto_rotate_period: number;
  created_at: string;
  /** Newest first, at most 1000. */
  versions: {
    version: number;
    created_at: string;
    /** PEM of RSA and ECDSA keys, base64 of the 32 bytes of ed25519 and hpke keys. */
    public_key: string | null;
  }[];
};

export type ExportedKey = {
  name: string;
  type:
    | 'aes256-gcm96'
    | 'aes128-gcm96'
    | 'chacha20-poly1305'
    | 'xchacha20-poly1305'
    | 'ed25519'
    | 'ecdsa-p256'
    | 'ecdsa-p384'
    | 'ecdsa-p521'
    | 'rsa-2048'
    | 'rsa-3072'
    | 'rsa-4096'
    | 'hpke'
    | 'hmac'
    | 'password';
  keys: {
    version: number;
    key: string;
  }[];
};

export type TransitDataKey = {
  ciphertext: string;
  key_version: number;
  plaintext: string;
};

export type TransitWrappedDataKey = {
  ciphertext: string;
  key_version: number;
};

export type PasswordHash = {
  hash: string;
  key_version: number;
};

export type PasswordVerdict = {
  valid: boolean;
  /** It fits, and should be hashed anew: the key was rotated, or the parameters are not today’s. */
  needs_rehash: boolean;
};

export type HashSum = {
  hash: string;
};

export type RandomBytes = {
  random_bytes: string;
};

export type Sealed = {
  sealed: string;
};

export type Pepper = {
  version: number;
  state: 'active' | 'retiring' | 'destroyed';
  /** Passwords that depend on it, in all tenants. */
  users: number;
  created_at: string;
  destroyed_at: string | null;
};

export type Tenant = {
  id: string;
  name: string;
  state: 'active' | 'suspended' | 'deleting';
  /** Every person in it must have a second factor. */
  mfa_required: boolean;
  created_at: string;
  quotas: {
    secrets: number;
    /** Accounts of every kind. */
    users: number;
    /** On each node; null is no limit. */
    requests_per_second: number | null;
    account_requests_per_second: number | null;
  };
  /** How many there are. */
  usage: {
    secrets: number;
    users: number;
  };
};

export type NewTenant = {
  id: string;
  name: string;
  state: 'active' | 'suspended' | 'deleting';
  /** Every person in it must have a second factor. */
  mfa_required: boolean;
  created_at: string;
  quotas: {
    secrets: number;
    /** Accounts of every kind. */
    users: number;
    /** On each node; null is no limit. */
    requests_per_second: number | null;
    account_requests_per_second: number | null;
  };
  /** How many there are. */
  usage: {
    secrets: number;
    users: number;
  };
  admin: {
    username: string;
    /** Shown this once, and to be changed at the first login. */
    one_time_password: string;
  };
};

export type InclusionProof = {
  origin: string;
  index: number;
  size: number;
  /** 32 bytes in base64. */
  leaf_hash: string;
  proof: string[];
  /** 32 bytes in base64. */
  root: string;
  /** The checkpoint of this size, if one was signed. */
  checkpoint: string | null;
};

export type ConsistencyProof = {
  origin: string;
  from: number;
  to: number;
  proof: string[];
  /** 32 bytes in base64. */
  from_root: string;
  /** 32 bytes in base64. */
  to_root: string;
  /** The checkpoint of this size, if one was signed. */
  checkpoint: string | null;
};

export type LogKey = {
  version: number;
  state: string;
  /** 32 bytes in base64. */
  public_key: string;
  created_at: string;
};

export type Retention = {
  /** null: for ever. */
  days: number | null;
  /** Lines before this number are gone; their hashes are not. */
  removed_to: number;
};

export type Able = {
  /** An account, or a role that whoever fits it may log in by. */
  kind: 'account' | 'certificate_role' | 'login_role';
  name: string;
  disabled: boolean;
  /** Whether conditions limit it. */
  when: 'always' | 'under_conditions';
  /** Whether others must approve first. */
  approval: boolean;
  /** Those held or given that allow it. */
  policies: string[];
};

export type Did = {
  actor: string;
  kind: string;
  ok: number;
  denied: number;
  error: number;
  first_at: string;
  last_at: string;
};

export type Unread = {
  path: string;
  created_at: string;
};

export type Seal = {
  sealed: boolean;
  kind: 'file' | 'env' | 'passphrase' | 'shamir' | 'aws-kms' | 'transit';
  /** `operator`: somebody sealed the vault. `waiting`: people must bring what opens it. `unreachable`: the seal cannot act now. */
  reason: 'operator' | 'waiting' | 'unreachable' | null;
  /** What POST /seal/unseal takes; null where the seal opens by itself or on its host. */
  takes: 'share' | 'passphrase' | null;
  /** Shares that this node has, in memory only. */
  progress: {
    given: number;
    threshold: number;
    shares: number;
  } | null;
};

export type SealMigration = {
  state: 'prepared' | 'done';
  to: 'file' | 'env' | 'passphrase' | 'shamir' | 'aws-kms' | 'transit';
  /** Shown this once. Nothing has changed yet: keep them, then send some as `confirm`. */
  shares?: string[];
  threshold?: number;
  from?: 'file' | 'env' | 'passphrase' | 'shamir' | 'aws-kms' | 'transit';
  root_key_version?: number;
  rewrapped?: number;
  destroyed_root_key_version?: number;
  notice: string;
};

export type ShareCheck = {
  /** Together they open the root key that the vault has now. */
  opens: boolean;
  shares: {
    fits: boolean;
    number: number | null;
    generation: string | null;
    reason: 'not_a_share' | 'damaged' | 'another_split' | 'wrong' | null;
  }[];
};

export type Status = {
  version: string;
  deployment_id: string;
  tenant: string;
  seal: {
    kind: string;
    fingerprint: string;
  };
  root_key: KeyAge;
  data_key: KeyAge;
  uptime_seconds: number;
  tls: TlsStatus;
};

export type KeyAge = {
  version: number;
  age_seconds: number;
  /** When it rotates by itself; null when it does not. */
  due_at: string | null;
};

/** Null where plain HTTP is served. */
export type TlsStatus = {
  min_version: string;
  /** Whether clients are asked for a certificate. */
  client_certificates: boolean;
  certificates: ServedCertificate[];
  /** Of the key that will take over. */
  backup_pin: string | null;
  /** A certificate that has ended, or ends within 14 days. */
  alarms: string[];
  /** What keeps a new certificate from being served. */
  faults?: string[];
  handshakes?: {
    version: string;
    cipher: string;
    count: number;
  }[];
  refusals?: {
    reason: string;
    count: number;
  }[];
} | null;

export type ServedCertificate = {
  /** `ecdsa`, `rsa` or `ed25519`. */
  key: string;
  names: string[];
  issuer: string;
  not_after: string;
  /** SHA-256 of the certificate, in hex. */
  fingerprint: string;
  /** Of its key: what clients pin. */
  pin: string;
};

export type OauthToken = {
  access_token: string;
  token_type: 'Bearer';
  expires_in: number;
  scope?: string;
};

export type OauthError = {
  error: string;
  error_description: string;
};

export type OauthGrant = {
  grant_type: 'client_credentials';
  client_id?: string;
  client_secret?: string;
  /** Names of policies, apart by blanks: the token is bound to them. */
  scope?: string;
};

export type Health = {
  status: 'ok';
};

export type LoginBody = {
  tenant: string;
  username: string;
  password: string;
  /** Six digits of the second factor, or a recovery code. */
  totp?: string;
};

export type LoginServiceBody = {
  client_id: string;
  client_secret: string;
  /** Binds the token: one of these must allow an act too. */
  policies?: string[];
};

export type LoginJwtBody = {
  tenant: string;
  role: string;
  jwt: string;
  /** Binds the token: one of these must allow an act too. */
  policies?: string[];
};

export type BeginOidcLoginBody = {
  tenant: string;
  role: string;
  /** As registered (PUT /issuers/{name}), with the port of the moment where that has none. */
  redirect_uri: string;
};

export type LoginOidcBody = {
  tenant: string;
  /** Its holder alone concludes the login. */
  login: string;
  state: string;
  code: string;
  /** As the browser brought it (RFC 9207). */
  iss?: string;
  /** Binds the token: one of these must allow an act too. */
  policies?: string[];
};

export type RenewTokenBody = {
  ttl?: string | number;
};

export type ChangePasswordBody = {
  current_password: string;
  new_password: string;
};

export type CreateServiceBody = {
  name: string;
  description?: string;
  policies?: string[];
  /** How long its tokens last; null: as configured. */
  token_ttl?: string | number;
  /** In place of token_ttl: its tokens are periodic, renewed for this long as long as their secret works. */
  token_period?: string | number;
  /** How long its tokens can be renewed for. */
  token_max_ttl?: string | number | null;
  /** How many acts a token of it does. */
  token_uses?: number | null;
  /** Where its tokens may be used from. */
  token_cidrs?: string[] | null;
  /** How long a client secret works when none is said. */
  secret_ttl?: string | number | null;
  /** How many logins a client secret does when none is said. */
  secret_uses?: number | null;
  /** Where every client secret of it works at most. */
  secret_cidrs?: string[] | null;
};

export type UpdateServiceBody = {
  description?: string;
  policies?: string[];
  disabled?: boolean;
  /** How long its tokens last; null: as configured. */
  token_ttl?: string | number | null;
  /** In place of token_ttl: its tokens are periodic, renewed for this long as long as their secret works. */
  token_period?: string | number | null;
  /** How long its tokens can be renewed for. */
  token_max_ttl?: string | number | null;
  /** How many acts a token of it does. */
  token_uses?: number | null;
  /** Where its tokens may be used from. */
  token_cidrs?: string[] | null;
  /** How long a client secret works when none is said. */
  secret_ttl?: string | number | null;
  /** How many logins a client secret does when none is said. */
  secret_uses?: number | null;
  /** Where every client secret of it works at most. */
  secret_cidrs?: string[] | null;
};

export type CreateClientSecretBody = {
  name: string;
  /** 90 days when absent, unless configured otherwise. */
  ttl?: string | number;
  /** Where it, and the tokens given for it, may be used from. */
  cidrs?: string[];
  /** Logins that it does. */
  uses?: number;
  metadata?: Record<string, string>;
  replaces?: string;
  overlap?: string | number;
};

export type PutIssuerBody = {
  /** As the claim iss has it, byte for byte. */
  issuer: string;
  /** Public keys (RFC 7517); without them they are found by discovery. */
  jwks?: {
    keys: Record<string, unknown>[];
  };
  /** Where its keys are fetched in place of what discovery says. */
  jwks_url?: string;
  /** PEM, to trust where its keys are fetched. */
  ca?: string;
  /** RS256 alone when absent. */
  algorithms?: ('RS256' | 'RS384' | 'RS512' | 'PS256' | 'PS384' | 'PS512' | 'ES256' | 'ES384' | 'ES512' | 'EdDSA')[];
  /** 30s when absent, at most 5m. */
  clock_skew?: string;
  /** For people who log in there with a browser; absent: none do. */
  client?: {
    /** What the issuer calls this vault. */
    id: string;
    /** Absent: as it is, while the id stays the same. null: none. */
    secret?: string | null;
    /** On loopback; without a port, any. http://127.0.0.1/oidc/callback when absent. */
    redirect_uris?: string[];
    /** openid among them, and alone when absent. */
    scopes?: string[];
  };
};

export type PutLoginRoleBody = {
  /** jwt: whoever shows a token of the issuer. oidc: people who log in there with a browser. */
  kind?: 'jwt' | 'oidc';
  issuer: string;
  /** What tokens have to be for; not of oidc. */
  audiences?: string[];
  rules: {
    /** All of these claims must fit one of their patterns: `*` is any run of characters but / and :, `**` any run. */
    claims: Record<string, string[]>;
    policies: string[];
  }[];
  token_ttl?: string | number;
  /** Networks that it may be used from. */
  cidrs?: string[];
};

export type CreateTokenBody = {
  ttl?: string | number;
  /** In place of ttl: each renewal lasts this long. */
  period?: string | number;
  renewable?: boolean;
  policies?: string[];
  /** Acts that it does. */
  uses?: number;
  /** Networks that it may be used from. */
  cidrs?: string[];
  name?: string;
  metadata?: Record<string, string>;
};

export type EnrolTotpBody = {
  password: string;
  /** Six digits of the second factor, or a recovery code. */
  totp?: string;
};

export type ConfirmTotpBody = {
  /** Six digits of the second factor, or a recovery code. */
  totp: string;
};

export type RemoveTotpBody = {
  /** Six digits of the second factor, or a recovery code. */
  totp: string;
};

export type RenewRecoveryCodesBody = {
  /** Six digits of the second factor, or a recovery code. */
  totp: string;
};

export type ElevateBody = {
  /** Six digits of the second factor, or a recovery code. */
  totp: string;
};

export type LoginCertificateBody = {
  tenant: string;
  role: string;
  /** Binds the token: one of these must allow an act too. */
  policies?: string[];
};

export type PutAuthorityBody = {
  /** PEM, from 1 to 32. */
  certificates: string;
  /** No login without a list of every issuer. */
  list_required?: boolean;
  /** What a list past its next update does to logins. */
  stale_list?: 'refuse' | 'accept';
};

export type PutRevocationListBody = {
  /** PEM, signed by one of its certificates. */
  crl: string;
};

export type PutCertificateRoleBody = {
  authority: string;
  /** Patterns of subjectAltName, one of which has to fit: `dns:*.web.example.com`, `uri:spiffe://corp/ns/*`, `email:`, `ip:`. A * stands for one label or segment. */
  names: string[];
  policies: string[];
  token_ttl?: string | number;
};

export type CreateUserBody = {
  username: string;
  password?: string;
  policies?: string[];
  mfa_required?: boolean;
};

export type UpdateUserBody = {
  policies?: string[];
  disabled?: boolean;
  mfa_required?: boolean;
  password?: string;
  /** Makes a one-time password. */
  reset_password?: true;
};

export type CreateGroupBody = {
  name: string;
  policies?: string[];
  members?: string[];
};

export type UpdateGroupBody = {
  /** In place of all it has. */
  policies?: string[];
  add_members?: string[];
  remove_members?: string[];
};

export type RequestApprovalBody = {
  action: string;
  resource: string;
  /** Of the secret that is read, or the key that is destroyed. */
  version?: number;
  versions?: number[];
  /** For those who answer. */
  reason?: string;
};

export type PutPolicyBody = {
  rules: {
    effect: 'allow' | 'deny';
    actions: string[];
    resources: string[];
    conditions?: {
      cidrs?: string[];
      /** Whether the login had a second factor. */
      mfa?: boolean;
      /** A stretch of the week by the wall clock of a zone (UTC); past midnight when until is not later than from. */
      time?: {
        /** UTC, or a name of the IANA time zone database. */
        zone?: string;
        days?: ('sun' | 'mon' | 'tue' | 'wed' | 'thu' | 'fri' | 'sat')[];
        from?: string;
        until?: string;
      };
      /** Kinds of token, as GET /auth/self shows them. */
      token_kinds?: string[];
    };
    /** Allowed once these have approved. An approval that one rule asks for is needed, whatever others allow. */
    approval?: {
      /** The policy whose holders may approve. */
      by: string;
      /** How many of them, 1 unless it says otherwise. */
      count?: number;
      /** From the request to the act, such as 4h; at most 7d. */
      within: string;
    };
  }[];
};

export type PreviewPolicyBody = {
  rules: {
    effect: 'allow' | 'deny';
    actions: string[];
    resources: string[];
    conditions?: {
      cidrs?: string[];
      /** Whether the login had a second factor. */
      mfa?: boolean;
      /** A stretch of the week by the wall clock of a zone (UTC); past midnight when until is not later than from. */
      time?: {
        /** UTC, or a name of the IANA time zone database. */
        zone?: string;
        days?: ('sun' | 'mon' | 'tue' | 'wed' | 'thu' | 'fri' | 'sat')[];
        from?: string;
        until?: string;
      };
      /** Kinds of token, as GET /auth/self shows them. */
      token_kinds?: string[];
    };
    /** Allowed once these have approved. An approval that one rule asks for is needed, whatever others allow. */
    approval?: {
      /** The policy whose holders may approve. */
      by: string;
      /** How many of them, 1 unless it says otherwise. */
      count?: number;
      /** From the request to the act, such as 4h; at most 7d. */
      within: string;
    };
  }[];
};

export type ExplainPolicyBody = {
  action: string;
  resource: string;
  /** Oneself when absent. */
  username?: string;
  /** What is not said is that of this request about oneself, and unknown about others. */
  circumstances?: {
    /** An address. */
    source?: string;
    now?: string;
    mfa?: boolean;
    token_kind?: string;
  };
};

export type PatchSecretBody = {
  /** null removes a member. */
  data: Record<string, unknown>;
  cas?: number;
};

export type MoveSecretBody = {
  from: string;
  to: string;
};

export type PatchMetadataBody = {
  /** A merge patch: null removes a member. */
  metadata?: Record<string, string | null>;
  versions_kept?: number;
  /** Whether a write must say which version is current. */
  cas_required?: boolean;
  /** How long after its writing a new version is readable; null: for good. */
  delete_after?: string | number | null;
};

export type PutRotatorBody = {
  /** password: random characters. diceware: six words. account: the password of a static account, whenever that changes. webhook: what an endpoint of yours answers. */
  kind: 'password' | 'diceware' | 'account' | 'webhook';
  /** The member of the data that changes; the whole secret when absent. */
  field?: string;
  length?: number;
  alphabet?: string;
  account?: string;
  webhook?: {
    url: string;
    /** whsec_ and 24 to 64 bytes in base64; it stays as it is when absent. */
    secret?: string;
    ca?: string;
  };
  /** Is told of every new version. */
  notify?: {
    url: string;
    /** whsec_ and 24 to 64 bytes in base64; it stays as it is when absent. */
    secret?: string;
    ca?: string;
  };
  /** Only when somebody asks, or the account changes, when absent. */
  every?: string | number;
  /** How long the version before stays readable; a day when absent. */
  grace?: string | number;
};

export type CreateMountBody = {
  path: string;
  version?: number;
  prefix?: string;
  description?: string;
};

export type ChangeMountBody = {
  description?: string;
  versions_kept?: number | null;
  cas_required?: boolean;
  delete_after?: string | number;
};

export type CreateLeaseBody = {
  /** For a dynamic credential. */
  role?: string;
  /** For a static account, which nobody else has meanwhile. */
  account?: string;
  /** For access to one stored secret, which need not be there yet. */
  secret?: string;
  /** Shortened to what role, backend and token allow. */
  ttl?: string | number;
  /** How often the secret can be read with it. */
  uses?: number;
  /** What the kind of the backend takes beside. */
  parameters?: Record<string, unknown>;
};

export type RenewLeaseBody = {
  ttl?: string | number;
};

export type RevokeLeasesBody = {
  /** Of the path, by whole segments. */
  prefix?: string;
  role?: string;
  holder?: string;
  /** Of the token that took them. */
  accessor?: string;
  /** Every lease of the tenant that you may revoke. */
  all?: true;
};

export type PutBackendBody = {
  kind: 'postgres' | 'mysql' | 'redis' | 'ssh' | 'webhook';
  config: Record<string, unknown>;
  /** Names of the roles and static accounts that it serves, in which * is any characters; null: every one. */
  allowed_roles?: string[] | null;
  default_ttl?: string | number;
  max_ttl?: string | number;
};

export type PutRoleBody = {
  backend: string;
  settings?: Record<string, unknown>;
  default_ttl?: string | number;
  max_ttl?: string | number;
  /** Alive at once. */
  leases_max?: number;
};

export type PutAccountBody = {
  backend: string;
  /** As the target writes it: for mysql app@10.0.0.%, say. */
  username: string;
  password?: string;
  /** Never by itself when absent. */
  rotation_period?: string | number;
  /** Whether the end of a check-out ends every session of the account; true when absent. */
  end_sessions?: boolean;
  default_ttl?: string | number;
  max_ttl?: string | number;
};

export type RotateKeyBody = {
  reencrypt?: boolean;
};

export type CreateNamedKeyBody = {
  name: string;
  /** aes256-gcm96 when absent. */
  type?:
    | 'aes256-gcm96'
    | 'aes128-gcm96'
    | 'chacha20-poly1305'
    | 'xchacha20-poly1305'
    | 'ed25519'
    | 'ecdsa-p256'
    | 'ecdsa-p384'
    | 'ecdsa-p521'
    | 'rsa-2048'
    | 'rsa-3072'
    | 'rsa-4096'
    | 'hpke'
    | 'hmac'
    | 'password';
  derived?: boolean;
  convergent_encryption?: boolean;
  exportable?: boolean;
  /** At least an hour; 0: never by itself. */
  auto_rotate_period?: string | number;
  /** Bytes of a key of type hmac, 32 to 512. */
  key_size?: number;
};

export type ConfigureNamedKeyBody = {
  min_decryption_version?: number;
  min_encryption_version?: number;
  deletion_allowed?: boolean;
  exportable?: boolean;
  /** At least an hour; 0: never by itself. */
  auto_rotate_period?: string | number;
};

export type TrimNamedKeyBody = {
  min_available_version: number;
};

export type ExportNamedKeyBody = {
  kind: 'encryption-key' | 'signing-key' | 'hmac-key' | 'public-key';
  version?: 'latest' | number;
};

export type EncryptWithNamedKeyBody = {
  items: {
    plaintext: string;
    /** Of a derived key; at most 4096 bytes. Of an hpke key its info. */
    context?: string;
    /** Bound to the ciphertext and not in it: the same is needed to open it. */
    associated_data?: string;
    /** The latest when absent or 0. */
    key_version?: number;
    /** Comes back with the answer. */
    reference?: string;
  }[];
};

export type DecryptWithNamedKeyBody = {
  items: {
    ciphertext: string;
    /** Of a derived key; at most 4096 bytes. Of an hpke key its info. */
    context?: string;
    /** Bound to the ciphertext and not in it: the same is needed to open it. */
    associated_data?: string;
    /** Comes back with the answer. */
    reference?: string;
  }[];
};

export type RewrapWithNamedKeyBody = {
  items: {
    ciphertext: string;
    /** Of a derived key; at most 4096 bytes. Of an hpke key its info. */
    context?: string;
    /** Bound to the ciphertext and not in it: the same is needed to open it. */
    associated_data?: string;
    /** The latest when absent or 0. */
    key_version?: number;
    /** Comes back with the answer. */
    reference?: string;
  }[];
};

export type MakeDataKeyBody = {
  bits?: 128 | 256 | 512;
  /** Of a derived key; at most 4096 bytes. Of an hpke key its info. */
  context?: string;
  /** Bound to the ciphertext and not in it: the same is needed to open it. */
  associated_data?: string;
  /** The latest when absent or 0. */
  key_version?: number;
};

export type MakeWrappedDataKeyBody = {
  bits?: 128 | 256 | 512;
  /** Of a derived key; at most 4096 bytes. Of an hpke key its info. */
  context?: string;
  /** Bound to the ciphertext and not in it: the same is needed to open it. */
  associated_data?: string;
  /** The latest when absent or 0. */
  key_version?: number;
};

export type SignWithNamedKeyBody = {
  items: {
    input: string;
    /** Of a derived key; at most 4096 bytes. Of an hpke key its info. */
    context?: string;
    /** The latest when absent or 0. */
    key_version?: number;
    /** Comes back with the answer. */
    reference?: string;
  }[];
  /** sha2-256 when absent; ed25519 has its own. */
  hash_algorithm?:
    | 'sha2-224'
    | 'sha2-256'
    | 'sha2-384'
    | 'sha2-512'
    | 'sha3-224'
    | 'sha3-256'
    | 'sha3-384'
    | 'sha3-512';
  /** Of RSA keys; pss when absent. */
  signature_algorithm?: 'pss' | 'pkcs1v15';
  /** Of ECDSA keys: DER in base64, or r ‖ s in base64url; asn1 when absent. */
  marshaling_algorithm?: 'asn1' | 'jws';
  /** Of pss: the longest that fits when absent. */
  salt_length?: 'auto' | 'hash' | number;
  /** The input is the hash already; for RSA keys with pkcs1v15 only. */
  prehashed?: boolean;
};

export type VerifyWithNamedKeyBody = {
  items: {
    input: string;
    signature: string;
    /** Of a derived key; at most 4096 bytes. Of an hpke key its info. */
    context?: string;
    /** Comes back with the answer. */
    reference?: string;
  }[];
  /** sha2-256 when absent; ed25519 has its own. */
  hash_algorithm?:
    | 'sha2-224'
    | 'sha2-256'
    | 'sha2-384'
    | 'sha2-512'
    | 'sha3-224'
    | 'sha3-256'
    | 'sha3-384'
    | 'sha3-512';
  /** Of RSA keys; pss when absent. */
  signature_algorithm?: 'pss' | 'pkcs1v15';
  /** Of ECDSA keys: DER in base64, or r ‖ s in base64url; asn1 when absent. */
  marshaling_algorithm?: 'asn1' | 'jws';
  /** Of pss: the longest that fits when absent. */
  salt_length?: 'auto' | 'hash' | number;
  /** The input is the hash already; for RSA keys with pkcs1v15 only. */
  prehashed?: boolean;
};

export type HmacWithNamedKeyBody = {
  items: {
    input: string;
    /** The latest when absent or 0. */
    key_version?: number;
    /** Comes back with the answer. */
    reference?: string;
  }[];
  hash_algorithm?:
    | 'sha2-224'
    | 'sha2-256'
    | 'sha2-384'
    | 'sha2-512'
    | 'sha3-224'
    | 'sha3-256'
    | 'sha3-384'
    | 'sha3-512';
};

export type VerifyHmacWithNamedKeyBody = {
  items: {
    input: string;
    hmac: string;
    /** Comes back with the answer. */
    reference?: string;
  }[];
  hash_algorithm?:
    | 'sha2-224'
    | 'sha2-256'
    | 'sha2-384'
    | 'sha2-512'
    | 'sha3-224'
    | 'sha3-256'
    | 'sha3-384'
    | 'sha3-512';
};

export type HashPasswordBody = {
  password: string;
};

export type VerifyPasswordBody = {
  password: string;
  hash: string;
};

export type ComputeHashBody = {
  input: string;
  algorithm?: 'sha2-224' | 'sha2-256' | 'sha2-384' | 'sha2-512' | 'sha3-224' | 'sha3-256' | 'sha3-384' | 'sha3-512';
  format?: 'base64' | 'hex';
};

export type MakeRandomBody = {
  bytes?: number;
  format?: 'base64' | 'hex';
};

export type SealToPublicKeyBody = {
  /** The 32 bytes of an X25519 public key. */
  public_key: string;
  plaintext: string;
  info?: string;
  associated_data?: string;
};

export type CreateTenantBody = {
  name: string;
  admin_username?: string;
};

export type UpdateTenantBody = {
  state?: 'active' | 'suspended';
  mfa_required?: boolean;
  /** What is not said stays. Less than there is takes nothing away and lets nothing new in. */
  quotas?: {
    secrets?: number;
    users?: number;
    requests_per_second?: number | null;
    account_requests_per_second?: number | null;
  };
};

export type UnlockTenantBody = {
  username: string;
  /** The second factor is lost: take it away, and end every session. */
  remove_totp?: true;
};

export type SetRetentionBody = {
  days: number | null;
};

export type UnsealBody = {
  /** `bulla-share-v1-…`, as it was shown. */
  share?: string;
  passphrase?: string;
};

export type MigrateSealBody = {
  to: 'file' | 'env' | 'passphrase' | 'shamir' | 'aws-kms' | 'transit';
  passphrase?: string;
  shares?: number;
  threshold?: number;
  confirm?: string[];
};

export type CheckSharesBody = {
  shares: string[];
};
