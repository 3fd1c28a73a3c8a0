-- Where an issuer's keys are fetched, for one that has no discovery document; NULL: as jwks or discovery says.
ALTER TABLE bulla.jwt_issuers
  ADD COLUMN jwks_url text,
  ADD CHECK (jwks IS NULL OR jwks_url IS NULL);
