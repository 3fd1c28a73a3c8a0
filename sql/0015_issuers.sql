-- Identities that somebody else proves: issuers of signed tokens (JWT), and the login roles that say what they are worth.

-- jwks: the public keys as JSON text, or NULL: they are found by discovery (issuer/.well-known/openid-configuration).
-- revision counts changes: what was fetched or checked under another one is not used.
CREATE TABLE bulla.jwt_issuers (
  tenant_id          text NOT NULL REFERENCES bulla.tenants,
  issuer_id          text NOT NULL CHECK (issuer_id ~ '^[a-z2-7]{16}$'),
  name               text NOT NULL COLLATE "C",
  issuer             text NOT NULL COLLATE "C",
  jwks               text,
  ca                 text,
  algorithms         text[] NOT NULL,
  clock_skew_seconds integer NOT NULL CHECK (clock_skew_seconds BETWEEN 0 AND 300),
  revision           integer NOT NULL CHECK (revision > 0),
  created_at         timestamptz NOT NULL,
  updated_at         timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, issuer_id),
  UNIQUE (tenant_id, name),
  UNIQUE (tenant_id, issuer)
);

-- rules: JSON text: [{"claims": {"sub": ["repo:acme/web:**"]}, "policies": ["deploy"]}]
CREATE TABLE bulla.login_roles (
  tenant_id         text NOT NULL,
  role_id           text NOT NULL CHECK (role_id ~ '^[a-z2-7]{16}$'),
  name              text NOT NULL COLLATE "C",
  issuer_id         text NOT NULL,
  audiences         text[] NOT NULL CHECK (cardinality(audiences) > 0),
  rules             text NOT NULL,
  token_ttl_seconds integer CHECK (token_ttl_seconds > 0),
  cidrs             text[],
  revision          integer NOT NULL CHECK (revision > 0),
  created_at        timestamptz NOT NULL,
  updated_at        timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, role_id),
  UNIQUE (tenant_id, name),
  FOREIGN KEY (tenant_id, issuer_id) REFERENCES bulla.jwt_issuers
);

-- One account for one subject of one issuer, compared byte by byte and never by name.
CREATE TABLE bulla.external_identities (
  tenant_id text NOT NULL,
  user_id   text NOT NULL,
  issuer_id text NOT NULL,
  subject   text NOT NULL COLLATE "C",
  PRIMARY KEY (tenant_id, user_id),
  UNIQUE (tenant_id, issuer_id, subject),
  FOREIGN KEY (tenant_id, user_id) REFERENCES bulla.users ON DELETE CASCADE,
  FOREIGN KEY (tenant_id, issuer_id) REFERENCES bulla.jwt_issuers
);

-- A token ends with the login role that it was given by, and so does what hangs under it.
ALTER TABLE bulla.tokens
  ADD COLUMN login_role_id text,
  ADD FOREIGN KEY (tenant_id, login_role_id) REFERENCES bulla.login_roles ON DELETE CASCADE;
CREATE INDEX tokens_login_role ON bulla.tokens (tenant_id, login_role_id) WHERE login_role_id IS NOT NULL;

DO $$
DECLARE name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['jwt_issuers', 'login_roles', 'external_identities'] LOOP
    EXECUTE format('ALTER TABLE bulla.%I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format($p$CREATE POLICY tenants_of_the_transaction ON bulla.%I TO bulla_app
      USING (bulla.visible(tenant_id))$p$, name);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON bulla.%I TO bulla_app', name);
  END LOOP;
END $$;
