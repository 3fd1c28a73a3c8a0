-- A password's pepper cannot be destroyed while a password depends on it: the same rule as for data keys.
ALTER TABLE bulla.users
  ADD COLUMN pepper_tenant  text NOT NULL DEFAULT 'system' CHECK (pepper_tenant = 'system'),
  ADD COLUMN pepper_purpose text NOT NULL DEFAULT 'pepper' CHECK (pepper_purpose = 'pepper'),
  ADD FOREIGN KEY (pepper_tenant, pepper_purpose, pepper_version) REFERENCES bulla.system_key_material;
CREATE INDEX users_pepper ON bulla.users (pepper_version, tenant_id, user_id);
