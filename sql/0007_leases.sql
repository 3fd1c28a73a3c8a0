-- Leases: credentials and accesses that end by themselves. A row is there before what it names exists outside, and is
-- ended only when that is gone.

-- Where dynamic credentials come from. The envelope holds the whole configuration, with the administrator's password.
-- revision changes with it, and is what connections are kept by. A closing backend gives no new lease.
CREATE TABLE bulla.backends (
  tenant_id           text NOT NULL REFERENCES bulla.tenants,
  backend_id          text NOT NULL CHECK (backend_id ~ '^[a-z2-7]{16}$'),
  name                text NOT NULL COLLATE "C",
  kind                text NOT NULL,
  revision            integer NOT NULL CHECK (revision > 0),
  key_version         integer NOT NULL,
  envelope            bytea NOT NULL,
  default_ttl_seconds integer CHECK (default_ttl_seconds > 0),
  max_ttl_seconds     integer CHECK (max_ttl_seconds > 0),
  closing             boolean NOT NULL DEFAULT false,
  created_at          timestamptz NOT NULL,
  updated_at          timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, backend_id),
  UNIQUE (tenant_id, name),
  FOREIGN KEY (tenant_id, key_version) REFERENCES bulla.data_key_material
);
CREATE INDEX backends_key ON bulla.backends (key_version, tenant_id);

-- What a backend issues under a name. settings is JSON as text, as the backend's kind understands it; no secret is in it.
CREATE TABLE bulla.roles (
  tenant_id           text NOT NULL,
  role_id             text NOT NULL CHECK (role_id ~ '^[a-z2-7]{16}$'),
  backend_id          text NOT NULL,
  name                text NOT NULL COLLATE "C",
  settings            text NOT NULL,
  default_ttl_seconds integer CHECK (default_ttl_seconds > 0),
  max_ttl_seconds     integer CHECK (max_ttl_seconds > 0),
  leases_max          integer CHECK (leases_max > 0),
  closing             boolean NOT NULL DEFAULT false,
  created_at          timestamptz NOT NULL,
  updated_at          timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, role_id),
  UNIQUE (tenant_id, name),
  FOREIGN KEY (tenant_id, backend_id) REFERENCES bulla.backends
);
CREATE INDEX roles_backend ON bulla.roles (tenant_id, backend_id);

-- kind credential: handle names the outside credential, and is known before it is made. kind access: handle is the id of
-- the token that reads one secret; backend and role are absent.
--
--     pending ─▶ active ─▶ revoking ─▶ ended      checking: revoked, but what was asked for may still arrive
--        └───────────────────┴─▶ checking ─▶ ended
--
-- due_at says when a sweeper next looks at it: the earlier of its own expiry and that of the token it hangs under, the
-- next try of a revocation, and when an ended row is removed. token_id refers to no row on purpose: a lease outlives the
-- token that took it until it is revoked (see leases_follow_tokens). claim names the sweeper that is at work on it.
-- reason says why it ends or ended: expired, revoked, used, token, role, backend, tenant, failed, forced.
CREATE TABLE bulla.leases (
  tenant_id       text NOT NULL REFERENCES bulla.tenants,
  lease_id        text NOT NULL CHECK (lease_id ~ '^[a-z2-7]{16}$'),
  kind            text NOT NULL CHECK (kind IN ('credential', 'access')),
  path            text NOT NULL COLLATE "C",
  backend_id      text,
  role_id         text,
  handle          text NOT NULL CHECK (octet_length(handle) <= 512),
  user_id         text NOT NULL,
  holder          text NOT NULL COLLATE "C",
  token_id        text NOT NULL,
  state           text NOT NULL CHECK (state IN ('pending', 'active', 'revoking', 'checking', 'ended')),
  reason          text,
  ttl_seconds     integer NOT NULL CHECK (ttl_seconds > 0),
  issued_at       timestamptz NOT NULL,
  expires_at      timestamptz NOT NULL,
  max_expires_at  timestamptz NOT NULL,
  renewable       boolean NOT NULL,
  renewals        integer NOT NULL DEFAULT 0,
  renewed_at      timestamptz,
  ended_at        timestamptz,
  due_at          timestamptz NOT NULL,
  claim           text,
  -- Failed tries of its revocation.
  attempts        integer NOT NULL DEFAULT 0,
  -- Nobody knows whether the outside act will still take effect: revoked, it is revoked again an hour later.
  recheck         boolean NOT NULL DEFAULT false,
  last_error      text,
  -- SHA-256 of an Idempotency-Key, and of the request that came with it.
  idempotency_key bytea CHECK (octet_length(idempotency_key) = 32),
  request_hash    bytea CHECK (octet_length(request_hash) = 32),
  PRIMARY KEY (tenant_id, lease_id),
  FOREIGN KEY (tenant_id, backend_id) REFERENCES bulla.backends,
  FOREIGN KEY (tenant_id, role_id) REFERENCES bulla.roles,
  CHECK ((kind = 'access') = (role_id IS NULL AND backend_id IS NULL) OR state = 'ended'),
  CHECK ((state = 'ended') = (ended_at IS NOT NULL)),
  CHECK (expires_at <= max_expires_at)
);
CREATE INDEX leases_listed ON bulla.leases (tenant_id, issued_at, lease_id);
CREATE INDEX leases_path ON bulla.leases (tenant_id, path text_pattern_ops, lease_id) WHERE state <> 'ended';
CREATE INDEX leases_due ON bulla.leases (tenant_id, backend_id, due_at) WHERE kind = 'credential' AND state <> 'ended';
CREATE INDEX leases_due_access ON bulla.leases (due_at) WHERE kind = 'access' AND state <> 'ended';
CREATE INDEX leases_removable ON bulla.leases (due_at) WHERE state = 'ended';
CREATE INDEX leases_stuck ON bulla.leases (tenant_id, issued_at, lease_id) WHERE attempts >= 3 AND state <> 'ended';
CREATE INDEX leases_token ON bulla.leases (tenant_id, token_id) WHERE state IN ('pending', 'active');
CREATE INDEX leases_handle ON bulla.leases (tenant_id, handle) WHERE kind = 'access' AND state IN ('pending', 'active');
CREATE INDEX leases_user ON bulla.leases (tenant_id, user_id) WHERE state <> 'ended';
CREATE INDEX leases_role ON bulla.leases (tenant_id, role_id);
CREATE INDEX leases_backend ON bulla.leases (tenant_id, backend_id);
CREATE UNIQUE INDEX leases_idempotency ON bulla.leases (tenant_id, user_id, idempotency_key);

