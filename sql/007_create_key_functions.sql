-- What API keys may use: jobs and bytes, counted where all processes see it; and the sessions begun with them.
-- Runnable by `psql -f` after 000_create_tables.sql.

-- Whether a key has as many jobs that have not ended as it may have. Its row is locked until the caller's transaction ends
-- if that matters, so that of two jobs at once the second sees the first.
CREATE OR REPLACE FUNCTION ingest.at_open_jobs_limit(p_key uuid) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_limit integer;
BEGIN
    SELECT open_jobs INTO v_limit FROM ingest.keys WHERE id = p_key;
    IF v_limit IS NULL THEN
        RETURN false;
    END IF;
    PERFORM FROM ingest.keys WHERE id = p_key FOR NO KEY UPDATE;
    RETURN v_limit <= (SELECT count(*) FROM ingest.jobs
                        WHERE key_id = p_key AND state IN ('receiving', 'pending', 'processing', 'paused'));
END $$;

-- Whether a key may make another job now: NULL, or which of its limits says no ('open_jobs', 'jobs_per_second').
-- The key's row is locked until the caller's transaction ends, so that of two jobs at once the second sees the first.
CREATE OR REPLACE FUNCTION ingest.job_refusal(p_key uuid) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_key ingest.keys;
BEGIN
    IF ingest.at_open_jobs_limit(p_key) THEN
        RETURN 'open_jobs';
    END IF;
    SELECT * INTO v_key FROM ingest.keys WHERE id = p_key AND jobs_per_second IS NOT NULL FOR NO KEY UPDATE;
    -- As a window: of the last max(1, rate) jobs, the first was made more than max(1, rate) / rate seconds ago.
    IF FOUND
       AND greatest(floor(v_key.jobs_per_second), 1) <= (
           SELECT count(*) FROM ingest.jobs
            WHERE key_id = p_key AND created_at > clock_timestamp()
                  - make_interval(secs => greatest(floor(v_key.jobs_per_second), 1) / v_key.jobs_per_second)) THEN
        RETURN 'jobs_per_second';
    END IF;
    RETURN NULL;
END $$;

-- Take up to p_want bytes of what a key may still send today (UTC). What is granted is counted at once, so that
-- processes which ask at the same time never grant more than there is; what is not used in the end is given back.
CREATE OR REPLACE FUNCTION ingest.take_bytes(p_key uuid, p_want bigint, OUT granted bigint, OUT remaining bigint,
                                             OUT day date, OUT resets_in_s bigint) LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamp := clock_timestamp() AT TIME ZONE 'UTC';
    v_used bigint;
BEGIN
    day := v_now::date;
    resets_in_s := ceil(extract(epoch FROM day + 1 - v_now));
    SELECT bytes_per_day INTO remaining FROM ingest.keys WHERE id = p_key;
    INSERT INTO ingest.key_usage AS u (key_id, day, bytes) VALUES (p_key, take_bytes.day, 0)
        ON CONFLICT ON CONSTRAINT key_usage_pkey DO NOTHING;
    IF FOUND THEN
        DELETE FROM ingest.key_usage u WHERE u.key_id = p_key AND u.day < take_bytes.day - 31;
    END IF;
    SELECT u.bytes INTO v_used FROM ingest.key_usage u WHERE u.key_id = p_key AND u.day = take_bytes.day FOR UPDATE;
    granted := greatest(least(p_want, coalesce(remaining - v_used, p_want)), 0);
    UPDATE ingest.key_usage u SET bytes = u.bytes + granted WHERE u.key_id = p_key AND u.day = take_bytes.day;
    -- Not by greatest(): of a key without a limit that would make 0, since it looks past NULL.
    remaining := CASE WHEN remaining - v_used < granted THEN 0 ELSE remaining - v_used - granted END;
END $$;

-- Begin a session with a key. A key has at most 100: the one that would end first makes room.
CREATE OR REPLACE FUNCTION ingest.begin_session(p_key uuid, p_token bytea, p_life interval) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM ingest.keys WHERE id = p_key FOR NO KEY UPDATE;
    DELETE FROM ingest.sessions
     WHERE token_sha256 IN (SELECT token_sha256 FROM ingest.sessions WHERE key_id = p_key ORDER BY expires_at DESC OFFSET 99);
    INSERT INTO ingest.sessions (token_sha256, key_id, expires_at) VALUES (p_token, p_key, clock_timestamp() + p_life);
END $$;
