-- Everything that an installation keeps. Times are milliseconds since the Unix epoch, UTC.

CREATE TABLE devices (
    key             INTEGER PRIMARY KEY,
    bot             TEXT NOT NULL,
    device          TEXT NOT NULL,
    approval        TEXT NOT NULL,
    approval_note   TEXT NOT NULL DEFAULT '',
    frame_bytes_max BIGINT,
    version         TEXT NOT NULL,
    client_type     TEXT NOT NULL,
    device_info     TEXT NOT NULL,
    device_ip       TEXT NOT NULL,
    peer_ip         TEXT NOT NULL,
    created_at      BIGINT NOT NULL,
    seen_at         BIGINT NOT NULL,
    revision        BIGINT NOT NULL DEFAULT 1,
    UNIQUE (bot, device)
);

CREATE TABLE rooms (
    key           INTEGER PRIMARY KEY,
    device        BIGINT NOT NULL REFERENCES devices (key),
    channel_id    TEXT NOT NULL,
    name          TEXT NOT NULL,
    approval      TEXT NOT NULL,
    approval_note TEXT NOT NULL DEFAULT '',
    created_at    BIGINT NOT NULL,
    revision      BIGINT NOT NULL DEFAULT 1,
    UNIQUE (device, channel_id)
);

-- state: 0 pending, 1 done, 2 dead, 3 logged. flags: 1 group chat, 2 mention.
-- text is NULL when the text is encrypted: it then stands in sealed.
CREATE TABLE messages (
    id          INTEGER PRIMARY KEY,
    device      BIGINT NOT NULL,
    room        BIGINT,
    state       SMALLINT NOT NULL,
    flags       SMALLINT NOT NULL,
    received_at BIGINT NOT NULL,
    log_id      TEXT,
    sender      TEXT NOT NULL,
    user_hash   TEXT,
    room_name   TEXT NOT NULL,
    channel_id  TEXT NOT NULL,
    text        TEXT,
    sealed      BLOB,
    failure     TEXT
);

-- Log ids rise with time, so they come first: new entries then all go to the same few pages.
CREATE UNIQUE INDEX messages_by_log_id ON messages (log_id, device) WHERE log_id IS NOT NULL;

-- Dead letters are few; every other list reads the table from its end.
CREATE INDEX messages_dead ON messages (id) WHERE state = 2;

-- kind: 0 text, 1 image, 2 audio, 3 video, 4 document; 8 is added when a schedule sent it.
-- body is NULL when the text is plain text (then in text); sealed is set when it is encrypted.
CREATE TABLE replies (
    id         INTEGER PRIMARY KEY,
    device     BIGINT NOT NULL,
    place      BIGINT NOT NULL,
    message    BIGINT,
    at         BIGINT NOT NULL,
    kind       SMALLINT NOT NULL,
    room_name  TEXT NOT NULL,
    channel_id TEXT NOT NULL,
    text       TEXT,
    body       BLOB,
    sealed     BLOB,
    wait_ms    BIGINT
);

-- Message ids rise, so this index grows at its end as well.
CREATE INDEX replies_by_message ON replies (message) WHERE message IS NOT NULL;

-- How far each device's stream was handed over. Narrow, since it is written with every batch.
CREATE TABLE streams (
    device    INTEGER PRIMARY KEY,
    delivered BIGINT NOT NULL
);

-- Named numbers: below them a start needs not look.
CREATE TABLE marks (
    name  VARCHAR(40) PRIMARY KEY,
    value BIGINT NOT NULL
);

CREATE TABLE bots (
    name       VARCHAR(128) PRIMARY KEY,
    document   TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    revision   BIGINT NOT NULL DEFAULT 1
);

