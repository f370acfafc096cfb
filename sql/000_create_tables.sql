-- The tables of the queue. Runnable by `psql -f`; `ingest migrate` applies it once and remembers its checksum.
-- PostgreSQL 15 or newer. Everything lives in the schema "ingest"; target tables are never created here.
--
-- Rule for whoever writes a transaction: lock a chunk before its job, never the other way round. Only while a job is
-- received, its own row is locked first by whoever adds a chunk or completes it: a chunk comes in before the end or not.
-- The row of a resumable upload, and an Idempotency-Key, are locked before their jobs.

CREATE SCHEMA IF NOT EXISTS ingest;

-- An API key: its prefix finds it, the hash of its secret proves it. Limits are NULL where there are none.
CREATE TABLE IF NOT EXISTS ingest.keys (
    id                  uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    prefix              text NOT NULL UNIQUE,
    secret_sha256       bytea NOT NULL CHECK (length(secret_sha256) = 32),
    owner               text NOT NULL CHECK (owner <> ''),
    scopes              text[] NOT NULL CHECK (cardinality(scopes) >= 1
                        AND scopes <@ ARRAY['upload', 'read', 'control', 'metrics', 'admin']),
    bytes_per_day       bigint CHECK (bytes_per_day > 0),                          -- received in uploads, days in UTC
    open_jobs           integer CHECK (open_jobs > 0),                             -- not ended yet, of this key
    requests_per_second double precision CHECK (requests_per_second > 0),          -- in each process
    jobs_per_second     double precision CHECK (jobs_per_second > 0),
    created_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at          timestamptz,
    revoked_at          timestamptz,
    last_used_at        timestamptz                                                -- written once a minute at most
);

-- The bytes that a key with a limit has sent, by day (UTC).
CREATE TABLE IF NOT EXISTS ingest.key_usage (
    key_id uuid NOT NULL REFERENCES ingest.keys ON DELETE CASCADE,
    day    date NOT NULL,
    bytes  bigint NOT NULL CHECK (bytes >= 0),
    PRIMARY KEY (key_id, day)
) WITH (fillfactor = 50);

