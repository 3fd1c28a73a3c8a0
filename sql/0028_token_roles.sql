-- Token roles: templates that tokens are made by. And of tokens: an end that no renewal passes, and leaving out `default`.

-- What a role says narrows what whoever makes a token by it has, and never widens that. allowed_patterns and
-- disallowed_patterns: names of policies with * for any run of characters. suffix: the end of the path that a token by it
-- shows.
CREATE TABLE bulla.token_roles (
  tenant_id                text NOT NULL REFERENCES bulla.tenants,
  name                     text NOT NULL COLLATE "C",
  allowed_policies         text[] NOT NULL,
  allowed_patterns         text[] NOT NULL,
  disallowed_policies      text[] NOT NULL,
  disallowed_patterns      text[] NOT NULL,
  orphan                   boolean NOT NULL,
  renewable                boolean NOT NULL,
  without_default          boolean NOT NULL,
  suffix                   text,
  explicit_max_ttl_seconds integer CHECK (explicit_max_ttl_seconds > 0),
  period_seconds           integer CHECK (period_seconds > 0),
  uses                     integer CHECK (uses > 0),
  cidrs                    text[] CHECK (cardinality(cidrs) > 0),
  revision                 integer NOT NULL CHECK (revision > 0),
  created_at               timestamptz NOT NULL,
  updated_at               timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, name)
);

-- explicit_max_ttl_seconds: what was asked for, to be shown; max_expires_at is what holds. without_default: it has not even
-- what every token may. role and role_suffix: the role that it was made by; without that role it is not renewed.
ALTER TABLE bulla.tokens
  ADD COLUMN explicit_max_ttl_seconds integer CHECK (explicit_max_ttl_seconds > 0),
  ADD COLUMN without_default          boolean NOT NULL DEFAULT false,
  ADD COLUMN role                     text COLLATE "C",
  ADD COLUMN role_suffix              text;

ALTER TABLE bulla.token_roles ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenants_of_the_transaction ON bulla.token_roles TO bulla_app USING (bulla.visible(tenant_id));
GRANT SELECT, INSERT, UPDATE, DELETE ON bulla.token_roles TO bulla_app;
