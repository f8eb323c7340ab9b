-- What rows come to, by slots of some lengths: what is asked of long times is read here, also when the rows are gone. It is
-- written with the rows, in one transaction. `slot` counts slots of `seconds` since 1970, `id` is a hash of the columns
-- behind it up to `metadata`. Money is in 10^-6 USD, with what is less in 10^-12 USD.
CREATE TABLE sums (
    seconds         BIGINT NOT NULL,
    slot            BIGINT NOT NULL,
    id              TEXT   NOT NULL,
    org             TEXT   NOT NULL,
    team            TEXT   NOT NULL,
    project         TEXT   NOT NULL,
    api_key         TEXT   NOT NULL,
    model_requested TEXT   NOT NULL,
    model           TEXT   NOT NULL,
    provider        TEXT   NOT NULL,
    endpoint        TEXT   NOT NULL,
    error           TEXT   NOT NULL,
    cache           TEXT   NOT NULL,
    state           TEXT   NOT NULL,
    status          BIGINT NOT NULL,
    shadow          TEXT   NOT NULL,
    metadata        TEXT   NOT NULL,
    requests        BIGINT NOT NULL,
    input           BIGINT NOT NULL,
    output          BIGINT NOT NULL,
    cache_read      BIGINT NOT NULL,
    cache_write     BIGINT NOT NULL,
    reasoning       BIGINT NOT NULL,
    duration_us     BIGINT NOT NULL,
    cost            BIGINT NOT NULL,
    cost_rest       BIGINT NOT NULL,
    saved           BIGINT NOT NULL,
    saved_rest      BIGINT NOT NULL,
    PRIMARY KEY (seconds, slot, id)
);
-- Rows from before this time are in no sum.
INSERT INTO counters (name, value)
VALUES ('sums', COALESCE((SELECT time_us FROM records ORDER BY id DESC LIMIT 1), 0) + 1000);
