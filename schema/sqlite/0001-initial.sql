-- The same tables as schema/mysql, in SQLite's words. The whole migration is
-- one transaction here. Times are UTC text, as Storm writes them.

CREATE TABLE IF NOT EXISTS queue (
    name TEXT NOT NULL PRIMARY KEY,
    paused INTEGER NOT NULL DEFAULT 0,
    capacity INTEGER NULL
);

CREATE TABLE IF NOT EXISTS lane (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    queue TEXT NOT NULL,
    tags TEXT NOT NULL
);

CREATE UNIQUE INDEX IF NOT EXISTS lane_name ON lane (queue, tags);

CREATE TABLE IF NOT EXISTS file (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    href TEXT NOT NULL,
    name TEXT NOT NULL,
    role TEXT NOT NULL DEFAULT '',
    media_type TEXT NOT NULL,
    tree INTEGER NOT NULL DEFAULT 0,
    size INTEGER NOT NULL,
    sha256 TEXT NOT NULL DEFAULT '',
    state TEXT NOT NULL,
    facts TEXT NOT NULL,
    job_id INTEGER NULL,
    task_id INTEGER NULL,
    created TEXT NOT NULL
);

CREATE UNIQUE INDEX IF NOT EXISTS file_href ON file (href);
CREATE INDEX IF NOT EXISTS file_job ON file (job_id);

CREATE TABLE IF NOT EXISTS file_metadata (
    file_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (file_id, name)
);

CREATE TABLE IF NOT EXISTS job (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    token TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    title TEXT NOT NULL,
    workflow TEXT NOT NULL,
    version INTEGER NOT NULL,
    state TEXT NOT NULL,
    priority INTEGER NOT NULL,
    progress REAL NOT NULL DEFAULT 0,
    submitter TEXT NOT NULL,
    request TEXT NOT NULL DEFAULT '',
    submitted TEXT NOT NULL,
    started TEXT NULL,
    finished TEXT NULL,
    cancel_requested TEXT NULL,
    message TEXT NOT NULL
);

CREATE UNIQUE INDEX IF NOT EXISTS job_token ON job (token);
CREATE INDEX IF NOT EXISTS job_state ON job (state, id);
CREATE INDEX IF NOT EXISTS job_workflow ON job (workflow, id);
CREATE INDEX IF NOT EXISTS job_submitter ON job (submitter, id);
CREATE INDEX IF NOT EXISTS job_finished ON job (finished);

CREATE TABLE IF NOT EXISTS job_input (
    job_id INTEGER NOT NULL,
    position INTEGER NOT NULL,
    role TEXT NOT NULL,
    file_id INTEGER NOT NULL,
    PRIMARY KEY (job_id, position)
);

CREATE INDEX IF NOT EXISTS job_input_file ON job_input (file_id);

CREATE TABLE IF NOT EXISTS job_parameter (
    job_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (job_id, name)
);

CREATE TABLE IF NOT EXISTS job_metadata (
    job_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (job_id, name)
);

CREATE TABLE IF NOT EXISTS task (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    type TEXT NOT NULL,
    state TEXT NOT NULL,
    lane_id INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0,
    losses INTEGER NOT NULL DEFAULT 0,
    max_attempts INTEGER NOT NULL,
    worker_id INTEGER NULL,
    lease_until TEXT NULL,
    cancel_requested TEXT NULL,
    run_at TEXT NULL,
    ready_at TEXT NULL,
    started TEXT NULL,
    finished TEXT NULL,
    progress REAL NOT NULL DEFAULT 0,
    speed TEXT NOT NULL DEFAULT '',
    eta REAL NULL,
    message TEXT NOT NULL,
    reason TEXT NOT NULL DEFAULT '',
    spec TEXT NOT NULL
);

CREATE INDEX IF NOT EXISTS task_claim ON task (state, lane_id, priority, id);
CREATE INDEX IF NOT EXISTS task_due ON task (state, run_at);
CREATE INDEX IF NOT EXISTS task_job ON task (job_id);

CREATE TABLE IF NOT EXISTS attempt (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    task_id INTEGER NOT NULL,
    number INTEGER NOT NULL,
    worker_id INTEGER NOT NULL,
    host TEXT NOT NULL,
    state TEXT NOT NULL,
    started TEXT NOT NULL,
    finished TEXT NULL,
    message TEXT NOT NULL,
    reason TEXT NOT NULL DEFAULT '',
    commands TEXT NOT NULL,
    ffmpeg TEXT NOT NULL DEFAULT '',
    exit_status INTEGER NULL,
    cpu_seconds REAL NULL,
    peak_memory INTEGER NULL,
    wall_seconds REAL NULL,
    log TEXT NOT NULL DEFAULT '',
    log_size INTEGER NULL,
    report TEXT NOT NULL
);

