-- Messages of work queues that are not done. Numbers rise in the order of each queue; with the life of
-- the server that gave it out, a number is never used again.
CREATE TABLE work (
    number     INTEGER PRIMARY KEY,
    life       BIGINT NOT NULL,
    queue      VARCHAR(255) NOT NULL,
    at         BIGINT NOT NULL,
    deliveries BIGINT NOT NULL,
    once_key   TEXT,
    data       BLOB NOT NULL,
    meta       BLOB
);

-- Keys that messages of queues were sent with. They outlive the messages.
CREATE TABLE work_keys (
    number   INTEGER PRIMARY KEY,
    queue    VARCHAR(255) NOT NULL,
    once_key TEXT NOT NULL,
    at       BIGINT NOT NULL
);
