-- How people come in: what is known of their passwords beside the hash, and the counters that slow guesses down.

-- short_password: fewer characters than one that stands alone needs; it holds while there is a second factor.
-- password_expires_at: of a one-time password that nobody has used in time.
ALTER TABLE bulla.users
  ADD COLUMN short_password boolean NOT NULL DEFAULT false,
  ADD COLUMN password_expires_at timestamptz,
  DROP COLUMN failed_logins,
  DROP COLUMN locked_until;

-- Failed attempts, one row for everything that is counted apart:
--   password, code   subject is a user's id, or `unknown-<n>`, one of a fixed number that names which are nobody's share.
--                    source is empty for all sources together, and a network from which the user has logged in before.
--   source           subject is empty: one network's failures, whoever it tried to be.
-- failures is of attempts in a row: a login or an unlock sets it to 0. No foreign key to users, because the same
-- statements count for names that are nobody's.
CREATE TABLE bulla.login_counters (
  tenant_id     text NOT NULL REFERENCES bulla.tenants,
  subject       text NOT NULL,
  kind          text NOT NULL CHECK (kind IN ('password', 'code', 'source')),
  source        text NOT NULL,
  failures      integer NOT NULL DEFAULT 0 CHECK (failures >= 0),
  locked_until  timestamptz,
  last_login_at timestamptz,
  updated_at    timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, subject, kind, source),
  CHECK ((kind = 'source') = (subject = ''))
);
CREATE INDEX login_counters_stale ON bulla.login_counters (tenant_id, updated_at) WHERE kind = 'source';

ALTER TABLE bulla.login_counters ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenants_of_the_transaction ON bulla.login_counters TO bulla_app
  USING (bulla.visible(tenant_id));
GRANT SELECT, INSERT, UPDATE, DELETE ON bulla.login_counters TO bulla_app;
