-- Mounts: paths under which a part of the tree of secrets is served to clients that know secrets by mounts, and the
-- settings that hold for every secret of that part.

-- A mount at `prefix` covers the secrets under it; '' is the whole tree. Two mounts never begin at the same place, so
-- the settings that hold for a secret are those of the innermost mount. settings are NULL where nothing is set.
CREATE TABLE bulla.mounts (
  tenant_id            text NOT NULL REFERENCES bulla.tenants,
  path                 text NOT NULL COLLATE "C",
  mount_id             text NOT NULL CHECK (mount_id ~ '^[a-z2-7]{16}$'),
  prefix               text NOT NULL COLLATE "C",
  -- 1: one value a secret; 2: versions.
  version              integer NOT NULL CHECK (version IN (1, 2)),
  description          text NOT NULL DEFAULT '',
  versions_kept        integer CHECK (versions_kept > 0),
  cas_required         boolean NOT NULL DEFAULT false,
  delete_after_seconds integer CHECK (delete_after_seconds > 0),
  created_at           timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, path),
  UNIQUE (tenant_id, prefix)
);

-- Of a secret: whether a write must say which version it replaces, and how long after its writing a version can be read.
ALTER TABLE bulla.secrets ADD COLUMN cas_required boolean NOT NULL DEFAULT false;
ALTER TABLE bulla.secrets ADD COLUMN delete_after_seconds integer CHECK (delete_after_seconds > 0);

ALTER TABLE bulla.mounts ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenants_of_the_transaction ON bulla.mounts TO bulla_app USING (bulla.visible(tenant_id));
GRANT SELECT, INSERT, UPDATE, DELETE ON bulla.mounts TO bulla_app;
