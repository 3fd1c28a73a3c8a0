-- What a read rests on is not read again while nobody moves the head of the tenant's log (src/policy/known.ts). Each change
-- of the vault's own has its entry, which moves it. What is changed by hand, in a session that was opened for no tenant, has
-- none: so it moves acl_revision, in the same transaction.
CREATE FUNCTION bulla.moved_by_hand() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
  BEGIN
    UPDATE bulla.audit_heads SET acl_revision = acl_revision + 1
    WHERE tenant_id = ANY (CASE TG_OP WHEN 'INSERT' THEN ARRAY[NEW.tenant_id] WHEN 'DELETE' THEN ARRAY[OLD.tenant_id]
                           ELSE ARRAY[OLD.tenant_id, NEW.tenant_id] END)
      AND xmin <> pg_current_xact_id()::xid;
    RETURN NULL;
  END $$;

DO $$
  DECLARE name text;
  BEGIN
    FOREACH name IN ARRAY ARRAY['tenants', 'users', 'groups', 'group_members', 'policies', 'tokens',
                                'secrets', 'secret_versions', 'secret_metadata'] LOOP
      EXECUTE format($f$
        CREATE TRIGGER moved_by_hand AFTER INSERT OR UPDATE OR DELETE ON bulla.%I FOR EACH ROW
          WHEN (coalesce(current_setting('bulla.tenants', true), '') = '') EXECUTE FUNCTION bulla.moved_by_hand()$f$, name);
    END LOOP;
  END $$;
