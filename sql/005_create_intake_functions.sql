-- What is known about a file before and beside its bytes: whether its request was served before (Idempotency-Key), and
-- whether its bytes were. Runnable by `psql -f` after 001_create_rpc_functions.sql.

-- The earlier job of the same owner that has brought the same bytes to the same dataset, if one did and has not failed.
-- The lock makes two equal files that are completed at the same moment see each other. The job that is found is locked
-- until it is referred to: one that is being deleted is not there any more.
CREATE OR REPLACE FUNCTION ingest.find_duplicate(p_job ingest.jobs, p_sha256 bytea) RETURNS uuid LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext(p_job.dataset), hashtext(encode(p_sha256, 'hex')));
    RETURN (SELECT id FROM ingest.jobs
             WHERE sha256 = p_sha256 AND dataset = p_job.dataset AND owner IS NOT DISTINCT FROM p_job.owner
               AND state IN ('pending', 'processing', 'paused', 'completed') AND mode <> 'validate'
             ORDER BY created_at, id LIMIT 1 FOR KEY SHARE);
END $$;

-- Take an Idempotency-Key, to serve its request: 'held'. 'busy' when the request is being served at the moment, 'served'
-- when all of its `parts` files are in, so that nothing is left to do but to compare them. A holder that has been silent
-- for p_silence is dead; what it has begun is failed first, so that it cannot come back and complete it.
CREATE OR REPLACE FUNCTION ingest.begin_request(p_owner text, p_key text, p_holder uuid, p_silence interval, p_ttl interval,
                                                OUT outcome text, OUT held_key bigint, OUT parts integer)
LANGUAGE plpgsql AS $$
DECLARE
    v_key ingest.request_keys;
    v_job uuid;
BEGIN
    LOOP
        INSERT INTO ingest.request_keys AS k (owner, key, holder, expires_at)
        VALUES (p_owner, p_key, p_holder, clock_timestamp() + p_ttl)
            ON CONFLICT DO NOTHING RETURNING k.id INTO held_key;
        IF FOUND THEN
            outcome := 'held';
            RETURN;
        END IF;
        SELECT * INTO v_key FROM ingest.request_keys k
         WHERE k.key = p_key AND k.owner IS NOT DISTINCT FROM p_owner FOR NO KEY UPDATE;
        EXIT WHEN FOUND;                        -- else it was removed since
    END LOOP;
    held_key := v_key.id;
    IF v_key.holder IS NOT NULL AND v_key.renewed_at > clock_timestamp() - p_silence THEN
        outcome := 'busy';
        RETURN;
    END IF;
    FOR v_job IN SELECT id FROM ingest.jobs WHERE request_key = held_key AND state = 'receiving' LOOP
        PERFORM ingest.fail_upload(v_job, 'E_UPLOAD_GONE', 'the request was sent again');
    END LOOP;
    IF v_key.expires_at < clock_timestamp() THEN
        UPDATE ingest.jobs SET request_key = NULL WHERE request_key = held_key;
        v_key.parts := NULL;
        UPDATE ingest.request_keys SET expires_at = clock_timestamp() + p_ttl WHERE id = held_key;
    END IF;
    outcome := 'held';
    IF v_key.parts = (SELECT count(*) FROM ingest.jobs WHERE request_key = held_key AND sha256 IS NOT NULL) THEN
        outcome := 'served';
        parts := v_key.parts;
    END IF;
    UPDATE ingest.request_keys k
       SET holder = CASE outcome WHEN 'held' THEN p_holder END, parts = begin_request.parts, renewed_at = clock_timestamp()
     WHERE k.id = held_key;
END $$;