-- The session of a browser that has signed in with a key: the hash of the token in its cookie.
CREATE TABLE IF NOT EXISTS ingest.sessions (
    token_sha256 bytea PRIMARY KEY CHECK (length(token_sha256) = 32),
    key_id       uuid NOT NULL REFERENCES ingest.keys ON DELETE CASCADE,
    expires_at   timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS sessions_of_key ON ingest.sessions (key_id, expires_at DESC);
CREATE INDEX IF NOT EXISTS sessions_expiring ON ingest.sessions (expires_at);

-- An Idempotency-Key: one request of a client, which makes its jobs once however often it is sent. Whoever serves the
-- request holds the key and renews it; the jobs themselves say which of its files are in.
CREATE TABLE IF NOT EXISTS ingest.request_keys (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner      text,                                    -- NULL: no API keys in use
    key        text NOT NULL,
    holder     uuid,                                    -- the request that is being served, if one is
    renewed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    parts      integer CHECK (parts >= 1),              -- files of the request, once it was served to its end
    expires_at timestamptz NOT NULL,
    UNIQUE NULLS NOT DISTINCT (key, owner)
);
CREATE INDEX IF NOT EXISTS request_keys_expiring ON ingest.request_keys (expires_at);

-- A job: one uploaded file for one dataset. The totals are written once, when the job ends; until then they are
-- the sum over its chunks and the ledger (ingest.job_view).
CREATE TABLE IF NOT EXISTS ingest.jobs (
    id             uuid PRIMARY KEY,
    dataset        text NOT NULL,
    filename       text NOT NULL,
    state          text NOT NULL DEFAULT 'receiving'
                   CHECK (state IN ('receiving', 'pending', 'processing', 'paused', 'completed', 'failed', 'cancelled')),
    mode           text NOT NULL DEFAULT 'batches' CHECK (mode IN ('batches', 'atomic', 'validate')),
    priority       smallint NOT NULL DEFAULT 5 CHECK (priority BETWEEN 0 AND 9),   -- 9 runs first
    queue          text NOT NULL DEFAULT 'default',
    spec           jsonb NOT NULL,                                                 -- pinned: what the header and the catalogue said
    bytes_total    bigint CHECK (bytes_total >= 0),
    bytes_received bigint NOT NULL DEFAULT 0 CHECK (bytes_received >= 0),
    records        bigint CHECK (records >= 0),                                    -- known when the upload is complete
    sha256         bytea CHECK (length(sha256) = 32),
    inserted       bigint NOT NULL DEFAULT 0,
    updated        bigint NOT NULL DEFAULT 0,
    unchanged      bigint NOT NULL DEFAULT 0,
    skipped        bigint NOT NULL DEFAULT 0,
    rejected       bigint NOT NULL DEFAULT 0,
    error_code     text,
    error_message  text,
    parent_id      uuid REFERENCES ingest.jobs ON DELETE SET NULL,                  -- whose rejects this file corrects
    max_rejects    bigint CHECK (max_rejects >= 0),                                -- the error budget, as a count
    max_rejects_percent double precision CHECK (max_rejects_percent BETWEEN 0 AND 100),        -- or as a share of the records read
    max_stored_rejects bigint NOT NULL DEFAULT 100000 CHECK (max_stored_rejects >= 0),          -- rejected records kept to look at
    in_order       boolean NOT NULL DEFAULT false,                                 -- chunks one after the other
    load           text NOT NULL DEFAULT 'after_upload' CHECK (load IN ('after_upload', 'while_uploading')),
    compression    text CHECK (compression IN ('gzip', 'zstd', 'bzip2')),          -- of the file as it was sent
    refuse_duplicate boolean NOT NULL DEFAULT false,
    duplicate_of   uuid REFERENCES ingest.jobs ON DELETE SET NULL,                  -- an earlier job with the same bytes
    request_key    bigint REFERENCES ingest.request_keys ON DELETE SET NULL,
    request_part   integer CHECK (request_part >= 1),
    request_fingerprint bytea,                                                     -- SHA-256 of what was asked
    bytes_tried    bigint NOT NULL DEFAULT 0,                                      -- how far a load as a whole has come, at best
    owner          text,                                                           -- whose it is; NULL: sent without a key
    key_id         uuid REFERENCES ingest.keys ON DELETE SET NULL,                 -- the key it was sent with
    created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at     timestamptz,
    finished_at    timestamptz,
    updated_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT finished_if_final CHECK ((finished_at IS NOT NULL) = (state IN ('completed', 'failed', 'cancelled'))),
    CONSTRAINT failed_has_reason CHECK ((state = 'failed') <= (error_code IS NOT NULL)),
    CONSTRAINT completed_adds_up CHECK (state <> 'completed'
                                        OR records = inserted + updated + unchanged + skipped + rejected),
    CONSTRAINT whole_if_loaded_as_such CHECK (load = 'after_upload' OR mode = 'batches')
);
-- With what jobs are filtered by, so that those of a name are found in the index alone.
CREATE INDEX IF NOT EXISTS jobs_newest_first ON ingest.jobs (created_at DESC, id DESC)
    INCLUDE (filename, state, dataset, owner);
-- With id, so that a page of them and their number are found in the index alone.
CREATE INDEX IF NOT EXISTS jobs_of_state ON ingest.jobs (state, created_at DESC, id DESC);
CREATE INDEX IF NOT EXISTS jobs_of_dataset ON ingest.jobs (dataset, created_at DESC, id DESC) INCLUDE (state);
CREATE INDEX IF NOT EXISTS jobs_ended ON ingest.jobs (finished_at)
    INCLUDE (state, bytes_total, inserted, updated, unchanged, skipped, rejected) WHERE finished_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS jobs_of_owner ON ingest.jobs (owner, created_at DESC, id DESC) WHERE owner IS NOT NULL;
CREATE INDEX IF NOT EXISTS jobs_of_key ON ingest.jobs (key_id, created_at) WHERE key_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS jobs_open_of_key ON ingest.jobs (key_id)
    WHERE key_id IS NOT NULL AND state IN ('receiving', 'pending', 'processing', 'paused');
CREATE INDEX IF NOT EXISTS jobs_receiving ON ingest.jobs (updated_at) WHERE state = 'receiving';
CREATE INDEX IF NOT EXISTS jobs_by_content ON ingest.jobs (sha256, dataset) WHERE sha256 IS NOT NULL;
CREATE INDEX IF NOT EXISTS jobs_duplicates ON ingest.jobs (duplicate_of) WHERE duplicate_of IS NOT NULL;
-- A request makes each of its jobs once: only a job whose upload is complete has a sha256.
CREATE UNIQUE INDEX IF NOT EXISTS jobs_of_request ON ingest.jobs (request_key, request_part) WHERE sha256 IS NOT NULL;
CREATE INDEX IF NOT EXISTS jobs_by_request ON ingest.jobs (request_key) WHERE request_key IS NOT NULL;
CREATE INDEX IF NOT EXISTS jobs_open ON ingest.jobs (id) WHERE state IN ('pending', 'processing', 'paused');

-- A resumable upload: the byte-receiving side of a job, over any number of requests. Its job is written when the header
-- has been accepted. `received` bytes are on the disk and will be there after a crash: only those are acknowledged.
CREATE TABLE IF NOT EXISTS ingest.uploads (
    id             uuid PRIMARY KEY,
    job_id         uuid NOT NULL UNIQUE,
    state          text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'completed', 'failed')),
    length         bigint CHECK (length >= 0),                 -- NULL until the client says it
    received       bigint NOT NULL DEFAULT 0 CHECK (received >= 0 AND (length IS NULL OR received <= length)),
    options        jsonb NOT NULL,
    metadata       text NOT NULL,                              -- as the client sent it
    holder         uuid,                                       -- the request that may write; the next one takes its place
    error_code     text,
    error_message  text,
    created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at     timestamptz NOT NULL,
    CONSTRAINT failed_has_reason CHECK ((state = 'failed') = (error_code IS NOT NULL)),
    CONSTRAINT completed_is_whole CHECK (state <> 'completed' OR received = length)
) WITH (fillfactor = 70);
CREATE INDEX IF NOT EXISTS uploads_expiring ON ingest.uploads (expires_at);
CREATE INDEX IF NOT EXISTS uploads_whole ON ingest.uploads (id) WHERE state = 'open' AND received = length;

