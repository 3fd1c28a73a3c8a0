-- Long work (jobs), and the time by which keys age.

-- params, cursor and report are JSON as text: the vault reads them, the database does not. claim names who works on a
-- running job; a claim whose heartbeat is too old may be taken over, and its holder's next write finds itself refused.
-- A job of the deployment itself belongs to 'system'; subject says what it is about (a key version, a tenant's id).
CREATE TABLE bulla.jobs (
  tenant_id    text NOT NULL REFERENCES bulla.tenants,
  job_id       text NOT NULL CHECK (job_id ~ '^[a-z2-7]{16}$'),
  kind         text NOT NULL CHECK (kind IN ('reencrypt', 'tenant-delete', 'root-key-rotate')),
  subject      text NOT NULL,
  state        text NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
  total        bigint NOT NULL DEFAULT 0 CHECK (total >= 0),
  done         bigint NOT NULL DEFAULT 0 CHECK (done >= 0 AND done <= total),
  -- What was done when the present claim began: the rate is of this claim.
  done_before  bigint NOT NULL DEFAULT 0,
  attempts     integer NOT NULL DEFAULT 0,
  claim        text,
  cursor       text,
  report       text,
  error        text,
  started_by   text NOT NULL,
  created_at   timestamptz NOT NULL,
  not_before   timestamptz NOT NULL,
  claimed_at   timestamptz,
  heartbeat_at timestamptz,
  updated_at   timestamptz NOT NULL,
  finished_at  timestamptz,
  PRIMARY KEY (tenant_id, job_id),
  CHECK ((state = 'running') = (claim IS NOT NULL))
);
CREATE INDEX jobs_listed ON bulla.jobs (tenant_id, created_at, job_id);
CREATE INDEX jobs_open ON bulla.jobs (not_before) WHERE state IN ('queued', 'running');
-- One of a kind about one thing: two requests make one job, and two nodes never do the same work.
CREATE UNIQUE INDEX jobs_one_reencrypt ON bulla.jobs (tenant_id) WHERE kind = 'reencrypt' AND state IN ('queued', 'running');
CREATE UNIQUE INDEX jobs_one_tenant_delete ON bulla.jobs (subject) WHERE kind = 'tenant-delete' AND state IN ('queued', 'running');

-- The latest time that any node has seen, advanced by the nodes' own monotonic clocks while PostgreSQL's clock is
-- behind it. Keys age by it, so that a clock moved back does not lengthen a cryptoperiod.
CREATE TABLE bulla.clock_marks (
  tenant_id  text PRIMARY KEY DEFAULT 'system' CHECK (tenant_id = 'system'),
  high_water timestamptz NOT NULL
);

-- Runs as the owner because the mark belongs to 'system' while keys belong to tenants; it tells a time and nothing else.
CREATE FUNCTION bulla.steady_now() RETURNS timestamptz LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = bulla, pg_temp AS
  $$ SELECT greatest(bulla.now(), (SELECT high_water FROM bulla.clock_marks)) $$;

-- When the age of a key began to count.
ALTER TABLE bulla.data_keys ADD COLUMN counted_from timestamptz NOT NULL DEFAULT bulla.steady_now();
ALTER TABLE bulla.root_keys ADD COLUMN counted_from timestamptz NOT NULL DEFAULT bulla.steady_now();
ALTER TABLE bulla.system_keys ADD COLUMN counted_from timestamptz NOT NULL DEFAULT bulla.steady_now();
CREATE INDEX data_keys_age ON bulla.data_keys (counted_from) WHERE state = 'active';

DO $$
DECLARE name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['jobs', 'clock_marks'] LOOP
    EXECUTE format('ALTER TABLE bulla.%I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format($p$CREATE POLICY tenants_of_the_transaction ON bulla.%I TO bulla_app
      USING (bulla.visible(tenant_id))$p$, name);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON bulla.%I TO bulla_app', name);
  END LOOP;
END $$;
REVOKE DELETE ON bulla.clock_marks FROM bulla_app;

-- Every node looks for work, and for keys that are due, in a transaction for the system tenant: it may see which there
-- are, and changes nothing of another tenant there. What a job does runs in a transaction for its own tenant.
CREATE POLICY work ON bulla.jobs FOR SELECT TO bulla_app
  USING (bulla.visible('system'));
CREATE POLICY ages ON bulla.data_keys FOR SELECT TO bulla_app
  USING (bulla.visible('system'));
