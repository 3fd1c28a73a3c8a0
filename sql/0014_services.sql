-- Service accounts: machines that log in with client secrets.

-- What an account of kind service has beside its name, its policies and its state, which are in users.
CREATE TABLE bulla.services (
  tenant_id            text NOT NULL,
  user_id              text NOT NULL,
  description          text NOT NULL DEFAULT '',
  token_ttl_seconds    integer CHECK (token_ttl_seconds > 0),
  -- Its tokens are periodic: renewed for this long again and again.
  token_period_seconds integer CHECK (token_period_seconds > 0),
  PRIMARY KEY (tenant_id, user_id),
  CHECK (token_ttl_seconds IS NULL OR token_period_seconds IS NULL),
  FOREIGN KEY (tenant_id, user_id) REFERENCES bulla.users ON DELETE CASCADE
);

-- Client secrets, several for a service so that one replaces another while both work. Only the hash of 256 random bits.
CREATE TABLE bulla.client_secrets (
  tenant_id      text NOT NULL,
  secret_id      text NOT NULL CHECK (secret_id ~ '^[a-z2-7]{16}$'),
  user_id        text NOT NULL,
  name           text NOT NULL COLLATE "C",
  secret_hash    bytea NOT NULL CHECK (octet_length(secret_hash) = 32),
  cidrs          text[],
  created_at     timestamptz NOT NULL,
  expires_at     timestamptz NOT NULL,
  last_used_at   timestamptz,
  last_used_from text,
  PRIMARY KEY (tenant_id, secret_id),
  UNIQUE (tenant_id, user_id, name),
  FOREIGN KEY (tenant_id, user_id) REFERENCES bulla.services ON DELETE CASCADE
);

-- A token ends with the client secret that it was given for, and so does what hangs under it.
ALTER TABLE bulla.tokens
  ADD COLUMN client_secret_id text,
  ADD FOREIGN KEY (tenant_id, client_secret_id) REFERENCES bulla.client_secrets ON DELETE CASCADE;
CREATE INDEX tokens_client_secret ON bulla.tokens (tenant_id, client_secret_id) WHERE client_secret_id IS NOT NULL;

DO $$
DECLARE name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['services', 'client_secrets'] LOOP
    EXECUTE format('ALTER TABLE bulla.%I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format($p$CREATE POLICY tenants_of_the_transaction ON bulla.%I TO bulla_app
      USING (bulla.visible(tenant_id))$p$, name);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON bulla.%I TO bulla_app', name);
  END LOOP;
END $$;
