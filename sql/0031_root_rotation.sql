-- The password that a backend itself logs in with may be changed. While that is under way its envelope holds the next one
-- beside the current one: whatever stops in between, one of them logs in.

-- root_claim names who is at it, until root_due_at; what is claimed by nobody any more is looked at then by a sweeper.
ALTER TABLE bulla.backends
  ADD COLUMN root_claim    text,
  ADD COLUMN root_due_at   timestamptz,
  ADD COLUMN root_attempts integer NOT NULL DEFAULT 0;
CREATE INDEX backends_root_due ON bulla.backends (root_due_at) WHERE root_due_at IS NOT NULL;
