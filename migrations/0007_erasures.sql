-- Whose rows are gone, so that no node writes what it still has of them from before. A hash stands for who it was, with a
-- salt that whoever opens the database first makes.
CREATE TABLE salts (
    name  TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);
CREATE TABLE erasures (
    user_mask TEXT   NOT NULL PRIMARY KEY,
    before_us BIGINT NOT NULL
);
CREATE INDEX erasures_by_time ON erasures (before_us);
