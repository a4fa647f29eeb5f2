-- Wards by number, so that a name is kept once. Rows stay: old figures keep their ward.
CREATE TABLE wards (
    number INTEGER PRIMARY KEY CHECK (number < 4096),
    name   VARCHAR(64) NOT NULL UNIQUE
);

CREATE TABLE ward_records (
    ward BIGINT NOT NULL,
    part VARCHAR(64) NOT NULL,
    at   BIGINT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (ward, part)
) WITHOUT ROWID;

-- Packed figures. The key is the second in which a block begins times 4096, plus the number of the ward:
-- a flush of all wards appends to the last page, and the oldest stand in front.
CREATE TABLE ward_blocks (id INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE ward_five_minutes (id INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE ward_hours (id INTEGER PRIMARY KEY, data BLOB NOT NULL);

-- The key is the moment in milliseconds times 4096, plus a running number.
CREATE TABLE ward_events (
    id   INTEGER PRIMARY KEY,
    ward BIGINT NOT NULL,
    kind VARCHAR(64) NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX ward_events_by_ward ON ward_events (ward, id);

CREATE TABLE ward_visits (
    id      INTEGER PRIMARY KEY,
    ward    BIGINT NOT NULL,
    name    TEXT NOT NULL,
    player  TEXT,
    seen    BIGINT NOT NULL,
    left_at BIGINT
);
CREATE INDEX ward_visits_by_ward ON ward_visits (ward, id);
CREATE INDEX ward_visits_open ON ward_visits (ward, id) WHERE left_at IS NULL;

CREATE TABLE ward_peaks (
    ward   BIGINT NOT NULL,
    series BIGINT NOT NULL,
    value  BIGINT NOT NULL,
    at     BIGINT NOT NULL,
    PRIMARY KEY (ward, series)
) WITHOUT ROWID;
