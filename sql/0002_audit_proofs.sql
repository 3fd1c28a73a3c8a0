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

-- How long the lines of a log are kept; no row, or no days: for ever. removed_to: lines before it are gone.
CREATE TABLE bulla.audit_retention (
  tenant_id  text PRIMARY KEY REFERENCES bulla.tenants,
  days       integer CHECK (days > 0),
  removed_to bigint NOT NULL DEFAULT 0
);

-- The only way in which the role that serves removes lines: those that are older than the log's retention and that a
-- checkpoint covers, the oldest first, so that what is left has no gap. Leaf hashes stay.
CREATE FUNCTION bulla.remove_audit_lines(log text, segments_max integer) RETURNS TABLE (first bigint, until bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bulla, pg_temp AS $$
DECLARE
  kept_days integer;
  signed bigint;
BEGIN
  IF NOT log = ANY (string_to_array(current_setting('bulla.tenants', true), ',')) THEN
    RAISE EXCEPTION 'the transaction is not for this log';
  END IF;
  SELECT days INTO kept_days FROM audit_retention WHERE tenant_id = log FOR UPDATE;
  SELECT max(size) INTO signed FROM audit_checkpoints WHERE tenant_id = log;
  IF kept_days IS NULL OR signed IS NULL THEN RETURN; END IF;
  RETURN QUERY
    WITH gone AS (
      DELETE FROM audit_segments s USING (
        SELECT o.first_seq FROM audit_segments o
        WHERE o.tenant_id = log AND o.last_time < bulla.now() - make_interval(days => kept_days)
          AND o.first_seq + o.count <= signed
        ORDER BY o.first_seq LIMIT segments_max
      ) old
      WHERE s.tenant_id = log AND s.first_seq = old.first_seq
      RETURNING s.first_seq, s.first_seq + s.count AS past
    ), bounds AS (
      SELECT min(first_seq) AS first, max(past) AS until FROM gone HAVING count(*) > 0
    ), kept AS (
      UPDATE audit_retention r SET removed_to = greatest(r.removed_to, bounds.until) FROM bounds WHERE r.tenant_id = log
    )
    SELECT bounds.first, bounds.until FROM bounds;
END $$;
REVOKE ALL ON FUNCTION bulla.remove_audit_lines FROM PUBLIC;
GRANT EXECUTE ON FUNCTION bulla.remove_audit_lines TO bulla_app;

DO $$
DECLARE name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['audit_checkpoints', 'audit_tiles', 'audit_signing', 'audit_deliveries',
                                'audit_retention'] LOOP
    EXECUTE format('ALTER TABLE bulla.%I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format($p$CREATE POLICY tenants_of_the_transaction ON bulla.%I TO bulla_app
      USING (bulla.visible(tenant_id))$p$, name);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE ON bulla.%I TO bulla_app', name);
  END LOOP;
END $$;
REVOKE UPDATE ON bulla.audit_checkpoints FROM bulla_app;
