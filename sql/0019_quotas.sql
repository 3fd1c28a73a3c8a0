-- How much of what a tenant may have, and how fast it may ask.

-- Of requests: NULL is any number. A new tenant's numbers are LIMITS of src/config.ts; those here are for tenants from before.
ALTER TABLE bulla.tenants
  ADD COLUMN quota_secrets               integer NOT NULL DEFAULT 100000 CHECK (quota_secrets >= 0),
  ADD COLUMN quota_users                 integer NOT NULL DEFAULT 10000 CHECK (quota_users >= 0),
  ADD COLUMN requests_per_second         integer CHECK (requests_per_second > 0),
  ADD COLUMN account_requests_per_second integer CHECK (account_requests_per_second > 0);

-- What there is, counted by the rows themselves: whatever makes a secret or an account, its commit counts it.
CREATE TABLE bulla.tenant_usage (
  tenant_id text NOT NULL REFERENCES bulla.tenants,
  kind      text NOT NULL CHECK (kind IN ('secrets', 'users')),
  used      bigint NOT NULL,
  PRIMARY KEY (tenant_id, kind)
);
INSERT INTO bulla.tenant_usage SELECT tenant_id, 'secrets', count(*) FROM bulla.secrets GROUP BY tenant_id;
INSERT INTO bulla.tenant_usage SELECT tenant_id, 'users', count(*) FROM bulla.users GROUP BY tenant_id;

-- Runs in COMMIT, behind the lock of the log's head, which orders a tenant's commits anyway: so a count is exact, waits
-- for nobody that would not be waited for, and is never locked in another order than the head. BQ001 is told as quota_exceeded.
CREATE FUNCTION bulla.count_usage() RETURNS trigger LANGUAGE plpgsql SET search_path = bulla, pg_temp AS $$
DECLARE
  allowed integer;
  counted bigint;
BEGIN
  IF TG_OP = 'DELETE' THEN
    UPDATE tenant_usage SET used = used - 1 WHERE tenant_id = OLD.tenant_id AND kind = TG_ARGV[0];
    RETURN NULL;
  END IF;
  INSERT INTO tenant_usage (tenant_id, kind, used) VALUES (NEW.tenant_id, TG_ARGV[0], 1)
    ON CONFLICT (tenant_id, kind) DO UPDATE SET used = tenant_usage.used + 1 RETURNING used INTO counted;
  SELECT CASE TG_ARGV[0] WHEN 'secrets' THEN quota_secrets ELSE quota_users END INTO allowed
    FROM tenants WHERE tenant_id = NEW.tenant_id;
  IF counted > allowed THEN
    RAISE EXCEPTION 'a quota is used up' USING ERRCODE = 'BQ001', CONSTRAINT = TG_ARGV[0];
  END IF;
  RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER count_usage AFTER INSERT OR DELETE ON bulla.secrets
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION bulla.count_usage('secrets');
CREATE CONSTRAINT TRIGGER count_usage AFTER INSERT OR DELETE ON bulla.users
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION bulla.count_usage('users');

ALTER TABLE bulla.tenant_usage ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenants_of_the_transaction ON bulla.tenant_usage TO bulla_app USING (bulla.visible(tenant_id));
GRANT SELECT, INSERT, UPDATE, DELETE ON bulla.tenant_usage TO bulla_app;
-- Operators see how much a tenant has, and nothing of it.
CREATE POLICY directory ON bulla.tenant_usage FOR SELECT TO bulla_app USING (bulla.visible('system'));
