-- Sends that were asked for with a key: asked for again, they give this result and send nothing.
CREATE TABLE send_keys (
    id          INTEGER PRIMARY KEY,
    device      BIGINT NOT NULL,
    once_key    VARCHAR(128) NOT NULL,
    first_place BIGINT NOT NULL,
    places      BIGINT NOT NULL,
    at          BIGINT NOT NULL,
    UNIQUE (device, once_key)
);
