-- What tokens of logins are bounded by, the same for every way of logging in; and what of a signed token a login role uses.

-- token_*: of the tokens of its logins; NULL: as configured, or not bounded so. token_explicit_max_ttl_seconds is an end that
-- no renewal passes, of periodic tokens neither. token_without_default: they have not even what every token may.
ALTER TABLE bulla.services
  ADD COLUMN token_explicit_max_ttl_seconds integer CHECK (token_explicit_max_ttl_seconds > 0),
  ADD COLUMN token_without_default          boolean NOT NULL DEFAULT false;

ALTER TABLE bulla.users
  ADD COLUMN token_ttl_seconds              integer CHECK (token_ttl_seconds > 0),
  ADD COLUMN token_max_ttl_seconds          integer CHECK (token_max_ttl_seconds > 0),
  ADD COLUMN token_explicit_max_ttl_seconds integer CHECK (token_explicit_max_ttl_seconds > 0),
  ADD COLUMN token_period_seconds           integer CHECK (token_period_seconds > 0),
  ADD COLUMN token_uses                     integer CHECK (token_uses > 0),
  ADD COLUMN token_cidrs                    text[] CHECK (cardinality(token_cidrs) > 0),
  ADD COLUMN token_without_default          boolean NOT NULL DEFAULT false;

ALTER TABLE bulla.certificate_roles
  ADD COLUMN token_max_ttl_seconds          integer CHECK (token_max_ttl_seconds > 0),
  ADD COLUMN token_explicit_max_ttl_seconds integer CHECK (token_explicit_max_ttl_seconds > 0),
  ADD COLUMN token_period_seconds           integer CHECK (token_period_seconds > 0),
  ADD COLUMN token_uses                     integer CHECK (token_uses > 0),
  ADD COLUMN token_cidrs                    text[] CHECK (cardinality(token_cidrs) > 0),
  ADD COLUMN token_without_default          boolean NOT NULL DEFAULT false;

-- claim_names: JSON text, from claims to the names that they are shown under in the metadata of a token. subject_claim: the
-- claim that says who somebody is.
ALTER TABLE bulla.login_roles RENAME COLUMN cidrs TO token_cidrs;
ALTER TABLE bulla.login_roles
  ADD COLUMN token_max_ttl_seconds          integer CHECK (token_max_ttl_seconds > 0),
  ADD COLUMN token_explicit_max_ttl_seconds integer CHECK (token_explicit_max_ttl_seconds > 0),
  ADD COLUMN token_period_seconds           integer CHECK (token_period_seconds > 0),
  ADD COLUMN token_uses                     integer CHECK (token_uses > 0),
  ADD COLUMN token_without_default          boolean NOT NULL DEFAULT false,
  ADD COLUMN claim_names                    text NOT NULL DEFAULT '{}',
  ADD COLUMN subject_claim                  text NOT NULL DEFAULT 'sub' COLLATE "C";

-- What one claim says of somebody is never taken for what another says.
ALTER TABLE bulla.external_identities
  ADD COLUMN claim text NOT NULL DEFAULT 'sub' COLLATE "C",
  DROP CONSTRAINT external_identities_tenant_id_issuer_id_subject_key,
  ADD UNIQUE (tenant_id, issuer_id, claim, subject);

-- default_role: of a login that names none.
ALTER TABLE bulla.jwt_issuers ADD COLUMN default_role text COLLATE "C";
