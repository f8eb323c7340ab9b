-- Who asks: organisations, teams, projects, users, keys, and what is attached to them. `version` grows over all of
-- them with each change, so that nodes find what is new; times are seconds since 1970.
CREATE TABLE counters (
    name  TEXT   NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counters (name, value) VALUES ('directory', 0);
CREATE TABLE objects (
    id      TEXT   NOT NULL PRIMARY KEY,
    kind    TEXT   NOT NULL,
    parent  TEXT   REFERENCES objects (id),
    -- The ids from the root to it, each after a slash.
    path    TEXT   NOT NULL,
    name    TEXT   NOT NULL,
    version BIGINT NOT NULL,
    created BIGINT NOT NULL,
    changed BIGINT NOT NULL,
    -- What the administration API shows, as JSON.
    body    TEXT   NOT NULL,
    -- Digests of keys and tokens, sealed credentials: what it never shows.
    secret  TEXT
);
CREATE UNIQUE INDEX objects_by_name ON objects (kind, (COALESCE(parent, '')), name);
CREATE INDEX objects_by_kind ON objects (kind, id);
CREATE INDEX objects_by_parent ON objects (parent);
CREATE INDEX objects_by_version ON objects (version);
-- What is gone, until every node has seen it.
CREATE TABLE removed_objects (
    id      TEXT   NOT NULL PRIMARY KEY,
    version BIGINT NOT NULL,
    at      BIGINT NOT NULL
);
CREATE INDEX removed_objects_by_version ON removed_objects (version);
-- What a request that is sent again has made already.
CREATE TABLE idempotency (
    caller  TEXT   NOT NULL,
    key     TEXT   NOT NULL,
    request TEXT   NOT NULL,
    object  TEXT   NOT NULL,
    at      BIGINT NOT NULL,
    PRIMARY KEY (caller, key)
);
CREATE INDEX idempotency_by_age ON idempotency (at);
-- Checks that every node has the same secrets.
CREATE TABLE fingerprints (
    name  TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);
