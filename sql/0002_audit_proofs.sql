-- What proves the audit log: checkpoints, tiles, and how far both have come. Runs as the owner in one transaction.
--
-- Tiles follow from the leaf hashes and can be made again; checkpoints cannot, and are kept for ever.

-- Signed notes (c2sp.org/tlog-checkpoint), one per size of a log at most. root repeats what the note says.
CREATE TABLE bulla.audit_checkpoints (
  tenant_id   text NOT NULL REFERENCES bulla.tenants,
  size        bigint NOT NULL CHECK (size > 0),
  root        bytea NOT NULL CHECK (octet_length(root) = 32),
  note        text NOT NULL,
  key_version integer NOT NULL,
  signed_at   timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, size)
);

-- Tiles of c2sp.org/tlog-tiles: up to 256 hashes of the tree's level 8·level. Those of level 0 are stored when they are
-- full; those above grow by whole subtrees until they are.
CREATE TABLE bulla.audit_tiles (
  tenant_id text NOT NULL REFERENCES bulla.tenants,
  level     integer NOT NULL CHECK (level BETWEEN 0 AND 6),
  tile      bigint NOT NULL CHECK (tile >= 0),
  hashes    bytea NOT NULL CHECK (octet_length(hashes) % 32 = 0 AND octet_length(hashes) <= 8192),
  PRIMARY KEY (tenant_id, level, tile)
);
ALTER TABLE bulla.audit_tiles ALTER COLUMN hashes SET STORAGE EXTERNAL;

-- One row a log; its lock orders those who store tiles and sign, and is taken before the head's.
--   tiled_size       leaves in stored tiles of level 0
--   key_announced    the newest log key that an entry of this log announces
CREATE TABLE bulla.audit_signing (
  tenant_id     text PRIMARY KEY REFERENCES bulla.tenants,
  tiled_size    bigint NOT NULL DEFAULT 0 CHECK (tiled_size % 256 = 0),
  signed_size   bigint NOT NULL DEFAULT 0,
  signed_at     timestamptz,
  key_announced integer NOT NULL DEFAULT 0
);

-- How far each place outside has been given the checkpoints of a log. cosigned: the last note with a witness's line.
CREATE TABLE bulla.audit_deliveries (
  tenant_id      text NOT NULL REFERENCES bulla.tenants,
  target         text NOT NULL,
  delivered_size bigint NOT NULL,
  cosigned       text,
  PRIMARY KEY (tenant_id, target)
);

DO $$
DECLARE name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['audit_checkpoints', 'audit_tiles', 'audit_signing', 'audit_deliveries'] LOOP
    EXECUTE format('ALTER TABLE bulla.%I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format($p$CREATE POLICY tenants_of_the_transaction ON bulla.%I TO bulla_app
      USING (bulla.visible(tenant_id))$p$, name);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE ON bulla.%I TO bulla_app', name);
  END LOOP;
END $$;
REVOKE UPDATE ON bulla.audit_checkpoints FROM bulla_app;
