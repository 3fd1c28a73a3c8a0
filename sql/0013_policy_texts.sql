-- The texts of policies that were written in another language than our documents, as they came.

-- A text is that of one revision of its policy; what was changed since has none.
CREATE TABLE bulla.policy_texts (
  tenant_id text NOT NULL,
  name      text NOT NULL COLLATE "C",
  revision  integer NOT NULL,
  text      text NOT NULL,
  PRIMARY KEY (tenant_id, name),
  FOREIGN KEY (tenant_id, name) REFERENCES bulla.policies ON DELETE CASCADE
);

ALTER TABLE bulla.policy_texts ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenants_of_the_transaction ON bulla.policy_texts TO bulla_app USING (bulla.visible(tenant_id));
GRANT SELECT, INSERT, UPDATE, DELETE ON bulla.policy_texts TO bulla_app;
