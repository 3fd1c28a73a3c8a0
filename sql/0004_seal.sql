-- The seal: which one the root keys are wrapped by, what is needed beside its secret to open it, and whether an operator
-- has sealed the vault. Exactly one row outside a transaction: a migration inserts the new seal, makes a root key under
-- it and deletes the old one, which the foreign key refuses while a root key is still under it.
CREATE TABLE bulla.seals (
  tenant_id  text NOT NULL DEFAULT 'system' CHECK (tenant_id = 'system'),
  seal_id    text NOT NULL,
  kind       text NOT NULL,
  -- JSON text: salt, cost, key names, hashes of shares. Never a secret, never an address that a credential would be sent to.
  parameters text NOT NULL,
  created_at timestamptz NOT NULL,
  -- Set by an operator: no node opens the seal until somebody who can open it says so.
  sealed_at  timestamptz,
  PRIMARY KEY (tenant_id, seal_id),
  UNIQUE (tenant_id) DEFERRABLE INITIALLY DEFERRED
);

INSERT INTO bulla.seals (seal_id, kind, parameters, created_at)
SELECT 'aaaaaaaaaaaaaaaa', seal, '{}', bulla.now() FROM bulla.root_key_material JOIN bulla.root_keys USING (tenant_id, version)
WHERE state = 'active';

ALTER TABLE bulla.root_key_material ADD COLUMN seal_id text;
UPDATE bulla.root_key_material SET seal_id = 'aaaaaaaaaaaaaaaa';
ALTER TABLE bulla.root_key_material ALTER COLUMN seal_id SET NOT NULL,
  ADD FOREIGN KEY (tenant_id, seal_id) REFERENCES bulla.seals;

-- What every transaction may ask, whatever tenants it is for: the gate asks it in the statement that reads the token. Its body
-- names no operator or function that a search_path could turn into another one, so it needs none of its own, which costs
-- more than the look itself.
CREATE FUNCTION bulla.is_sealed() RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER AS
  $$ BEGIN RETURN EXISTS (SELECT 1 FROM bulla.seals WHERE sealed_at IS NOT NULL); END $$;

ALTER TABLE bulla.seals ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenants_of_the_transaction ON bulla.seals TO bulla_app
  USING (tenant_id = ANY ((SELECT string_to_array(current_setting('bulla.tenants', true), ','))::text[]));
GRANT SELECT, INSERT, UPDATE, DELETE ON bulla.seals TO bulla_app;
