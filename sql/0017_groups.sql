-- Groups of accounts, and what policies were before.

-- What a member may do is its own policies and those of its groups.
CREATE TABLE bulla.groups (
  tenant_id  text NOT NULL REFERENCES bulla.tenants,
  group_id   text NOT NULL,
  name       text NOT NULL COLLATE "C",
  policies   text[] NOT NULL DEFAULT '{}',
  created_at timestamptz NOT NULL,
  updated_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, group_id),
  UNIQUE (tenant_id, name)
);

-- Keyed by the account first: every request asks which groups its account is in.
CREATE TABLE bulla.group_members (
  tenant_id text NOT NULL,
  user_id   text NOT NULL,
  group_id  text NOT NULL,
  added_at  timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, user_id, group_id),
  FOREIGN KEY (tenant_id, user_id) REFERENCES bulla.users ON DELETE CASCADE,
  FOREIGN KEY (tenant_id, group_id) REFERENCES bulla.groups ON DELETE CASCADE
);
CREATE INDEX group_members_group ON bulla.group_members (tenant_id, group_id, user_id);

-- The names of the policies whose holders approve what rules of this one ask approval for.
ALTER TABLE bulla.policies ADD COLUMN approvers text[] NOT NULL DEFAULT '{}';

-- Each change of a policy, numbered by its name: the same name may have been several policies. document is NULL where it
-- was deleted. changed_by is the id of the account, or NULL for the vault; the name is as it was then.
CREATE TABLE bulla.policy_changes (
  tenant_id       text NOT NULL REFERENCES bulla.tenants,
  name            text NOT NULL COLLATE "C",
  number          integer NOT NULL CHECK (number > 0),
  policy_id       text NOT NULL,
  revision        integer NOT NULL,
  document        text,
  changed_by      text,
  changed_by_name text,
  changed_at      timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, name, number)
);

DO $$
DECLARE name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['groups', 'group_members', 'policy_changes'] LOOP
    EXECUTE format('ALTER TABLE bulla.%I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format($p$CREATE POLICY tenants_of_the_transaction ON bulla.%I TO bulla_app
      USING (bulla.visible(tenant_id))$p$, name);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON bulla.%I TO bulla_app', name);
  END LOOP;
END $$;
REVOKE UPDATE ON bulla.policy_changes FROM bulla_app;
