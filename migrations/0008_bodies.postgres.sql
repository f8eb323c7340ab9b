-- What was said in an exchange, sealed, where that is kept. `id` is that of its row in `records`; the sizes are those of
-- the whole, of which less may be kept.
CREATE TABLE bodies (
    id            TEXT   NOT NULL PRIMARY KEY,
    until_us      BIGINT NOT NULL,
    user_mask     TEXT   NOT NULL,
    request       BYTEA  NOT NULL,
    answer        BYTEA  NOT NULL,
    request_bytes BIGINT NOT NULL,
    answer_bytes  BIGINT NOT NULL
);
CREATE INDEX bodies_by_end ON bodies (until_us);
CREATE INDEX bodies_by_user ON bodies (user_mask) WHERE user_mask <> '';
