/**
 * Reads keep what they rest on for as long as `changes` of the tenant's log head stands (src/policy/known.ts), and a change
 * is counted there by the append that records it (sql/0032_changes.sql). So in every database of the tests a commit is
 * refused that changes any of it and does not count it in the log of its tenant.
 */
import type postgres from 'postgres';

export async function refuseUnmoved(owner: postgres.Sql): Promise<void> {
  await owner.unsafe(`
    CREATE FUNCTION bulla.refuse_unmoved() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = bulla AS $$
      BEGIN
        -- What nobody can notice: rows that had expired, and tenants that are being deleted.
        IF TG_OP = 'DELETE' AND TG_TABLE_NAME = 'tokens' THEN
          IF OLD.expires_at <= bulla.now() THEN RETURN NULL; END IF;
        END IF;
        IF TG_OP = 'DELETE' AND TG_TABLE_NAME = 'secret_versions' THEN
          IF OLD.deleted_at IS NOT NULL OR OLD.expires_at <= bulla.now() THEN RETURN NULL; END IF;
        END IF;
        IF TG_TABLE_NAME = 'tenants' THEN
          IF OLD.state NOT IN ('active', 'suspended') THEN RETURN NULL; END IF;
        ELSIF NOT EXISTS (SELECT 1 FROM tenants WHERE tenant_id = coalesce(NEW.tenant_id, OLD.tenant_id) AND state IN ('active', 'suspended')) THEN
          RETURN NULL;
        END IF;
        IF coalesce(NEW.tenant_id, OLD.tenant_id) = ANY (string_to_array(current_setting('bulla.counted_here', true), ',')) THEN
          RETURN NULL;
        END IF;
        RAISE EXCEPTION 'test: % of % changes what reads rest on, and the log of % does not count it',
          TG_OP, TG_TABLE_NAME, coalesce(NEW.tenant_id, OLD.tenant_id);
      END $$;
    CREATE FUNCTION bulla.say_counted() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN
        PERFORM set_config('bulla.counted_here', concat_ws(',', current_setting('bulla.counted_here', true), NEW.tenant_id), true);
        RETURN NULL;
      END $$;
    CREATE TRIGGER say_counted AFTER UPDATE ON bulla.audit_heads FOR EACH ROW WHEN (NEW.changes > OLD.changes)
      EXECUTE FUNCTION bulla.say_counted()`);
  const noted = await owner<{ table: string; made: string }[]>`
    SELECT tgrelid::regclass::text AS table, pg_get_triggerdef(oid) AS made FROM pg_trigger WHERE tgname = 'note_change'`;
  if (noted.length === 0) throw new Error('sql/0032_changes.sql notes changes by triggers of this name');
  for (const { table, made } of noted) {
    const events = /AFTER (.*) ON /.exec(made)![1]!;
    await owner.unsafe(`
      CREATE CONSTRAINT TRIGGER refuse_unmoved AFTER ${events} ON ${table} DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
        EXECUTE FUNCTION bulla.refuse_unmoved()`);
  }
}
