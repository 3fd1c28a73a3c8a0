-- People who log in at an OpenID provider: what the vault is registered as there, and logins that have begun.

-- redirect_uris: on the loopback interface of whoever logs in (RFC 8252 §7.3); without a port, any port.
ALTER TABLE bulla.jwt_issuers
  ADD COLUMN client_id     text COLLATE "C",
  ADD COLUMN redirect_uris text[],
  ADD COLUMN scopes        text[],
  ADD CHECK ((client_id IS NULL) = (redirect_uris IS NULL) AND (client_id IS NULL) = (scopes IS NULL));

-- jwt: whoever shows a token for one of the audiences. oidc: whoever logs in at the issuer with a browser; the token is for
-- the client_id alone.
ALTER TABLE bulla.login_roles
  ADD COLUMN kind text NOT NULL DEFAULT 'jwt' CHECK (kind IN ('jwt', 'oidc')),
  DROP CONSTRAINT login_roles_audiences_check,
  ADD CHECK ((kind = 'jwt') = (cardinality(audiences) > 0));

-- The secret of a registration that has one.
CREATE TABLE bulla.issuer_secrets (
  tenant_id   text NOT NULL,
  issuer_id   text NOT NULL,
  key_version integer NOT NULL,
  envelope    bytea NOT NULL,
  PRIMARY KEY (tenant_id, issuer_id),
  FOREIGN KEY (tenant_id, issuer_id) REFERENCES bulla.jwt_issuers ON DELETE CASCADE,
  FOREIGN KEY (tenant_id, key_version) REFERENCES bulla.data_key_material
);
CREATE INDEX issuer_secrets_key ON bulla.issuer_secrets (key_version, tenant_id);

-- Logins that have begun, in the database so that any node concludes them. login_hash: SHA-256 of the 256 random bits that
-- whoever began was given, from which state, nonce and PKCE verifier are derived: nothing here opens anything. Concluding
-- one takes its row away, so it is done once. source: the network that it was begun from.
CREATE TABLE bulla.oidc_logins (
  tenant_id       text NOT NULL,
  login_hash      bytea NOT NULL CHECK (octet_length(login_hash) = 32),
  role_id         text NOT NULL,
  issuer_revision integer NOT NULL,
  redirect_uri    text NOT NULL,
  source          text NOT NULL,
  expires_at      timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, login_hash),
  FOREIGN KEY (tenant_id, role_id) REFERENCES bulla.login_roles ON DELETE CASCADE
);
CREATE INDEX oidc_logins_role ON bulla.oidc_logins (tenant_id, role_id);
CREATE INDEX oidc_logins_source ON bulla.oidc_logins (tenant_id, source);
CREATE INDEX oidc_logins_expiry ON bulla.oidc_logins (tenant_id, expires_at);

DO $$
DECLARE name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['issuer_secrets', 'oidc_logins'] LOOP
    EXECUTE format('ALTER TABLE bulla.%I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format($p$CREATE POLICY tenants_of_the_transaction ON bulla.%I TO bulla_app
      USING (bulla.visible(tenant_id))$p$, name);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON bulla.%I TO bulla_app', name);
  END LOOP;
END $$;