CREATE UNIQUE INDEX IF NOT EXISTS attempt_number ON attempt (task_id, number);

CREATE TABLE IF NOT EXISTS worker (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    slots INTEGER NOT NULL,
    queues TEXT NOT NULL,
    tags TEXT NOT NULL,
    state TEXT NOT NULL,
    started TEXT NOT NULL,
    heartbeat TEXT NOT NULL,
    lease REAL NOT NULL,
    version TEXT NOT NULL
);

CREATE INDEX IF NOT EXISTS worker_state ON worker (state);

CREATE TABLE IF NOT EXISTS event (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at TEXT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    job_id INTEGER NULL,
    task_id INTEGER NULL,
    detail TEXT NOT NULL,
    reason TEXT NOT NULL DEFAULT '',
    host TEXT NOT NULL DEFAULT ''
);

CREATE INDEX IF NOT EXISTS event_job ON event (job_id);
CREATE INDEX IF NOT EXISTS event_actor ON event (actor);
CREATE INDEX IF NOT EXISTS event_action ON event (action);

CREATE TABLE IF NOT EXISTS publication (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    active_key TEXT NULL,
    file_id INTEGER NOT NULL,
    job_id INTEGER NOT NULL,
    task_id INTEGER NOT NULL,
    target TEXT NOT NULL,
    path TEXT NOT NULL,
    href TEXT NOT NULL,
    state TEXT NOT NULL,
    tree INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    size INTEGER NOT NULL,
    published TEXT NOT NULL,
    retracted TEXT NULL
);

CREATE UNIQUE INDEX IF NOT EXISTS publication_active ON publication (active_key);
CREATE INDEX IF NOT EXISTS publication_job ON publication (job_id);
CREATE INDEX IF NOT EXISTS publication_file ON publication (file_id);

CREATE TABLE IF NOT EXISTS delivery (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    task_id INTEGER NOT NULL,
    number INTEGER NOT NULL,
    at TEXT NOT NULL,
    url TEXT NOT NULL,
    status INTEGER NOT NULL,
    message TEXT NOT NULL,
    seconds REAL NOT NULL
);

CREATE INDEX IF NOT EXISTS delivery_task ON delivery (task_id);

CREATE TABLE IF NOT EXISTS schedule (
    name TEXT NOT NULL PRIMARY KEY,
    cron TEXT NOT NULL,
    next_run TEXT NOT NULL,
    last_run TEXT NULL,
    last_job INTEGER NULL,
    message TEXT NOT NULL
);

CREATE TABLE IF NOT EXISTS watched (
    watch TEXT NOT NULL,
    place TEXT NOT NULL,
    href TEXT NOT NULL,
    identity TEXT NOT NULL,
    size INTEGER NOT NULL,
    changed INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    job_id INTEGER NULL,
    moved INTEGER NOT NULL,
    sha256 TEXT NOT NULL DEFAULT '',
    checked INTEGER NOT NULL DEFAULT 0,
    message TEXT NOT NULL,
    taken TEXT NOT NULL,
    PRIMARY KEY (watch, place)
);

CREATE INDEX IF NOT EXISTS watched_inode ON watched (watch, inode);

CREATE INDEX IF NOT EXISTS watched_moved ON watched (watch, moved);

CREATE INDEX IF NOT EXISTS watched_checked ON watched (watch, checked);

CREATE TABLE IF NOT EXISTS alert (
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    last_event INTEGER NOT NULL,
    next_try TEXT NOT NULL,
    failing TEXT NULL,
    PRIMARY KEY (name, kind)
);

CREATE TABLE IF NOT EXISTS low_disk (
    host TEXT NOT NULL,
    name TEXT NOT NULL,
    since TEXT NOT NULL,
    PRIMARY KEY (host, name)
);

CREATE TABLE IF NOT EXISTS token (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    digest TEXT NOT NULL,
    created TEXT NOT NULL,
    created_by TEXT NOT NULL,
    expires TEXT NULL,
    revoked TEXT NULL,
    last_used TEXT NULL
);

CREATE UNIQUE INDEX IF NOT EXISTS token_digest ON token (digest);

CREATE TABLE IF NOT EXISTS counter (
    name TEXT NOT NULL,
    labels TEXT NOT NULL,
    value REAL NOT NULL,
    PRIMARY KEY (name, labels)
);

-- rowid is the job's id, and the file's.
CREATE VIRTUAL TABLE IF NOT EXISTS job_search
    USING fts5 (words, tokenize = "ascii tokenchars _", detail = none);

CREATE VIRTUAL TABLE IF NOT EXISTS file_search
    USING fts5 (words, tokenize = "ascii tokenchars _", detail = none);
