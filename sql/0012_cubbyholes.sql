-- What belongs to one token and ends with it: texts that its holder keeps, and the answer that a wrapping token opens.

CREATE TABLE bulla.cubbyholes (
  tenant_id   text NOT NULL,
  token_id    text NOT NULL,
  path        text NOT NULL COLLATE "C",
  key_version integer NOT NULL,
  envelope    bytea NOT NULL,
  created_at  timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, token_id, path),
  FOREIGN KEY (tenant_id, token_id) REFERENCES bulla.tokens ON DELETE CASCADE,
  FOREIGN KEY (tenant_id, key_version) REFERENCES bulla.data_key_material
);
-- The key's version leads, so that no planner takes this for the way to one row of a tenant.
CREATE INDEX cubbyholes_key ON bulla.cubbyholes (key_version, tenant_id);
-- Ciphertext does not compress.
ALTER TABLE bulla.cubbyholes ALTER COLUMN envelope SET STORAGE EXTERNAL;

ALTER TABLE bulla.cubbyholes ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenants_of_the_transaction ON bulla.cubbyholes TO bulla_app USING (bulla.visible(tenant_id));
GRANT SELECT, INSERT, UPDATE, DELETE ON bulla.cubbyholes TO bulla_app;
