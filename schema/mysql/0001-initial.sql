-- One statement a step; every one may be run again after a half-failed run.
--
-- No foreign keys: InnoDB would lock the parent row of each insert for sharing
-- (the job's, with every event), and two tasks of one job that end together
-- would deadlock. Rows are removed in one place, pruning.py.
--
-- Times are UTC. Text is utf8mb4; names that only machines read are ascii.

CREATE TABLE IF NOT EXISTS queue (
    name VARCHAR(64) NOT NULL PRIMARY KEY,
    paused TINYINT(1) NOT NULL DEFAULT 0,
    capacity INT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- A queue and the worker tags that a task asks for: what a claim selects by.
CREATE TABLE IF NOT EXISTS lane (
    id INT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    queue VARCHAR(64) NOT NULL,
    tags VARCHAR(255) NOT NULL,
    UNIQUE KEY lane_name (queue, tags)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS file (
    id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    href VARCHAR(3000) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    name VARCHAR(255) NOT NULL,
    role VARCHAR(64) NOT NULL DEFAULT '',
    media_type VARCHAR(128) NOT NULL,
    tree TINYINT(1) NOT NULL DEFAULT 0,
    size BIGINT NOT NULL,
    sha256 CHAR(64) CHARACTER SET ascii NOT NULL DEFAULT '',
    state VARCHAR(16) CHARACTER SET ascii NOT NULL,
    facts LONGTEXT NOT NULL,
    job_id BIGINT NULL,
    task_id BIGINT NULL,
    created DATETIME(6) NOT NULL,
    UNIQUE KEY file_href (href),
    KEY file_job (job_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci ROW_FORMAT=DYNAMIC;

CREATE TABLE IF NOT EXISTS file_metadata (
    file_id BIGINT NOT NULL,
    name VARCHAR(128) NOT NULL COLLATE utf8mb4_bin,
    value TEXT NOT NULL,
    PRIMARY KEY (file_id, name)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci;

-- token: 'key:' and the submitter's key, or 'id:' and a random one, so that a
-- submit whose commit was lost on the way finds its own job again.
CREATE TABLE IF NOT EXISTS job (
    id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    token VARCHAR(210) NOT NULL COLLATE utf8mb4_bin,
    fingerprint CHAR(64) CHARACTER SET ascii NOT NULL,
    title VARCHAR(500) NOT NULL,
    workflow VARCHAR(64) NOT NULL COLLATE utf8mb4_bin,
    version INT NOT NULL,
    state VARCHAR(16) CHARACTER SET ascii NOT NULL,
    priority SMALLINT NOT NULL,
    progress DOUBLE NOT NULL DEFAULT 0,
    submitter VARCHAR(255) NOT NULL,
    request VARCHAR(64) CHARACTER SET ascii NOT NULL DEFAULT '',
    submitted DATETIME(6) NOT NULL,
    started DATETIME(6) NULL,
    finished DATETIME(6) NULL,
    cancel_requested DATETIME(6) NULL,
    message TEXT NOT NULL,
    UNIQUE KEY job_token (token),
    KEY job_state (state, id),
    KEY job_workflow (workflow, id),
    KEY job_submitter (submitter, id),
    KEY job_finished (finished)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci;

CREATE TABLE IF NOT EXISTS job_input (
    job_id BIGINT NOT NULL,
    position INT NOT NULL,
    role VARCHAR(64) NOT NULL,
    file_id BIGINT NOT NULL,
    PRIMARY KEY (job_id, position),
    KEY job_input_file (file_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS job_parameter (
    job_id BIGINT NOT NULL,
    name VARCHAR(128) NOT NULL COLLATE utf8mb4_bin,
    value TEXT NOT NULL,
    PRIMARY KEY (job_id, name)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci;

CREATE TABLE IF NOT EXISTS job_metadata (
    job_id BIGINT NOT NULL,
    name VARCHAR(128) NOT NULL COLLATE utf8mb4_bin,
    value TEXT NOT NULL,
    PRIMARY KEY (job_id, name)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci;

-- attempt: number of the newest one. failures: attempts that count against
-- max_attempts. losses: workers lost under it. spec: the rest of the plan (JSON).
-- task_claim serves claims, task_due the scheduler; both without a sort.
CREATE TABLE IF NOT EXISTS task (
    id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    job_id BIGINT NOT NULL,
    name VARCHAR(64) NOT NULL,
    type VARCHAR(64) NOT NULL,
    state VARCHAR(16) CHARACTER SET ascii NOT NULL,
    lane_id INT NOT NULL,
    priority SMALLINT NOT NULL,
    attempt INT NOT NULL DEFAULT 0,
    failures INT NOT NULL DEFAULT 0,
    losses INT NOT NULL DEFAULT 0,
    max_attempts INT NOT NULL,
    worker_id BIGINT NULL,
    lease_until DATETIME(6) NULL,
    cancel_requested DATETIME(6) NULL,
    run_at DATETIME(6) NULL,
    ready_at DATETIME(6) NULL,
    started DATETIME(6) NULL,
    finished DATETIME(6) NULL,
    progress DOUBLE NOT NULL DEFAULT 0,
    speed VARCHAR(32) NOT NULL DEFAULT '',
    eta DOUBLE NULL,
    message TEXT NOT NULL,
    reason VARCHAR(32) CHARACTER SET ascii NOT NULL DEFAULT '',
    spec LONGTEXT NOT NULL,
    KEY task_claim (state, lane_id, priority, id),
    KEY task_due (state, run_at),
    KEY task_job (job_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS attempt (
    id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    task_id BIGINT NOT NULL,
    number INT NOT NULL,
    worker_id BIGINT NOT NULL,
    host VARCHAR(255) NOT NULL,
    state VARCHAR(16) CHARACTER SET ascii NOT NULL,
    started DATETIME(6) NOT NULL,
    finished DATETIME(6) NULL,
    message TEXT NOT NULL,
    reason VARCHAR(32) CHARACTER SET ascii NOT NULL DEFAULT '',
    commands LONGTEXT NOT NULL,
    ffmpeg VARCHAR(255) NOT NULL DEFAULT '',
    exit_status INT NULL,
    cpu_seconds DOUBLE NULL,
    peak_memory BIGINT NULL,
    wall_seconds DOUBLE NULL,
    log VARCHAR(1024) NOT NULL DEFAULT '',
    log_size BIGINT NULL,
    report LONGTEXT NOT NULL,
    UNIQUE KEY attempt_number (task_id, number)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci;

CREATE TABLE IF NOT EXISTS worker (
    id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    host VARCHAR(255) NOT NULL,
    pid INT NOT NULL,
    slots INT NOT NULL,
    queues VARCHAR(1000) NOT NULL,
    tags VARCHAR(1000) NOT NULL,
    state VARCHAR(16) CHARACTER SET ascii NOT NULL,
    started DATETIME(6) NOT NULL,
    heartbeat DATETIME(6) NOT NULL,
    lease DOUBLE NOT NULL,
    version VARCHAR(64) NOT NULL,
    KEY worker_state (state)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS event (
    id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    at DATETIME(6) NOT NULL,
    actor VARCHAR(255) NOT NULL,
    action VARCHAR(64) CHARACTER SET ascii NOT NULL,
    subject VARCHAR(128) NOT NULL,
    job_id BIGINT NULL,
    task_id BIGINT NULL,
    detail TEXT NOT NULL,
    reason VARCHAR(32) CHARACTER SET ascii NOT NULL DEFAULT '',
    host VARCHAR(255) NOT NULL DEFAULT '',
    KEY event_job (job_id),
    KEY event_actor (actor),
    KEY event_action (action)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci;

-- active_key: digest of target and path while published, so that one place
-- has one publication; NULL once retracted.
CREATE TABLE IF NOT EXISTS publication (
    id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    active_key CHAR(64) CHARACTER SET ascii NULL,
    file_id BIGINT NOT NULL,
    job_id BIGINT NOT NULL,
    task_id BIGINT NOT NULL,
    target VARCHAR(64) NOT NULL,
    path VARCHAR(2000) NOT NULL,
    href TEXT NOT NULL,
    state VARCHAR(16) CHARACTER SET ascii NOT NULL,
    tree TINYINT(1) NOT NULL,
    sha256 CHAR(64) CHARACTER SET ascii NOT NULL,
    size BIGINT NOT NULL,
    published DATETIME(6) NOT NULL,
    retracted DATETIME(6) NULL,
    UNIQUE KEY publication_active (active_key),
    KEY publication_job (job_id),
    KEY publication_file (file_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS delivery (
    id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    task_id BIGINT NOT NULL,
    number INT NOT NULL,
    at DATETIME(6) NOT NULL,
    url TEXT NOT NULL,
    status INT NOT NULL,
    message TEXT NOT NULL,
    seconds DOUBLE NOT NULL,
    KEY delivery_task (task_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci;

-- The scheduler that moves next_run on has the run: there is no other lock.
CREATE TABLE IF NOT EXISTS schedule (
    name VARCHAR(64) NOT NULL PRIMARY KEY,
    cron VARCHAR(255) NOT NULL,
    next_run DATETIME(6) NOT NULL,
    last_run DATETIME(6) NULL,
    last_job BIGINT NULL,
    message TEXT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- What a watch folder has taken, a row for each path: place is the path's SHA-256.
-- identity tells of the content (arrivals.py); size, changed (nanoseconds) and inode are
-- as they were when last seen. checked: sha256, of the whole, was made for them; 0 asks
-- for it, for comparison if there is one. A file with no job_id was refused, for which message gives
-- the reason, and is tried again. A sidecar has the job of its film. moved: it has been
-- moved away after its job; another file at this path is a new one.
CREATE TABLE IF NOT EXISTS watched (
    watch VARCHAR(64) NOT NULL,
    place CHAR(64) CHARACTER SET ascii NOT NULL,
    href VARCHAR(3000) CHARACTER SET ascii NOT NULL,
    identity CHAR(64) CHARACTER SET ascii NOT NULL,
    size BIGINT NOT NULL,
    changed BIGINT NOT NULL,
    inode BIGINT NOT NULL,
    job_id BIGINT NULL,
    moved TINYINT(1) NOT NULL,
    sha256 CHAR(64) CHARACTER SET ascii NOT NULL DEFAULT '',
    checked TINYINT(1) NOT NULL DEFAULT 0,
    message TEXT NOT NULL,
    taken DATETIME(6) NOT NULL,
    PRIMARY KEY (watch, place),
    KEY watched_inode (watch, inode),
    KEY watched_moved (watch, moved),
    KEY watched_checked (watch, checked)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- The last event of each kind that each [alert NAME] has sent, see alerts.py. The
-- scheduler that moves next_try on may send until then. failing: since when no try succeeded.
CREATE TABLE IF NOT EXISTS alert (
    name VARCHAR(64) NOT NULL,
    kind VARCHAR(64) CHARACTER SET ascii NOT NULL,
    last_event BIGINT NOT NULL,
    next_try DATETIME(6) NOT NULL,
    failing DATETIME(6) NULL,
    PRIMARY KEY (name, kind)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- Disks that are low according to the history.
CREATE TABLE IF NOT EXISTS low_disk (
    host VARCHAR(255) NOT NULL,
    name VARCHAR(128) NOT NULL,
    since DATETIME(6) NOT NULL,
    PRIMARY KEY (host, name)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- digest: SHA-256 of the secret, which is stored nowhere.
CREATE TABLE IF NOT EXISTS token (
    id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    name VARCHAR(128) NOT NULL,
    role VARCHAR(16) CHARACTER SET ascii NOT NULL,
    digest CHAR(64) CHARACTER SET ascii NOT NULL,
    created DATETIME(6) NOT NULL,
    created_by VARCHAR(255) NOT NULL,
    expires DATETIME(6) NULL,
    revoked DATETIME(6) NULL,
    last_used DATETIME(6) NULL,
    UNIQUE KEY token_digest (digest)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- Counters of all processes, for Prometheus; see counter_store.py. labels: their
-- values, as a list in JSON.
CREATE TABLE IF NOT EXISTS counter (
    name VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    labels VARCHAR(255) NOT NULL,
    value DOUBLE NOT NULL,
    PRIMARY KEY (name, labels)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- Filled by the scheduler, see search.py: words are of ASCII alone, each with
-- a blank before it. What is deleted stays in InnoDB's own lists until
-- OPTIMIZE TABLE job_search, file_search; a big site should run it now and then.
CREATE TABLE IF NOT EXISTS job_search (
    id BIGINT NOT NULL PRIMARY KEY,
    words MEDIUMTEXT CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    FULLTEXT KEY job_search_words (words)
) ENGINE=InnoDB DEFAULT CHARSET=ascii COLLATE=ascii_bin;

CREATE TABLE IF NOT EXISTS file_search (
    id BIGINT NOT NULL PRIMARY KEY,
    words MEDIUMTEXT CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    FULLTEXT KEY file_search_words (words)
) ENGINE=InnoDB DEFAULT CHARSET=ascii COLLATE=ascii_bin;
