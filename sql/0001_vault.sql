-- The vault's tables. Runs as the owner in one transaction; the serving role bulla_app exists already.
--
-- tenant_id leads every key. What belongs to the deployment itself belongs to the tenant 'system'.
-- Row security is on every table and shows only the tenants that the transaction was opened for
-- (setting bulla.tenants); unset, every table is empty. No column holds a readable secret: bytea columns
-- named wrapped or envelope are envelopes of docs/envelope.md, *_hash columns are hashes.

-- The clock of every decision. The offset is zero outside the tests.
CREATE FUNCTION bulla.now() RETURNS timestamptz LANGUAGE sql VOLATILE PARALLEL SAFE AS
  $$ SELECT clock_timestamp() + make_interval(secs => coalesce(nullif(current_setting('bulla.clock_offset_seconds', true), ''), '0')::double precision) $$;

-- Whether the transaction was opened for a tenant: bulla.tenants is `,id,id,`. Planners see that no index serves this, so
-- that it never competes with the keys by which a statement looks its rows up; every statement names its tenant too.
CREATE FUNCTION bulla.visible(tenant_id text) RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS
  $$ SELECT strpos(current_setting('bulla.tenants', true), ',' || tenant_id || ',') > 0 $$;

CREATE TABLE bulla.deployments (
  tenant_id   text PRIMARY KEY DEFAULT 'system' CHECK (tenant_id = 'system'),
  deployment_id text NOT NULL CHECK (deployment_id ~ '^[a-z2-7]{16}$'),
  created_at  timestamptz NOT NULL
);

-- A deleted tenant keeps its row without a name: its id is never used again, its name may be.
CREATE TABLE bulla.tenants (
  tenant_id  text PRIMARY KEY CHECK (tenant_id = 'system' OR tenant_id ~ '^[a-z2-7]{16}$'),
  name       text UNIQUE COLLATE "C",
  state      text NOT NULL CHECK (state IN ('active', 'suspended', 'deleting', 'deleted')),
  created_at timestamptz NOT NULL,
  deleted_at timestamptz,
  CHECK ((state = 'deleted') = (name IS NULL))
);

-- Keys. The wrapped bytes live apart from what is known about them: destroying a key deletes its material, and the
-- foreign keys refuse that while anything still depends on it.
CREATE TABLE bulla.root_keys (
  tenant_id    text NOT NULL DEFAULT 'system' CHECK (tenant_id = 'system'),
  version      integer NOT NULL CHECK (version > 0),
  state        text NOT NULL CHECK (state IN ('active', 'retiring', 'destroyed')),
  fingerprint  text NOT NULL,
  created_at   timestamptz NOT NULL,
  destroyed_at timestamptz,
  PRIMARY KEY (tenant_id, version)
);
CREATE UNIQUE INDEX root_keys_one_active ON bulla.root_keys (tenant_id) WHERE state = 'active';

CREATE TABLE bulla.root_key_material (
  tenant_id text NOT NULL DEFAULT 'system',
  version   integer NOT NULL,
  seal      text NOT NULL,
  wrapped   bytea NOT NULL,
  PRIMARY KEY (tenant_id, version),
  FOREIGN KEY (tenant_id, version) REFERENCES bulla.root_keys
);

CREATE TABLE bulla.data_keys (
  tenant_id    text NOT NULL REFERENCES bulla.tenants,
  version      integer NOT NULL CHECK (version > 0),
  state        text NOT NULL CHECK (state IN ('active', 'decrypt_only', 'destroyed')),
  fingerprint  text NOT NULL,
  created_at   timestamptz NOT NULL,
  destroyed_at timestamptz,
  PRIMARY KEY (tenant_id, version)
);
CREATE UNIQUE INDEX data_keys_one_active ON bulla.data_keys (tenant_id) WHERE state = 'active';

-- wrapped is NULL only while the tenant is being deleted: the key is gone before the first row of what it encrypted.
CREATE TABLE bulla.data_key_material (
  tenant_id   text NOT NULL,
  version     integer NOT NULL,
  root_tenant text NOT NULL DEFAULT 'system',
  root_version integer NOT NULL,
  wrapped     bytea,
  PRIMARY KEY (tenant_id, version),
  FOREIGN KEY (tenant_id, version) REFERENCES bulla.data_keys,
  FOREIGN KEY (root_tenant, root_version) REFERENCES bulla.root_key_material (tenant_id, version)
);
CREATE INDEX data_key_material_root ON bulla.data_key_material (root_tenant, root_version);

