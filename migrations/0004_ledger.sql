-- One row for each exchange that reached a provider. Ids begin with their time, so a time is a range of the key. Times
-- and durations are microseconds, amounts are 10^-12 USD; '' is what there is not.
CREATE TABLE records (
    id                TEXT   NOT NULL PRIMARY KEY,
    request_id        TEXT   NOT NULL,
    time_us           BIGINT NOT NULL,
    state             TEXT   NOT NULL,
    endpoint          TEXT   NOT NULL,
    protocol          TEXT   NOT NULL,
    org               TEXT   NOT NULL,
    team              TEXT   NOT NULL,
    project           TEXT   NOT NULL,
    api_key           TEXT   NOT NULL,
    end_user          TEXT   NOT NULL,
    session           TEXT   NOT NULL,
    tags              TEXT   NOT NULL,
    model_requested   TEXT   NOT NULL,
    model             TEXT   NOT NULL,
    provider          TEXT   NOT NULL,
    upstream_protocol TEXT   NOT NULL,
    mode              TEXT   NOT NULL,
    stream            BIGINT NOT NULL,
    status            BIGINT NOT NULL,
    error             TEXT   NOT NULL,
    cache             TEXT   NOT NULL,
    finish            TEXT   NOT NULL,
    rule              TEXT   NOT NULL,
    input             BIGINT NOT NULL,
    output            BIGINT NOT NULL,
    cache_read        BIGINT NOT NULL,
    cache_write       BIGINT NOT NULL,
    reasoning         BIGINT NOT NULL,
    token_usage       TEXT   NOT NULL,
    estimated         BIGINT NOT NULL,
    cost_pico         BIGINT NOT NULL,
    unpriced          BIGINT NOT NULL,
    saved_pico        BIGINT NOT NULL,
    duration_us       BIGINT NOT NULL,
    overhead_us       BIGINT NOT NULL,
    ttft_us           BIGINT,
    tries             BIGINT NOT NULL,
    attempts          TEXT   NOT NULL,
    request_bytes     BIGINT NOT NULL,
    response_bytes    BIGINT NOT NULL
);
CREATE INDEX records_by_request ON records (request_id);
-- What is kept of a user is found, and deleted, without reading the rest.
CREATE INDEX records_by_user ON records (end_user, id) WHERE end_user <> '';
-- Administrative actions, each with the hash of all before it.
CREATE TABLE audit (
    seq     BIGINT NOT NULL PRIMARY KEY,
    id      TEXT   NOT NULL,
    time_us BIGINT NOT NULL,
    actor   TEXT   NOT NULL,
    action  TEXT   NOT NULL,
    object  TEXT   NOT NULL,
    detail  TEXT   NOT NULL,
    hash    TEXT   NOT NULL
);
CREATE UNIQUE INDEX audit_by_id ON audit (id);
