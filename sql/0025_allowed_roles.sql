-- What clients of the API under /v1 say of backends and roles beside what makes credentials.

-- The roles and static accounts that a backend serves, where that is not all of them: names, in which * is any characters.
-- NULL: every one. Empty: none.
ALTER TABLE bulla.backends ADD COLUMN allowed_roles text[];

-- What a role was written as in the language of another interface, as long as nobody has written it otherwise since.
ALTER TABLE bulla.roles ADD COLUMN text text;
