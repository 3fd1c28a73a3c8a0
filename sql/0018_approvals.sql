-- The two-person rule: who asked to do what, and who has said yes or no.

-- subject says what of the resource: a version, `1,2`, `all`, or nothing more. requirements is JSON text: what the rules
-- asked for when it was asked; what counts is what they ask for at the act. An act takes the row with it, once.
CREATE TABLE bulla.approvals (
  tenant_id    text NOT NULL REFERENCES bulla.tenants,
  approval_id  text NOT NULL CHECK (approval_id ~ '^[a-z2-7]{16}$'),
  user_id      text NOT NULL,
  action       text NOT NULL,
  resource     text NOT NULL,
  subject      text NOT NULL,
  reason       text NOT NULL,
  requirements text NOT NULL,
  approvers    text[] NOT NULL,
  state        text NOT NULL CHECK (state IN ('open', 'used', 'denied', 'cancelled')),
  created_at   timestamptz NOT NULL,
  expires_at   timestamptz NOT NULL,
  ended_at     timestamptz,
  PRIMARY KEY (tenant_id, approval_id),
  FOREIGN KEY (tenant_id, user_id) REFERENCES bulla.users ON DELETE CASCADE,
  CHECK ((state = 'open') = (ended_at IS NULL))
);
CREATE INDEX approvals_open ON bulla.approvals (tenant_id, user_id, resource) WHERE state = 'open';
CREATE INDEX approvals_listed ON bulla.approvals (tenant_id, created_at, approval_id);

CREATE TABLE bulla.approval_votes (
  tenant_id   text NOT NULL,
  approval_id text NOT NULL,
  user_id     text NOT NULL,
  approves    boolean NOT NULL,
  voted_at    timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, approval_id, user_id),
  FOREIGN KEY (tenant_id, approval_id) REFERENCES bulla.approvals ON DELETE CASCADE,
  FOREIGN KEY (tenant_id, user_id) REFERENCES bulla.users ON DELETE CASCADE
);
CREATE INDEX approval_votes_user ON bulla.approval_votes (tenant_id, user_id);

DO $$
DECLARE name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['approvals', 'approval_votes'] LOOP
    EXECUTE format('ALTER TABLE bulla.%I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format($p$CREATE POLICY tenants_of_the_transaction ON bulla.%I TO bulla_app
      USING (bulla.visible(tenant_id))$p$, name);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON bulla.%I TO bulla_app', name);
  END LOOP;
END $$;
REVOKE UPDATE ON bulla.approval_votes FROM bulla_app;
