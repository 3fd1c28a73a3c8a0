/**
 * Reads keep what they rest on for as long as nobody else moves the head of the tenant's log (src/policy/known.ts). So in
 * every database of the tests a commit is refused that changes any of it and leaves the head where it was.
 */
import type postgres from 'postgres';

/** What each table gives to a read, and what may go without anybody noticing. */
const TABLES: Readonly<Record<string, { events: string; columns: string; unnoticed?: string }>> = {
  tenants: { events: 'DELETE', columns: 'state, mfa_required, requests_per_second, account_requests_per_second' },
  users: { events: 'DELETE', columns: 'user_id, name, kind, disabled, must_change_password, mfa_required, policies' },
  groups: { events: 'DELETE', columns: 'name, policies' },
  group_members: { events: 'INSERT OR DELETE', columns: 'user_id, group_id' },
  policies: { events: 'INSERT OR DELETE', columns: 'name, policy_id, revision' },
  tokens: {
    events: 'DELETE',
    columns:
      'secret_hash, user_id, method, expires_at, kind, mfa, cidrs, certificate, without_default, policies, bounds, grants',
    unnoticed: 'OLD.expires_at <= bulla.now()',
  },
  secrets: { events: 'DELETE', columns: 'secret_id, path, current_version' },
  secret_versions: {
    events: 'DELETE',
    columns: 'version, kind, content_type, created_at, expires_at, deleted_at',
    unnoticed: 'OLD.deleted_at IS NOT NULL OR OLD.expires_at <= bulla.now()',
  },
  secret_metadata: { events: 'INSERT OR DELETE', columns: 'secret_id' },
};

export async function refuseUnmoved(owner: postgres.Sql): Promise<void> {
  await owner.unsafe(`
    CREATE FUNCTION bulla.refuse_unmoved() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = bulla AS $$
      DECLARE
        of_tenant text := CASE TG_OP WHEN 'DELETE' THEN OLD.tenant_id ELSE NEW.tenant_id END;
        unnoticed boolean := false;
      BEGIN
        IF TG_OP = 'DELETE' AND TG_NARGS > 0 THEN
          EXECUTE 'SELECT ' || replace(TG_ARGV[0], 'OLD.', '($1).') INTO unnoticed USING OLD;
        END IF;
        IF unnoticed OR NOT EXISTS (SELECT 1 FROM tenants WHERE tenant_id = of_tenant AND state IN ('active', 'suspended'))
          OR EXISTS (SELECT 1 FROM audit_heads WHERE tenant_id = of_tenant AND xmin = pg_current_xact_id()::xid) THEN
          RETURN NULL;
        END IF;
        RAISE EXCEPTION 'test: % of % changes what reads rest on, and the log of % does not move', TG_OP, TG_TABLE_NAME, of_tenant;
      END $$`);
  for (const [table, { events, columns, unnoticed }] of Object.entries(TABLES)) {
    await owner.unsafe(`
      CREATE CONSTRAINT TRIGGER refuse_unmoved AFTER ${events} OR UPDATE OF ${columns} ON bulla.${table}
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
        EXECUTE FUNCTION bulla.refuse_unmoved(${unnoticed === undefined ? '' : `$u$${unnoticed}$u$`})`);
  }
}
