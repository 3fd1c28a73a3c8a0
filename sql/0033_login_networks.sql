-- Old networks are found by their age, and by one statement only. The condition that only this statement states, and that
-- every network meets, keeps all others from this index: while there are no statistics, PostgreSQL would take it to
-- find a single network too, and read all that ever failed in the tenant. That time would tell a tenant that there is.
DROP INDEX bulla.login_counters_stale;
CREATE INDEX login_counters_stale ON bulla.login_counters (tenant_id, updated_at)
  WHERE kind = 'source' AND last_login_at IS NULL;
