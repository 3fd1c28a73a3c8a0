-- What an account is, and tokens that are narrower than their account: children, limited uses, networks, certificates.

-- person: logs in with a password. service: a machine, by its client secrets. external: an identity that somebody else
-- proves (JWT, OIDC, a client certificate), made at its first login. One name, whatever the kind.
ALTER TABLE bulla.users
  ADD COLUMN kind text NOT NULL DEFAULT 'person' CHECK (kind IN ('person', 'service', 'external')),
  ALTER COLUMN pepper_version DROP NOT NULL,
  ADD CHECK (pepper_version IS NOT NULL OR password_hash = '!');

-- A token ends with its parent, and what bounds the parent is copied into it when it is issued and never changes: the
-- gate decides from this row and never climbs.
--   kind            login: somebody proved who they are; child: made from a token; lease, wrapping: reads what its grant names
--   policies        beside those of the account: what the proof of this login brought with it
--   bounds          one text for each token of the chain that is bound: the names of its policies, apart by blanks
--   grants          one policy document for each token of the chain that has one
--   uses_left       acts that it still does; NULL: any number
--   cidrs           where it may be used from; NULL: anywhere
--   period_seconds  each renewal lasts this long, and without max_expires_at they go on for ever
--   certificate     SHA-256 of the client certificate that it is bound to (RFC 8705 §3)
--   mfa             the login showed a second factor
--   metadata        JSON text: names and labels from its maker, shown with its accessor
ALTER TABLE bulla.tokens
  ALTER COLUMN max_expires_at DROP NOT NULL,
  ADD COLUMN kind           text NOT NULL DEFAULT 'login' CHECK (kind IN ('login', 'child', 'lease', 'wrapping')),
  ADD COLUMN parent_id      text,
  ADD COLUMN depth          smallint NOT NULL DEFAULT 0 CHECK (depth BETWEEN 0 AND 8),
  ADD COLUMN policies       text[] NOT NULL DEFAULT '{}',
  ADD COLUMN bounds         text[],
  ADD COLUMN grants         text[],
  ADD COLUMN uses_left      integer CHECK (uses_left >= 0),
  ADD COLUMN cidrs          text[],
  ADD COLUMN period_seconds integer CHECK (period_seconds > 0),
  ADD COLUMN renewable      boolean NOT NULL DEFAULT true,
  ADD COLUMN certificate    bytea CHECK (octet_length(certificate) = 32),
  ADD COLUMN mfa            boolean NOT NULL DEFAULT false,
  ADD COLUMN name           text,
  ADD COLUMN metadata       text,
  ADD CHECK (max_expires_at IS NOT NULL OR period_seconds IS NOT NULL),
  ADD FOREIGN KEY (tenant_id, parent_id) REFERENCES bulla.tokens ON DELETE CASCADE;
CREATE INDEX tokens_parent ON bulla.tokens (tenant_id, parent_id) WHERE parent_id IS NOT NULL;
-- A login removes what has ended of its account, however much of it is still alive.
DROP INDEX bulla.tokens_user;
CREATE INDEX tokens_user ON bulla.tokens (tenant_id, user_id, expires_at);
DROP INDEX bulla.tokens_expiry;
CREATE INDEX tokens_expiry ON bulla.tokens (expires_at);
