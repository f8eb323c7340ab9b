-- Rows stand in the order of their key, which is their time: a row of its own number beside an index of ids would write
-- twice what is needed.
CREATE TABLE records_new (
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
    response_bytes    BIGINT NOT NULL,
    shadow_of         TEXT   NOT NULL
) WITHOUT ROWID;
INSERT INTO records_new (
    id, request_id, time_us, state, endpoint, protocol, org, team, project, api_key, end_user, session, tags,
    model_requested, model, provider, upstream_protocol, mode, stream, status, error, cache, finish, rule,
    input, output, cache_read, cache_write, reasoning, token_usage, estimated, cost_pico, unpriced,
    saved_pico, duration_us, overhead_us, ttft_us, tries, attempts, request_bytes, response_bytes, shadow_of
) SELECT
    id, request_id, time_us, state, endpoint, protocol, org, team, project, api_key, end_user, session, tags,
    model_requested, model, provider, upstream_protocol, mode, stream, status, error, cache, finish, rule,
    input, output, cache_read, cache_write, reasoning, token_usage, estimated, cost_pico, unpriced,
    saved_pico, duration_us, overhead_us, ttft_us, tries, attempts, request_bytes, response_bytes, shadow_of
FROM records;
DROP TABLE records;
ALTER TABLE records_new RENAME TO records;
CREATE INDEX records_by_request ON records (request_id);
-- What is kept of a user is found, and deleted, without reading the rest.
CREATE INDEX records_by_user ON records (end_user, id) WHERE end_user <> '';
