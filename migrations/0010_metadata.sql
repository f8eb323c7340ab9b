-- What the client said of the request, by names: a JSON object; '' for nothing.
ALTER TABLE records ADD COLUMN metadata TEXT NOT NULL DEFAULT '';
