-- Rotators: what gives a stored secret a new version by itself.

-- The envelope holds how (kind, field, length, alphabet, account, webhooks with their secrets). account: the name of the
-- static account whose password the secret follows; followed_at is when the password was set that the secret has.
-- due_at says when it is looked at: by its schedule, or for another try; null: only when somebody asks. attempt names the
-- try under way, and is what a webhook knows it by however often it is asked. made_version: the last version that it made.
-- notice_version: the version that its webhook of notices is still to be told of.
CREATE TABLE bulla.rotators (
  tenant_id       text NOT NULL,
  secret_id       text NOT NULL,
  kind            text NOT NULL CHECK (kind IN ('password', 'diceware', 'account', 'webhook')),
  key_version     integer NOT NULL,
  envelope        bytea NOT NULL,
  account         text COLLATE "C" CHECK ((kind = 'account') = (account IS NOT NULL)),
  period_seconds  integer CHECK (period_seconds > 0),
  grace_seconds   integer NOT NULL CHECK (grace_seconds >= 0),
  rotated_at      timestamptz,
  followed_at     timestamptz,
  made_version    integer,
  due_at          timestamptz,
  attempt         text,
  claim           text,
  claim_until     timestamptz,
  attempts        integer NOT NULL DEFAULT 0,
  last_error      text,
  notice_version  integer,
  notice_due_at   timestamptz,
  notice_attempts integer NOT NULL DEFAULT 0,
  notice_error    text,
  created_at      timestamptz NOT NULL,
  updated_at      timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, secret_id),
  FOREIGN KEY (tenant_id, secret_id) REFERENCES bulla.secrets ON DELETE CASCADE,
  FOREIGN KEY (tenant_id, key_version) REFERENCES bulla.data_key_material
);
CREATE INDEX rotators_key ON bulla.rotators (key_version, tenant_id);
CREATE INDEX rotators_due ON bulla.rotators (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX rotators_notice ON bulla.rotators (notice_due_at) WHERE notice_version IS NOT NULL;
CREATE INDEX rotators_account ON bulla.rotators (tenant_id, account) WHERE account IS NOT NULL;

ALTER TABLE bulla.rotators ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenants_of_the_transaction ON bulla.rotators TO bulla_app USING (bulla.visible(tenant_id));
-- A node sees which are due in a transaction for the system tenant, and changes nothing there.
CREATE POLICY due ON bulla.rotators FOR SELECT TO bulla_app USING (bulla.visible('system'));
GRANT SELECT, INSERT, UPDATE, DELETE ON bulla.rotators TO bulla_app;
