-- Tokens that have ended and whose account never logs in again.

-- Those of leases end with their lease.
DROP INDEX bulla.tokens_expiry;
CREATE INDEX tokens_expiry ON bulla.tokens (expires_at) WHERE kind <> 'lease';

-- Where something is to be forgotten. Runs as the owner because tokens are their tenants' own; it tells tenants, and
-- nothing else.
CREATE FUNCTION bulla.tenants_with_ended_tokens(kept interval, most integer) RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = bulla, pg_temp AS $$
  SELECT DISTINCT tenant_id FROM (
    SELECT tenant_id FROM bulla.tokens WHERE kind <> 'lease' AND expires_at <= (SELECT bulla.now()) - kept
    ORDER BY expires_at LIMIT most) AS ended
$$;
