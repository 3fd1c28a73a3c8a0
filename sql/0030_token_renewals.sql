-- What a token was made to last, and when it was renewed: both are shown, and its end says neither once it has moved.
ALTER TABLE bulla.tokens
  ADD COLUMN ttl_seconds integer CHECK (ttl_seconds >= 0),
  ADD COLUMN renewed_at  timestamptz;
