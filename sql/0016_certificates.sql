-- Login with client certificates: whom a tenant believes, what they may do, and who has come.

-- certificates: PEM of those that may have issued a client's. A list that is past its next update refuses, or is used on.
CREATE TABLE bulla.authorities (
  tenant_id     text NOT NULL REFERENCES bulla.tenants,
  name          text NOT NULL COLLATE "C",
  authority_id  text NOT NULL CHECK (authority_id ~ '^[a-z2-7]{16}$'),
  certificates  text NOT NULL,
  list_required boolean NOT NULL,
  stale_list    text NOT NULL CHECK (stale_list IN ('refuse', 'accept')),
  revision      integer NOT NULL DEFAULT 1,
  created_at    timestamptz NOT NULL,
  updated_at    timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, name),
  UNIQUE (tenant_id, authority_id)
);

-- The last revocation list of each issuer of an authority. issuer_key: SHA-256 of its public key. serials: hex.
CREATE TABLE bulla.revocation_lists (
  tenant_id    text NOT NULL,
  authority_id text NOT NULL,
  issuer_key   bytea NOT NULL CHECK (octet_length(issuer_key) = 32),
  this_update  timestamptz NOT NULL,
  next_update  timestamptz NOT NULL,
  serials      text[] NOT NULL,
  received_at  timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, authority_id, issuer_key),
  FOREIGN KEY (tenant_id, authority_id) REFERENCES bulla.authorities (tenant_id, authority_id) ON DELETE CASCADE
);

-- Which names of an authority's clients get which policies.
CREATE TABLE bulla.certificate_roles (
  tenant_id         text NOT NULL REFERENCES bulla.tenants,
  name              text NOT NULL COLLATE "C",
  role_id           text NOT NULL CHECK (role_id ~ '^[a-z2-7]{16}$'),
  authority_id      text NOT NULL,
  names             text[] NOT NULL,
  policies          text[] NOT NULL,
  token_ttl_seconds integer CHECK (token_ttl_seconds > 0),
  created_at        timestamptz NOT NULL,
  updated_at        timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, name),
  UNIQUE (tenant_id, role_id),
  FOREIGN KEY (tenant_id, authority_id) REFERENCES bulla.authorities (tenant_id, authority_id)
);
CREATE INDEX certificate_roles_authority ON bulla.certificate_roles (tenant_id, authority_id);

-- Who has come: identity is the hash of role, issuer, names and key. The account is of kind external.
CREATE TABLE bulla.certificate_identities (
  tenant_id text NOT NULL,
  identity  bytea NOT NULL CHECK (octet_length(identity) = 32),
  role_id   text NOT NULL,
  user_id   text NOT NULL,
  last_seen_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, identity),
  FOREIGN KEY (tenant_id, role_id) REFERENCES bulla.certificate_roles (tenant_id, role_id),
  FOREIGN KEY (tenant_id, user_id) REFERENCES bulla.users ON DELETE CASCADE
);
CREATE INDEX certificate_identities_role ON bulla.certificate_identities (tenant_id, role_id, last_seen_at);
CREATE INDEX certificate_identities_user ON bulla.certificate_identities (tenant_id, user_id);

-- With which certificates: a list that names one ends the tokens that are bound to it. path: for each certificate from the
-- client's upwards but the authority's, the key of its issuer and its serial, in hex, with a dot between.
CREATE TABLE bulla.client_certificates (
  tenant_id    text NOT NULL,
  user_id      text NOT NULL,
  thumbprint   bytea NOT NULL CHECK (octet_length(thumbprint) = 32),
  authority_id text NOT NULL,
  path         text[] NOT NULL,
  not_after    timestamptz NOT NULL,
  last_seen_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, user_id, thumbprint),
  FOREIGN KEY (tenant_id, user_id) REFERENCES bulla.users ON DELETE CASCADE
);
CREATE INDEX client_certificates_authority ON bulla.client_certificates (tenant_id, authority_id);

DO $$
DECLARE name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['authorities', 'revocation_lists', 'certificate_roles', 'certificate_identities', 'client_certificates'] LOOP
    EXECUTE format('ALTER TABLE bulla.%I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format($p$CREATE POLICY tenants_of_the_transaction ON bulla.%I TO bulla_app
      USING (bulla.visible(tenant_id))$p$, name);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON bulla.%I TO bulla_app', name);
  END LOOP;
END $$;
