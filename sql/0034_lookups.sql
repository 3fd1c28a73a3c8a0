-- What was found by walking through a tenant's rows, or through everybody's, and is found by key from here on.

-- In each of these what it is for leads, and the tenant follows: while there are no statistics, PostgreSQL takes an index that
-- the tenant leads to find a few rows by their ids, or those of one path, and reads all of the tenant.

-- Policies that are not in a node's memory are read by their ids.
CREATE INDEX policies_id ON bulla.policies (policy_id, tenant_id);

-- A user's approvals go with it, and the login roles of an issuer are asked for before it goes.
CREATE INDEX approvals_user ON bulla.approvals (user_id, tenant_id);
CREATE INDEX login_roles_issuer ON bulla.login_roles (issuer_id, tenant_id);

DROP INDEX bulla.tokens_user;
CREATE INDEX tokens_user ON bulla.tokens (user_id, tenant_id, expires_at);
DROP INDEX bulla.approvals_open;
CREATE INDEX approvals_open ON bulla.approvals (user_id, tenant_id, resource) WHERE state = 'open';
DROP INDEX bulla.leases_due, bulla.leases_path, bulla.leases_token, bulla.leases_handle, bulla.leases_user;
CREATE INDEX leases_due ON bulla.leases (backend_id, tenant_id, due_at) WHERE kind = 'credential' AND state <> 'ended';

-- Statements that count, list and revoke leases by these two indexes say so, and must leave none out.
ALTER TABLE bulla.leases ADD CHECK (path <> ''), ADD CHECK (user_id <> '');

-- An index of a part of the rows is empty in a new vault, and whoever then plans a look-up by another key takes it, for good,
-- where the statement says that it is of that part. So these are of all rows, or of what only their own statements say.
CREATE INDEX leases_path ON bulla.leases (tenant_id, path text_pattern_ops, lease_id) WHERE state <> 'ended' AND path <> '';
CREATE INDEX leases_token ON bulla.leases (token_id, tenant_id);
CREATE INDEX leases_handle ON bulla.leases (handle, tenant_id);
CREATE INDEX leases_user ON bulla.leases (user_id, tenant_id) WHERE state <> 'ended' AND user_id <> '';

-- A page of services is found among however many people: of this condition is no other statement.
CREATE INDEX users_services ON bulla.users (tenant_id, name) WHERE kind = 'service';

-- As in 0007_leases.sql, one token after the other: joined with those that have gone, the leases of all tenants were walked
-- through for each token that ended. `<> 'credential'`, and not `= 'access'`, which would be of the index of what is due.
CREATE OR REPLACE FUNCTION bulla.leases_follow_tokens() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = bulla, pg_temp AS $$
DECLARE
  ended record;
  found_any boolean := false;
BEGIN
  FOR ended IN SELECT tenant_id, token_id FROM gone LOOP
    UPDATE leases l SET reason = coalesce(l.reason, 'token'),
           state = CASE l.state WHEN 'active' THEN 'revoking' ELSE l.state END,
           due_at = CASE l.state WHEN 'active' THEN bulla.now() ELSE l.due_at END
    WHERE l.tenant_id = ended.tenant_id AND l.token_id = ended.token_id AND l.state IN ('pending', 'active');
    found_any := found_any OR FOUND;
    UPDATE leases l SET reason = coalesce(l.reason, 'token'), state = 'revoking', due_at = bulla.now()
    WHERE l.tenant_id = ended.tenant_id AND l.handle = ended.token_id AND l.kind <> 'credential' AND l.state IN ('pending', 'active');
    found_any := found_any OR FOUND;
  END LOOP;
  IF found_any THEN PERFORM pg_notify('bulla_leases', ''); END IF;
  RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION bulla.leases_follow_uses() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = bulla, pg_temp AS $$
BEGIN
  UPDATE leases SET reason = coalesce(reason, 'used'), state = 'revoking', due_at = bulla.now()
  WHERE tenant_id = NEW.tenant_id AND handle = NEW.token_id AND kind <> 'credential' AND state IN ('pending', 'active');
  IF FOUND THEN PERFORM pg_notify('bulla_leases', ''); END IF;
  RETURN NULL;
END $$;