-- A chunk: a record-aligned stretch of the file. The batch_* arrays are parallel, one entry a batch, written when
-- the bytes were received, so that the ledger's ranges are the same on every try.
CREATE TABLE IF NOT EXISTS ingest.chunks (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id         uuid NOT NULL REFERENCES ingest.jobs ON DELETE CASCADE,
    ordinal        integer NOT NULL CHECK (ordinal >= 0),
    state          text NOT NULL DEFAULT 'receiving'
                   CHECK (state IN ('receiving', 'pending', 'processing', 'completed', 'failed', 'cancelled')),
    queue          text NOT NULL,
    priority       smallint NOT NULL,
    run_at         timestamptz NOT NULL DEFAULT clock_timestamp(),                 -- infinity while its job is paused
    epoch          bigint NOT NULL DEFAULT 0,          -- +1 at each claim, never lowered: the fence against zombies
    attempt        integer NOT NULL DEFAULT 0,         -- tries that counted; a shutdown gives its try back
    crash_count    integer NOT NULL DEFAULT 0,         -- leases that ran out: guards against a poison chunk
    worker_id      uuid,                               -- who has it, or had it last
    object_key     text NOT NULL,
    object_offset  bigint NOT NULL CHECK (object_offset >= 0),
    length_bytes   bigint NOT NULL CHECK (length_bytes > 0),
    file_offset    bigint NOT NULL CHECK (file_offset >= 0),
    first_line     bigint NOT NULL CHECK (first_line >= 1),
    records        bigint NOT NULL CHECK (records >= 0),
    batch_ends     bigint[] NOT NULL,
    batch_records  bigint[] NOT NULL,
    batch_lines    bigint[] NOT NULL,
    batch_blanks   bigint[] NOT NULL,
    batch_offsets  bigint[] NOT NULL DEFAULT '{}',     -- where they begin in the file as sent, if that is not in UTF-8
    table_end      bigint,                             -- where in the chunk the table ends: batches from there on are rejected
    inserted       bigint NOT NULL DEFAULT 0,          -- this and the next four: written when the chunk finishes
    updated        bigint NOT NULL DEFAULT 0,
    unchanged      bigint NOT NULL DEFAULT 0,
    skipped        bigint NOT NULL DEFAULT 0,
    rejected       bigint NOT NULL DEFAULT 0,
    error_code     text,
    error_message  text,
    created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    claimed_at     timestamptz,
    finished_at    timestamptz,
    UNIQUE (job_id, ordinal),
    CONSTRAINT batches_are_parallel CHECK (cardinality(batch_ends) >= 1
        AND cardinality(batch_ends) = cardinality(batch_records)
        AND cardinality(batch_ends) = cardinality(batch_lines)
        AND cardinality(batch_ends) = cardinality(batch_blanks)
        AND cardinality(batch_offsets) IN (0, cardinality(batch_ends))
        AND batch_ends[cardinality(batch_ends)] = length_bytes),
    CONSTRAINT finished_if_final CHECK ((finished_at IS NOT NULL) = (state IN ('completed', 'failed', 'cancelled'))),
    CONSTRAINT claimed_if_processing CHECK ((state = 'processing') <= (worker_id IS NOT NULL AND claimed_at IS NOT NULL)),
    CONSTRAINT completed_adds_up CHECK (state <> 'completed'
                                        OR records = inserted + updated + unchanged + skipped + rejected)
) WITH (fillfactor = 70);
CREATE INDEX IF NOT EXISTS chunks_claimable ON ingest.chunks (queue, priority DESC, run_at, id) WHERE state = 'pending';
CREATE INDEX IF NOT EXISTS chunks_processing ON ingest.chunks (claimed_at) WHERE state = 'processing';
CREATE INDEX IF NOT EXISTS chunks_ended ON ingest.chunks (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS chunks_open ON ingest.chunks (job_id) WHERE state IN ('receiving', 'pending', 'processing');

-- A lease: a worker's right to a chunk. A row of its own, because the writers lock the chunk row FOR SHARE and a
-- heartbeat must not wait for them. No index on heartbeat_at, so that renewals stay HOT.
CREATE TABLE IF NOT EXISTS ingest.leases (
    chunk_id     bigint PRIMARY KEY REFERENCES ingest.chunks ON DELETE CASCADE,
    epoch        bigint NOT NULL,
    worker_id    uuid NOT NULL,
    heartbeat_at timestamptz NOT NULL
) WITH (fillfactor = 50);

-- The ledger: committed batches as byte ranges of their chunk. Written last in the batch's own transaction; the only
-- checkpoint there is.
CREATE TABLE IF NOT EXISTS ingest.ledger (
    chunk_id     bigint NOT NULL REFERENCES ingest.chunks ON DELETE CASCADE,
    byte_start   bigint NOT NULL,
    byte_end     bigint NOT NULL CHECK (byte_end > byte_start),
    first_line   bigint NOT NULL,
    records      bigint NOT NULL,
    inserted     bigint NOT NULL DEFAULT 0,
    updated      bigint NOT NULL DEFAULT 0,
    unchanged    bigint NOT NULL DEFAULT 0,
    skipped      bigint NOT NULL DEFAULT 0,
    rejected     bigint NOT NULL DEFAULT 0,
    epoch        bigint NOT NULL,
    committed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (chunk_id, byte_start),
    CONSTRAINT adds_up CHECK (records = inserted + updated + unchanged + skipped + rejected)
);

-- The rejects: records that could not be loaded, and why. Several rows for one record are several reasons.
-- No foreign key: a check per row would double the cost of a bad file; ingest.delete_job removes them.
CREATE TABLE IF NOT EXISTS ingest.rejects (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id      uuid NOT NULL,
    chunk_id    bigint NOT NULL,
    line        bigint NOT NULL,       -- first physical line of the record in the file, from 1
    byte_offset bigint NOT NULL,       -- of the record's first byte in the file
    column_name text,
    value       text,
    code        text NOT NULL,
    sqlstate    text,
    message     text NOT NULL,
    raw         text,                  -- the record as sent, cut at 4 KiB
    raw_bytes   bytea,                 -- the same as bytes, only where they are no valid text
    truncated   boolean NOT NULL DEFAULT false,
    resolved_by uuid,                  -- the job that loaded the corrected record
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX IF NOT EXISTS rejects_by_line ON ingest.rejects (job_id, line, id);
CREATE INDEX IF NOT EXISTS rejects_resolved ON ingest.rejects (job_id, line) WHERE resolved_by IS NOT NULL;

-- A worker: one process, so that people can see who works and since when it has been silent.
CREATE TABLE IF NOT EXISTS ingest.workers (
    id           uuid PRIMARY KEY,
    host         text NOT NULL,
    pid          integer NOT NULL,
    version      text NOT NULL,
    draining     boolean NOT NULL DEFAULT false,
    started_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    heartbeat_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);

-- The dataset definitions, every version that was ever in force. Jobs pin a version; rows are never changed.
CREATE TABLE IF NOT EXISTS ingest.datasets (
    name       text NOT NULL,
    version    integer NOT NULL CHECK (version >= 1),
    definition json NOT NULL,                                -- not jsonb, which forgets the order of columns
    sha256     bytea NOT NULL CHECK (length(sha256) = 32),   -- of what the definition says
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (name, version)
);

-- The audit: what people have done to jobs. No foreign key: it outlives what it speaks of.
CREATE TABLE IF NOT EXISTS ingest.audit (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor  text,                           -- whose key it was; NULL without keys
    action text NOT NULL,
    job_id uuid NOT NULL,
    detail jsonb NOT NULL
);
CREATE INDEX IF NOT EXISTS audit_of_job ON ingest.audit (job_id, id);

-- Pages of jobs and their number come from indexes alone, as long as the visibility map is up to date.
ALTER TABLE ingest.jobs SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500,
                             autovacuum_vacuum_insert_scale_factor = 0.01, autovacuum_vacuum_insert_threshold = 500);
ALTER TABLE ingest.chunks SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
ALTER TABLE ingest.leases SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);