-- Keys of the deployment other than data keys: password peppers, log signing keys.
CREATE TABLE bulla.system_keys (
  tenant_id    text NOT NULL DEFAULT 'system' CHECK (tenant_id = 'system'),
  purpose      text NOT NULL CHECK (purpose IN ('pepper', 'log-signing')),
  version      integer NOT NULL CHECK (version > 0),
  state        text NOT NULL CHECK (state IN ('active', 'retiring', 'destroyed')),
  public_key   bytea,
  created_at   timestamptz NOT NULL,
  destroyed_at timestamptz,
  PRIMARY KEY (tenant_id, purpose, version)
);
CREATE UNIQUE INDEX system_keys_one_active ON bulla.system_keys (tenant_id, purpose) WHERE state = 'active';

CREATE TABLE bulla.system_key_material (
  tenant_id   text NOT NULL DEFAULT 'system',
  purpose     text NOT NULL,
  version     integer NOT NULL,
  root_version integer NOT NULL,
  wrapped     bytea NOT NULL,
  PRIMARY KEY (tenant_id, purpose, version),
  FOREIGN KEY (tenant_id, purpose, version) REFERENCES bulla.system_keys,
  FOREIGN KEY (tenant_id, root_version) REFERENCES bulla.root_key_material (tenant_id, version)
);
CREATE INDEX system_key_material_root ON bulla.system_key_material (tenant_id, root_version);

-- People, policies, tokens.
CREATE TABLE bulla.users (
  tenant_id      text NOT NULL REFERENCES bulla.tenants,
  user_id        text NOT NULL,
  name           text NOT NULL COLLATE "C",
  password_hash  text NOT NULL,
  pepper_version integer NOT NULL,
  must_change_password boolean NOT NULL DEFAULT false,
  disabled       boolean NOT NULL DEFAULT false,
  policies       text[] NOT NULL DEFAULT '{}',
  failed_logins  integer NOT NULL DEFAULT 0,
  locked_until   timestamptz,
  created_at     timestamptz NOT NULL,
  last_login_at  timestamptz,
  PRIMARY KEY (tenant_id, user_id),
  UNIQUE (tenant_id, name)
);

-- (policy_id, revision) is immutable and what compiled policies are cached by: a policy made again under an old name has a new id.
CREATE TABLE bulla.policies (
  tenant_id  text NOT NULL REFERENCES bulla.tenants,
  name       text NOT NULL COLLATE "C",
  policy_id  text NOT NULL,
  revision   integer NOT NULL CHECK (revision > 0),
  document   text NOT NULL,
  built_in   boolean NOT NULL DEFAULT false,
  created_at timestamptz NOT NULL,
  updated_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, name)
);

CREATE TABLE bulla.tokens (
  tenant_id      text NOT NULL,
  token_id       text NOT NULL,
  secret_hash    bytea NOT NULL CHECK (octet_length(secret_hash) = 32),
  user_id        text NOT NULL,
  method         text NOT NULL,
  created_at     timestamptz NOT NULL,
  expires_at     timestamptz NOT NULL,
  max_expires_at timestamptz NOT NULL,
  source         text NOT NULL,
  PRIMARY KEY (tenant_id, token_id),
  FOREIGN KEY (tenant_id, user_id) REFERENCES bulla.users ON DELETE CASCADE
);
CREATE INDEX tokens_user ON bulla.tokens (tenant_id, user_id);
CREATE INDEX tokens_expiry ON bulla.tokens (max_expires_at);

-- Secrets. current_version 0: all its versions are gone, numbering goes on.
CREATE TABLE bulla.secrets (
  tenant_id       text NOT NULL REFERENCES bulla.tenants,
  secret_id       text NOT NULL,
  path            text NOT NULL COLLATE "C",
  current_version integer NOT NULL,
  versions_kept   integer,
  created_at      timestamptz NOT NULL,
  updated_at      timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, secret_id),
  UNIQUE (tenant_id, path)
);

