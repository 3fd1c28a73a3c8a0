-- What services and their client secrets may be bounded by beside their policies, and the name that a client knows one by.

-- role_id: in place of `<tenant id>.<account id>`, for clients that have one from elsewhere; no secret.
-- token_*: of the tokens of its logins. secret_*: of client secrets, where whoever makes one does not say otherwise, and
-- secret_cidrs of every one, whatever it says itself.
ALTER TABLE bulla.services
  ADD COLUMN role_id               text COLLATE "C",
  ADD COLUMN token_max_ttl_seconds integer CHECK (token_max_ttl_seconds > 0),
  ADD COLUMN token_uses            integer CHECK (token_uses > 0),
  ADD COLUMN token_cidrs           text[] CHECK (cardinality(token_cidrs) > 0),
  ADD COLUMN secret_ttl_seconds    integer CHECK (secret_ttl_seconds > 0),
  ADD COLUMN secret_uses           integer CHECK (secret_uses > 0),
  ADD COLUMN secret_cidrs          text[] CHECK (cardinality(secret_cidrs) > 0),
  ADD UNIQUE (tenant_id, role_id);

-- uses_left: logins that it still does; NULL: any number. metadata: JSON text, names and labels that its tokens show.
ALTER TABLE bulla.client_secrets
  ADD COLUMN uses_left integer CHECK (uses_left >= 0),
  ADD COLUMN metadata  text;
