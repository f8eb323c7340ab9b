-- That there was an organisation once: the gateway stays closed to whoever has no key.
INSERT INTO counters (name, value)
    SELECT 'closed', 1 WHERE EXISTS (SELECT 1 FROM objects WHERE kind = 'organisation');
-- People who signed in to the administration API; times are seconds since 1970.
CREATE TABLE sessions (
    -- The public part of its token.
    id      TEXT   NOT NULL PRIMARY KEY,
    -- Of the whole token.
    digest  TEXT   NOT NULL,
    -- As the identity provider names them.
    subject TEXT   NOT NULL,
    -- What it said of them, as JSON.
    body    TEXT   NOT NULL,
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL
);
CREATE INDEX sessions_by_subject ON sessions (subject, created);
CREATE INDEX sessions_by_age ON sessions (created);
CREATE INDEX sessions_by_end ON sessions (expires);
-- When the token of a user was last used, to the minute.
CREATE TABLE token_uses (
    id TEXT   NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL
);
