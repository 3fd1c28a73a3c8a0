-- Named keys that never leave (transit).

-- A key has an id that is never used again and that its ciphertexts are bound to; its name may be. Versions below
-- min_available_version are gone. min_encryption_version 0: as min_decryption_version. auto_rotate_seconds 0: never by itself.
CREATE TABLE bulla.transit_keys (
  tenant_id              text NOT NULL REFERENCES bulla.tenants,
  key_id                 text NOT NULL CHECK (key_id ~ '^[a-z2-7]{16}$'),
  name                   text NOT NULL COLLATE "C",
  type                   text NOT NULL,
  derived                boolean NOT NULL,
  convergent             boolean NOT NULL CHECK (derived OR NOT convergent),
  exportable             boolean NOT NULL,
  plaintext_backup       boolean NOT NULL,
  deletion_allowed       boolean NOT NULL DEFAULT false,
  mac_bytes              integer NOT NULL,
  latest_version         integer NOT NULL CHECK (latest_version > 0),
  min_available_version  integer NOT NULL DEFAULT 1 CHECK (min_available_version > 0),
  min_decryption_version integer NOT NULL DEFAULT 1,
  min_encryption_version integer NOT NULL DEFAULT 0,
  auto_rotate_seconds    bigint NOT NULL DEFAULT 0 CHECK (auto_rotate_seconds >= 0),
  created_at             timestamptz NOT NULL,
  -- When the age of the latest version began to count.
  counted_from           timestamptz NOT NULL DEFAULT bulla.steady_now(),
  PRIMARY KEY (tenant_id, key_id),
  UNIQUE (tenant_id, name),
  CHECK (min_available_version <= min_decryption_version AND min_decryption_version <= latest_version),
  CHECK (min_encryption_version = 0 OR min_encryption_version BETWEEN min_available_version AND latest_version)
);
CREATE INDEX transit_keys_due ON bulla.transit_keys (counted_from) WHERE auto_rotate_seconds > 0;

CREATE TABLE bulla.transit_key_versions (
  tenant_id   text NOT NULL,
  key_id      text NOT NULL,
  version     integer NOT NULL CHECK (version > 0),
  key_version integer NOT NULL,
  envelope    bytea NOT NULL,
  public_key  text,
  created_at  timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, key_id, version),
  FOREIGN KEY (tenant_id, key_id) REFERENCES bulla.transit_keys ON DELETE CASCADE,
  FOREIGN KEY (tenant_id, key_version) REFERENCES bulla.data_key_material
);
CREATE INDEX transit_key_versions_key ON bulla.transit_key_versions (key_version, tenant_id);

-- How many random nonces of 12 bytes may have been used under a version: counted before they are, in blocks. A table of
-- its own, so that counting never waits for the re-encryption of the version.
CREATE TABLE bulla.transit_key_uses (
  tenant_id text NOT NULL,
  key_id    text NOT NULL,
  version   integer NOT NULL,
  reserved  bigint NOT NULL DEFAULT 0 CHECK (reserved >= 0),
  PRIMARY KEY (tenant_id, key_id, version),
  FOREIGN KEY (tenant_id, key_id, version) REFERENCES bulla.transit_key_versions ON DELETE CASCADE
);

DO $$
DECLARE name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['transit_keys', 'transit_key_versions', 'transit_key_uses'] LOOP
    EXECUTE format('ALTER TABLE bulla.%I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format($p$CREATE POLICY tenants_of_the_transaction ON bulla.%I TO bulla_app
      USING (bulla.visible(tenant_id))$p$, name);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON bulla.%I TO bulla_app', name);
  END LOOP;
END $$;

-- As for data keys: every node looks in a transaction for the system tenant for what is to be rotated by itself.
CREATE POLICY ages ON bulla.transit_keys FOR SELECT TO bulla_app
  USING (bulla.visible('system') AND auto_rotate_seconds > 0);
