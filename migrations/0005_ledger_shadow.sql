-- The request that this one was a copy of, sent beside it to try another model; '' for everything else.
ALTER TABLE records ADD COLUMN shadow_of TEXT NOT NULL DEFAULT '';