-- The request has ended: served, with p_parts files, or broken (NULL). A key of which no file is in may be used again, for
-- whatever request; otherwise the same request goes on where it broke.
CREATE OR REPLACE FUNCTION ingest.end_request(p_key bigint, p_holder uuid, p_parts integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM ingest.request_keys WHERE id = p_key AND holder = p_holder FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN;                                 -- taken over
    ELSIF EXISTS (SELECT FROM ingest.jobs WHERE request_key = p_key AND sha256 IS NOT NULL) THEN
        UPDATE ingest.request_keys SET holder = NULL, parts = p_parts WHERE id = p_key;
    ELSE
        DELETE FROM ingest.request_keys WHERE id = p_key;
    END IF;
END $$;

-- Whether a file of a request is in already, by another job than the one that asks. Locks the key against that other.
CREATE OR REPLACE FUNCTION ingest.is_served(p_key bigint, p_part integer) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM ingest.request_keys WHERE id = p_key FOR NO KEY UPDATE;
    RETURN EXISTS (SELECT FROM ingest.jobs WHERE request_key = p_key AND request_part = p_part AND sha256 IS NOT NULL);
END $$;

-- A whole file at once: its job and its one chunk, claimable with this. `refusal` is which limit of the key the job would
-- exceed; then nothing was written. `outcome` and `duplicate` are as of ingest.complete_upload; unless it is 'complete' the
-- job is there, as one that is being received and has no chunk, and is to be failed by ingest.fail_upload.
CREATE OR REPLACE FUNCTION ingest.receive_job(
    p_id uuid, p_dataset text, p_filename text, p_priority smallint, p_queue text, p_spec jsonb, p_bytes bigint, p_mode text,
    p_parent uuid, p_max_rejects bigint, p_max_rejects_percent float8, p_in_order boolean, p_max_stored_rejects bigint,
    p_load text, p_compression text, p_refuse_duplicate boolean, p_request_key bigint, p_request_part integer,
    p_request_fingerprint bytea, p_owner text, p_key uuid,
    p_ordinal integer, p_object_key text, p_object_offset bigint, p_length_bytes bigint, p_file_offset bigint,
    p_first_line bigint, p_records bigint, p_batch_ends bigint[], p_batch_records bigint[], p_batch_lines bigint[],
    p_batch_blanks bigint[], p_batch_offsets bigint[], p_table_end bigint, p_sha256 bytea,
    OUT refusal text, OUT outcome text, OUT duplicate uuid, OUT written_at timestamptz)
LANGUAGE plpgsql AS $$
DECLARE
    v_job ingest.jobs;
    v_whole boolean;
BEGIN
    PERFORM ingest.hush();
    IF p_key IS NOT NULL THEN
        refusal := ingest.job_refusal(p_key);
        IF refusal IS NOT NULL THEN
            RETURN;
        END IF;
    END IF;
    outcome := 'gone';
    IF p_request_key IS NULL OR NOT ingest.is_served(p_request_key, p_request_part) THEN
        v_job.dataset := p_dataset;
        v_job.owner := p_owner;
        duplicate := ingest.find_duplicate(v_job, p_sha256);
        outcome := CASE WHEN duplicate IS NOT NULL AND p_refuse_duplicate THEN 'duplicate' ELSE 'complete' END;
    END IF;
    v_whole := outcome = 'complete';
    written_at := clock_timestamp();
    INSERT INTO ingest.jobs (id, dataset, filename, state, mode, priority, queue, spec, bytes_total, bytes_received, records,
                             sha256, parent_id, max_rejects, max_rejects_percent, in_order, max_stored_rejects, load,
                             compression, refuse_duplicate, duplicate_of, request_key, request_part, request_fingerprint,
                             owner, key_id, created_at, updated_at)
    VALUES (p_id, p_dataset, p_filename, CASE WHEN v_whole THEN 'pending' ELSE 'receiving' END, p_mode, p_priority, p_queue,
            p_spec, p_bytes, CASE WHEN v_whole THEN p_bytes ELSE 0 END, CASE WHEN v_whole THEN p_records END,
            CASE WHEN v_whole THEN p_sha256 END, p_parent, p_max_rejects, p_max_rejects_percent, p_in_order,
            p_max_stored_rejects, p_load, p_compression, p_refuse_duplicate, CASE WHEN v_whole THEN duplicate END,
            p_request_key, p_request_part, p_request_fingerprint, p_owner, p_key, written_at, written_at);
    IF NOT v_whole THEN
        RETURN;
    END IF;
    INSERT INTO ingest.chunks (job_id, ordinal, queue, priority, state, object_key, object_offset, length_bytes, file_offset,
                               first_line, records, batch_ends, batch_records, batch_lines, batch_blanks, batch_offsets,
                               table_end)
    VALUES (p_id, p_ordinal, p_queue, p_priority, 'pending', p_object_key, p_object_offset, p_length_bytes, p_file_offset,
            p_first_line, p_records, p_batch_ends, p_batch_records, p_batch_lines, p_batch_blanks, p_batch_offsets,
            p_table_end);
    PERFORM ingest.announce(p_id);
    PERFORM ingest.announce_work(p_queue);
END $$;
