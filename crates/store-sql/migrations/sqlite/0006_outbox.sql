-- Messages to the outside that were not delivered yet (state 0, in the order of places for each target),
-- or are dead (1). Delivered ones leave.
CREATE TABLE outbox (
    place    INTEGER PRIMARY KEY,
    id       VARCHAR(64) NOT NULL UNIQUE,
    target   VARCHAR(64) NOT NULL,
    state    BIGINT NOT NULL,
    weight   BIGINT NOT NULL,
    at       BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    next_at  BIGINT NOT NULL,
    failure  TEXT NOT NULL,
    body     BLOB NOT NULL
);
CREATE INDEX outbox_line ON outbox (target, state, place);

-- What became of each target's line: how many were dropped for good, and how many of them since something
-- was delivered.
CREATE TABLE outbox_targets (
    target        VARCHAR(64) NOT NULL PRIMARY KEY,
    dropped       BIGINT NOT NULL,
    dropped_since BIGINT NOT NULL
);