CREATE TABLE bulla.secret_versions (
  tenant_id    text NOT NULL,
  secret_id    text NOT NULL,
  version      integer NOT NULL CHECK (version > 0),
  key_version  integer NOT NULL,
  kind         text NOT NULL CHECK (kind IN ('data', 'text', 'bytes')),
  content_type text,
  envelope     bytea NOT NULL,
  created_at   timestamptz NOT NULL,
  created_by   text NOT NULL,
  expires_at   timestamptz,
  deleted_at   timestamptz,
  PRIMARY KEY (tenant_id, secret_id, version),
  FOREIGN KEY (tenant_id, secret_id) REFERENCES bulla.secrets ON DELETE CASCADE,
  FOREIGN KEY (tenant_id, key_version) REFERENCES bulla.data_key_material
);
-- The key's version leads, so that no planner takes this for the way to one row of a tenant.
CREATE INDEX secret_versions_key ON bulla.secret_versions (key_version, tenant_id);
-- Ciphertext does not compress.
ALTER TABLE bulla.secret_versions ALTER COLUMN envelope SET STORAGE EXTERNAL;

-- What is still known of a version whose ciphertext is gone.
CREATE TABLE bulla.destroyed_versions (
  tenant_id    text NOT NULL,
  secret_id    text NOT NULL,
  version      integer NOT NULL,
  kind         text NOT NULL,
  created_at   timestamptz NOT NULL,
  created_by   text NOT NULL,
  destroyed_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, secret_id, version),
  FOREIGN KEY (tenant_id, secret_id) REFERENCES bulla.secrets ON DELETE CASCADE
);

CREATE TABLE bulla.secret_metadata (
  tenant_id   text NOT NULL,
  secret_id   text NOT NULL,
  key_version integer NOT NULL,
  envelope    bytea NOT NULL,
  updated_at  timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, secret_id),
  FOREIGN KEY (tenant_id, secret_id) REFERENCES bulla.secrets ON DELETE CASCADE,
  FOREIGN KEY (tenant_id, key_version) REFERENCES bulla.data_key_material
);
CREATE INDEX secret_metadata_key ON bulla.secret_metadata (key_version, tenant_id);

-- The audit log. The head's row lock orders the log; lines and leaf hashes are written once. acl_revision counts the
-- acts that take access away, so that no grant read before one is recorded after it.
CREATE TABLE bulla.audit_heads (
  tenant_id    text PRIMARY KEY REFERENCES bulla.tenants,
  size         bigint NOT NULL,
  frontier     bytea NOT NULL,
  last_time    timestamptz NOT NULL,
  acl_revision bigint NOT NULL
) WITH (fillfactor = 50);

-- lines: the canonical lines first_seq … first_seq+count-1, each ended by a line feed.
CREATE TABLE bulla.audit_segments (
  tenant_id  text NOT NULL REFERENCES bulla.tenants,
  first_seq  bigint NOT NULL,
  count      integer NOT NULL CHECK (count > 0),
  first_time timestamptz NOT NULL,
  last_time  timestamptz NOT NULL,
  lines      bytea NOT NULL,
  PRIMARY KEY (tenant_id, first_seq)
);
CREATE INDEX audit_segments_time ON bulla.audit_segments (tenant_id, last_time);

-- hashes: the leaf hashes of the same lines, 32 bytes each. They outlive the lines.
CREATE TABLE bulla.audit_leaves (
  tenant_id text NOT NULL REFERENCES bulla.tenants,
  first_seq bigint NOT NULL,
  count     integer NOT NULL CHECK (count > 0),
  hashes    bytea NOT NULL CHECK (octet_length(hashes) = 32 * count),
  PRIMARY KEY (tenant_id, first_seq)
);
ALTER TABLE bulla.audit_leaves ALTER COLUMN hashes SET STORAGE EXTERNAL;

-- Row security and rights, the same for every table; the audit log is append-only for the role that serves.
DO $$
DECLARE name text;
BEGIN
  FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'bulla' AND tablename <> 'schema_versions' LOOP
    EXECUTE format('ALTER TABLE bulla.%I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format($p$CREATE POLICY tenants_of_the_transaction ON bulla.%I TO bulla_app
      USING (bulla.visible(tenant_id))$p$, name);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON bulla.%I TO bulla_app', name);
  END LOOP;
END $$;
REVOKE UPDATE, DELETE ON bulla.audit_segments, bulla.audit_leaves FROM bulla_app;
REVOKE DELETE ON bulla.audit_heads FROM bulla_app;
REVOKE UPDATE, DELETE ON bulla.deployments FROM bulla_app;
REVOKE DELETE ON bulla.tenants, bulla.root_keys, bulla.data_keys FROM bulla_app;

-- A transaction for the system tenant sees the directory of tenants, and only that, whole.
CREATE POLICY directory ON bulla.tenants FOR SELECT TO bulla_app
  USING (bulla.visible('system'));
