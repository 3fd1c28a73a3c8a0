-- Second factors: TOTP seeds (RFC 6238) in envelopes, and recovery codes as hashes.

-- Who must have one: a user, or every person of a tenant.
ALTER TABLE bulla.users ADD COLUMN mfa_required boolean NOT NULL DEFAULT false;
ALTER TABLE bulla.tenants ADD COLUMN mfa_required boolean NOT NULL DEFAULT false;

-- pending: shown to its user, who has not yet shown a code of it. last_step is the time step of the last code that was
-- taken: no code of it or of an earlier one is taken again.
CREATE TABLE bulla.totp_factors (
  tenant_id   text NOT NULL,
  user_id     text NOT NULL,
  state       text NOT NULL CHECK (state IN ('pending', 'active')),
  key_version integer NOT NULL,
  envelope    bytea NOT NULL,
  last_step   bigint NOT NULL DEFAULT 0,
  created_at  timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, user_id, state),
  FOREIGN KEY (tenant_id, user_id) REFERENCES bulla.users ON DELETE CASCADE,
  FOREIGN KEY (tenant_id, key_version) REFERENCES bulla.data_key_material
);
CREATE INDEX totp_factors_key ON bulla.totp_factors (key_version, tenant_id);

-- Each of 125 random bits, so that a plain hash tells nothing. A code that is used is deleted.
CREATE TABLE bulla.recovery_codes (
  tenant_id text NOT NULL,
  user_id   text NOT NULL,
  code_hash bytea NOT NULL CHECK (octet_length(code_hash) = 32),
  PRIMARY KEY (tenant_id, user_id, code_hash),
  FOREIGN KEY (tenant_id, user_id) REFERENCES bulla.users ON DELETE CASCADE
);

DO $$
DECLARE name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['totp_factors', 'recovery_codes'] LOOP
    EXECUTE format('ALTER TABLE bulla.%I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format($p$CREATE POLICY tenants_of_the_transaction ON bulla.%I TO bulla_app
      USING (bulla.visible(tenant_id))$p$, name);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON bulla.%I TO bulla_app', name);
  END LOOP;
END $$;