CREATE TABLE schedules (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    title          TEXT NOT NULL,
    device         BIGINT NOT NULL,
    room           TEXT NOT NULL,
    channel_id     TEXT NOT NULL,
    text           TEXT NOT NULL,
    images_1       BLOB NOT NULL,
    images_2       BLOB NOT NULL,
    wait_ms_1      BIGINT,
    wait_ms_2      BIGINT,
    group_pause_ms BIGINT NOT NULL,
    recurrence     TEXT NOT NULL,
    time_zone      TEXT NOT NULL,
    valid_from     BIGINT,
    valid_until    BIGINT,
    active         SMALLINT NOT NULL,
    next_at        BIGINT,
    last_at        BIGINT,
    sent_count     BIGINT NOT NULL,
    revision       BIGINT NOT NULL
);

CREATE INDEX schedules_due ON schedules (next_at) WHERE active = 1 AND next_at IS NOT NULL;

CREATE TABLE schedule_runs (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    schedule BIGINT NOT NULL,
    due_at   BIGINT NOT NULL,
    ran_at   BIGINT NOT NULL,
    outcome  TEXT NOT NULL,
    note     TEXT NOT NULL
);

CREATE INDEX schedule_runs_by_schedule ON schedule_runs (schedule, id);

CREATE TABLE pings (
    id               INTEGER PRIMARY KEY,
    device           BIGINT NOT NULL,
    at               BIGINT NOT NULL,
    round_trip_ms    BIGINT,
    sent_at          BIGINT,
    memory_total_mb  DOUBLE PRECISION,
    memory_used_mb   DOUBLE PRECISION,
    memory_percent   DOUBLE PRECISION,
    queued_frames    BIGINT,
    active_rooms     BIGINT
);

CREATE INDEX pings_by_device ON pings (device, at);

CREATE TABLE system_samples (
    id                  INTEGER PRIMARY KEY,
    at                  BIGINT NOT NULL,
    node                TEXT NOT NULL,
    cpu_percent         DOUBLE PRECISION NOT NULL,
    process_cpu_percent DOUBLE PRECISION NOT NULL,
    memory_total        BIGINT NOT NULL,
    memory_used         BIGINT NOT NULL,
    process_memory      BIGINT NOT NULL,
    disk_percent        DOUBLE PRECISION NOT NULL,
    connections         BIGINT NOT NULL,
    queued              BIGINT NOT NULL
);

CREATE INDEX system_samples_by_time ON system_samples (at);

CREATE TABLE tokens (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    name       TEXT NOT NULL,
    hash       BLOB NOT NULL UNIQUE,
    role       TEXT NOT NULL,
    bots       TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    used_at    BIGINT,
    expires_at BIGINT,
    revoked_at BIGINT
);

CREATE TABLE accounts (
    name          VARCHAR(128) PRIMARY KEY,
    password_hash TEXT NOT NULL,
    role          TEXT NOT NULL,
    created_at    BIGINT NOT NULL
);

CREATE TABLE audit (
    id     INTEGER PRIMARY KEY,
    at     BIGINT NOT NULL,
    actor  TEXT NOT NULL,
    source TEXT NOT NULL,
    action TEXT NOT NULL,
    object TEXT NOT NULL,
    detail TEXT NOT NULL,
    hash   BLOB NOT NULL
);

-- Where the chain of the audit log ends: without it, removing the newest entries would go unseen.
CREATE TABLE audit_head (
    one     INTEGER PRIMARY KEY,
    entries BIGINT NOT NULL,
    hash    BLOB NOT NULL
);

CREATE TABLE channels (
    key   INTEGER PRIMARY KEY,
    name  VARCHAR(255) NOT NULL UNIQUE,
    epoch BIGINT NOT NULL,
    top   BIGINT NOT NULL
);

CREATE TABLE publications (
    channel  BIGINT NOT NULL,
    place    BIGINT NOT NULL,
    at       BIGINT NOT NULL,
    once_key TEXT,
    data     BLOB NOT NULL,
    PRIMARY KEY (channel, place)
) WITHOUT ROWID;
