-- Answers of the Responses API that their callers may read again or go on from. Times are seconds since 1970.
CREATE TABLE responses (
    tenant   TEXT   NOT NULL,
    id       TEXT   NOT NULL,
    created  BIGINT NOT NULL,
    expires  BIGINT NOT NULL,
    bytes    BIGINT NOT NULL,
    model    TEXT   NOT NULL,
    status   TEXT   NOT NULL,
    maker    TEXT   NOT NULL,
    previous TEXT,
    input    TEXT   NOT NULL,
    response TEXT   NOT NULL,
    PRIMARY KEY (tenant, id)
);
-- What is over, and what is oldest, is found without reading the answers.
CREATE INDEX responses_by_expiry ON responses (expires, bytes);
CREATE INDEX responses_by_age ON responses (created, bytes);
