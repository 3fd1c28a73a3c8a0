-- Static accounts: accounts that are at a target already, whose password the vault changes. The envelope holds the password
-- that was proven by a login, and, while a change is under way, the one that is to follow: whatever stops in between, one
-- of them opens.

-- in_doubt: the envelope has a next password that the target may have been given. unproven: none of those in the envelope
-- logged in when they were last tried. wanted: it is to be rotated before anybody checks it out. rotated_for: the lease at
-- whose end it was rotated last, so that what is repeated after that does not rotate it again. due_at says when a sweeper
-- looks at it: by its schedule, or for another try; null while it is checked out, because the end of the lease rotates it.
-- claim names who is rotating it, until claim_until.
CREATE TABLE bulla.static_accounts (
  tenant_id           text NOT NULL REFERENCES bulla.tenants,
  account_id          text NOT NULL CHECK (account_id ~ '^[a-z2-7]{16}$'),
  backend_id          text NOT NULL,
  name                text NOT NULL COLLATE "C",
  username            text NOT NULL COLLATE "C" CHECK (octet_length(username) <= 512),
  key_version         integer NOT NULL,
  envelope            bytea NOT NULL,
  in_doubt            boolean NOT NULL,
  unproven            boolean NOT NULL DEFAULT false,
  wanted              boolean NOT NULL DEFAULT false,
  period_seconds      integer CHECK (period_seconds > 0),
  end_sessions        boolean NOT NULL,
  default_ttl_seconds integer CHECK (default_ttl_seconds > 0),
  max_ttl_seconds     integer CHECK (max_ttl_seconds > 0),
  rotated_at          timestamptz,
  rotated_for         text,
  next_rotation_at    timestamptz,
  due_at              timestamptz,
  claim               text,
  claim_until         timestamptz,
  attempts            integer NOT NULL DEFAULT 0,
  last_error          text,
  closing             boolean NOT NULL DEFAULT false,
  created_at          timestamptz NOT NULL,
  updated_at          timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, account_id),
  UNIQUE (tenant_id, name),
  -- Two that change the password of one account would each lose the other's.
  UNIQUE (tenant_id, backend_id, username),
  FOREIGN KEY (tenant_id, backend_id) REFERENCES bulla.backends,
  FOREIGN KEY (tenant_id, key_version) REFERENCES bulla.data_key_material
);
CREATE INDEX static_accounts_key ON bulla.static_accounts (key_version, tenant_id);
CREATE INDEX static_accounts_due ON bulla.static_accounts (due_at) WHERE due_at IS NOT NULL;

ALTER TABLE bulla.static_accounts ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenants_of_the_transaction ON bulla.static_accounts TO bulla_app USING (bulla.visible(tenant_id));
-- As of leases and backends: a node sees what is due in a transaction for the system tenant, and changes nothing there.
CREATE POLICY due ON bulla.static_accounts FOR SELECT TO bulla_app USING (bulla.visible('system'));
GRANT SELECT, INSERT, UPDATE, DELETE ON bulla.static_accounts TO bulla_app;

-- A check-out is a lease of the kind credential. One holder at a time: the index says so, whoever asks at once.
ALTER TABLE bulla.leases ADD COLUMN account_id text,
  ADD FOREIGN KEY (tenant_id, account_id) REFERENCES bulla.static_accounts;
CREATE UNIQUE INDEX leases_held_account ON bulla.leases (tenant_id, account_id)
  WHERE account_id IS NOT NULL AND state <> 'ended';
CREATE INDEX leases_account ON bulla.leases (tenant_id, account_id) WHERE account_id IS NOT NULL;
