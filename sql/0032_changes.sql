-- What a read rests on is not read again while nothing of the tenant changes (src/policy/known.ts). `changes` counts the
-- transactions that changed any of it: who does sets a flag of the transaction, and the append that records the
-- act, which every act of the vault's ends with, counts it. So it moves with the change, in one commit, or not at all.
ALTER TABLE bulla.audit_heads ADD COLUMN changes bigint NOT NULL DEFAULT 0;

-- Whether this transaction has.
CREATE FUNCTION bulla.has_changed() RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS
  $$ SELECT coalesce(current_setting('bulla.changed', true), '') = 'on' $$;

CREATE FUNCTION bulla.note_change() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN PERFORM pg_catalog.set_config('bulla.changed', 'on', true); RETURN NULL; END $$;

-- Whether this session is not the vault's, or was opened for no tenant.
CREATE FUNCTION bulla.is_by_hand() RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS
  $$ SELECT coalesce(current_setting('bulla.tenants', true), '') = '' OR current_setting('application_name') <> 'bulla' $$;

-- What is changed by hand ends with no append: it is counted when it commits, so that the head is locked last and shortly.
CREATE FUNCTION bulla.count_change_by_hand() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
  DECLARE
    counted text := coalesce(current_setting('bulla.counted', true), '');
    id text;
  BEGIN
    FOREACH id IN ARRAY CASE TG_OP WHEN 'INSERT' THEN ARRAY[NEW.tenant_id] WHEN 'DELETE' THEN ARRAY[OLD.tenant_id]
                        ELSE ARRAY[OLD.tenant_id, NEW.tenant_id] END LOOP
      CONTINUE WHEN strpos(counted, ',' || id || ',') > 0;
      UPDATE bulla.audit_heads SET changes = changes + 1, acl_revision = acl_revision + 1 WHERE tenant_id = id;
      counted := counted || ',' || id || ',';
      PERFORM set_config('bulla.counted', counted, true);
    END LOOP;
    RETURN NULL;
  END $$;

-- Rows that are all taken away at once have no triggers of their own.
CREATE FUNCTION bulla.count_emptied() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
  BEGIN
    UPDATE bulla.audit_heads SET changes = changes + 1, acl_revision = acl_revision + 1;
    RETURN NULL;
  END $$;

-- What is not there is never known, so new tenants, users, tokens, secrets and versions change nothing. A version that
-- becomes the current one changes its secret; a ciphertext that is written anew under another key says the same.
DO $$
  DECLARE
    name text;
    events text;
  BEGIN
    FOR name, events IN VALUES
      ('tenants', 'DELETE OR UPDATE OF state, mfa_required, requests_per_second, account_requests_per_second'),
      ('users', 'DELETE OR UPDATE OF user_id, name, kind, disabled, must_change_password, mfa_required, policies'),
      ('groups', 'DELETE OR UPDATE OF name, policies'),
      ('group_members', 'INSERT OR DELETE OR UPDATE'),
      ('policies', 'INSERT OR DELETE OR UPDATE OF name, policy_id, revision'),
      ('tokens', 'DELETE OR UPDATE OF secret_hash, user_id, method, expires_at, kind, mfa, uses_left, cidrs, certificate, '
                 'without_default, policies, bounds, grants'),
      ('secrets', 'DELETE OR UPDATE OF secret_id, path, current_version'),
      ('secret_versions', 'DELETE OR UPDATE OF version, kind, content_type, created_at, expires_at, deleted_at'),
      ('secret_metadata', 'INSERT OR DELETE OR UPDATE OF secret_id, updated_at') LOOP
      EXECUTE format('CREATE TRIGGER note_change AFTER %s ON bulla.%I FOR EACH ROW WHEN (NOT bulla.has_changed()) '
                     'EXECUTE FUNCTION bulla.note_change()', events, name);
      EXECUTE format('CREATE CONSTRAINT TRIGGER count_change_by_hand AFTER INSERT OR DELETE OR UPDATE ON bulla.%I '
                     'DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (bulla.is_by_hand()) '
                     'EXECUTE FUNCTION bulla.count_change_by_hand()', name);
      EXECUTE format('CREATE TRIGGER count_emptied AFTER TRUNCATE ON bulla.%I FOR EACH STATEMENT '
                     'EXECUTE FUNCTION bulla.count_emptied()', name);
    END LOOP;
  END $$;
