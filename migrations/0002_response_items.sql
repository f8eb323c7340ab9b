-- Which answer an output item stands in, so that a request may name the item instead of repeating it.
CREATE TABLE response_items (
    tenant   TEXT NOT NULL,
    item     TEXT NOT NULL,
    response TEXT NOT NULL,
    PRIMARY KEY (tenant, item),
    FOREIGN KEY (tenant, response) REFERENCES responses (tenant, id) ON DELETE CASCADE
);
-- An answer that goes takes its items along.
CREATE INDEX response_items_by_response ON response_items (tenant, response);
