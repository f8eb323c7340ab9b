-- Whose answers they are, so that they go when their user is to be forgotten: a hash, as in `erasures`; empty for nobody.
-- Answers from before have none.
ALTER TABLE responses ADD COLUMN user_mask TEXT NOT NULL DEFAULT '';
CREATE INDEX responses_by_user ON responses (user_mask) WHERE user_mask <> '';