-- The credential, from before it exists until the lease has ended: a retry gets the same one.
CREATE TABLE bulla.lease_credentials (
  tenant_id   text NOT NULL,
  lease_id    text NOT NULL,
  key_version integer NOT NULL,
  envelope    bytea NOT NULL,
  PRIMARY KEY (tenant_id, lease_id),
  FOREIGN KEY (tenant_id, lease_id) REFERENCES bulla.leases ON DELETE CASCADE,
  FOREIGN KEY (tenant_id, key_version) REFERENCES bulla.data_key_material
);
CREATE INDEX lease_credentials_key ON bulla.lease_credentials (key_version, tenant_id);
ALTER TABLE bulla.lease_credentials ALTER COLUMN envelope SET STORAGE EXTERNAL;

-- The time up to which a sweeper has looked, and the latch: after a jump of the clock nothing expires until an operator
-- has confirmed the time.
CREATE TABLE bulla.lease_clocks (
  tenant_id    text PRIMARY KEY DEFAULT 'system' CHECK (tenant_id = 'system'),
  seen_at      timestamptz NOT NULL,
  latched_at   timestamptz,
  jump_seconds bigint
);

-- A token that ends takes its leases with it, in the same commit, however it ended: by its accessor, with its user, with
-- its parent. What is being issued is only marked, because the outside act may still be under way; whoever issues it
-- finds the mark. A token that is shortened makes its leases due earlier; one that is prolonged is found out when they
-- are due.
CREATE FUNCTION bulla.leases_follow_tokens() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = bulla, pg_temp AS $$
DECLARE
  found_any boolean := false;
BEGIN
  UPDATE leases l SET reason = coalesce(l.reason, 'token'),
         state = CASE l.state WHEN 'active' THEN 'revoking' ELSE l.state END,
         due_at = CASE l.state WHEN 'active' THEN bulla.now() ELSE l.due_at END
  FROM gone WHERE l.tenant_id = gone.tenant_id AND l.token_id = gone.token_id AND l.state IN ('pending', 'active');
  found_any := FOUND;
  UPDATE leases l SET reason = coalesce(l.reason, 'token'), state = 'revoking', due_at = bulla.now()
  FROM gone WHERE l.tenant_id = gone.tenant_id AND l.handle = gone.token_id AND l.kind = 'access' AND l.state IN ('pending', 'active');
  IF found_any OR FOUND THEN PERFORM pg_notify('bulla_leases', ''); END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER leases_follow_tokens AFTER DELETE ON bulla.tokens REFERENCING OLD TABLE AS gone
  FOR EACH STATEMENT EXECUTE FUNCTION bulla.leases_follow_tokens();

CREATE FUNCTION bulla.leases_follow_shortened_tokens() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = bulla, pg_temp AS $$
BEGIN
  UPDATE leases SET due_at = least(due_at, NEW.expires_at)
  WHERE tenant_id = NEW.tenant_id AND token_id = NEW.token_id AND state = 'active';
  IF FOUND THEN PERFORM pg_notify('bulla_leases', ''); END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER leases_follow_shortened_tokens AFTER UPDATE OF expires_at ON bulla.tokens
  FOR EACH ROW WHEN (NEW.expires_at < OLD.expires_at) EXECUTE FUNCTION bulla.leases_follow_shortened_tokens();

-- The last use of a token that reads one secret ends its lease.
CREATE FUNCTION bulla.leases_follow_uses() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = bulla, pg_temp AS $$
BEGIN
  UPDATE leases SET reason = coalesce(reason, 'used'), state = 'revoking', due_at = bulla.now()
  WHERE tenant_id = NEW.tenant_id AND handle = NEW.token_id AND kind = 'access' AND state IN ('pending', 'active');
  IF FOUND THEN PERFORM pg_notify('bulla_leases', ''); END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER leases_follow_uses AFTER UPDATE OF uses_left ON bulla.tokens
  FOR EACH ROW WHEN (OLD.uses_left > 0 AND NEW.uses_left = 0) EXECUTE FUNCTION bulla.leases_follow_uses();

DO $$
DECLARE name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['backends', 'roles', 'leases', 'lease_credentials', 'lease_clocks'] LOOP
    EXECUTE format('ALTER TABLE bulla.%I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format($p$CREATE POLICY tenants_of_the_transaction ON bulla.%I TO bulla_app
      USING (bulla.visible(tenant_id))$p$, name);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON bulla.%I TO bulla_app', name);
  END LOOP;
END $$;
REVOKE DELETE ON bulla.lease_clocks FROM bulla_app;

-- Every node looks for what is due in a transaction for the system tenant: it sees which leases there are and changes
-- nothing of another tenant there. What is done to one is done in a transaction for its own tenant.
CREATE POLICY due ON bulla.leases FOR SELECT TO bulla_app
  USING (bulla.visible('system'));
CREATE POLICY due ON bulla.backends FOR SELECT TO bulla_app
  USING (bulla.visible('system'));
