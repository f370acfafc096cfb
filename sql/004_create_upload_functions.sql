-- Resumable uploads: what a request may do to one is one conditional statement each, so that of two requests that believe
-- to hold the same upload only the newer one changes anything. Runnable by `psql -f` after 001_create_rpc_functions.sql.

-- Note that the bytes up to p_to are on the disk: when the upload expires now, or NULL when p_holder no longer has it.
CREATE OR REPLACE FUNCTION ingest.advance_upload(p_upload uuid, p_holder uuid, p_from bigint, p_to bigint, p_life interval)
RETURNS timestamptz LANGUAGE plpgsql AS $$
DECLARE
    v_upload ingest.uploads;
BEGIN
    UPDATE ingest.uploads SET received = p_to, expires_at = clock_timestamp() + p_life
     WHERE id = p_upload AND holder = p_holder AND state = 'open' AND received = p_from
    RETURNING * INTO v_upload;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    UPDATE ingest.jobs SET bytes_received = p_to, bytes_total = v_upload.length, updated_at = clock_timestamp()
     WHERE id = v_upload.job_id AND state = 'receiving';
    RETURN v_upload.expires_at;
END $$;

-- What an earlier try to unpack an upload has cut is forgotten, so that the next one begins anew; false when p_holder no
-- longer has the upload. Nothing of it can have been claimed: such a job is loaded when it is complete.
CREATE OR REPLACE FUNCTION ingest.cut_anew(p_upload uuid, p_holder uuid) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_job uuid;
BEGIN
    SELECT job_id INTO v_job FROM ingest.uploads WHERE id = p_upload AND holder = p_holder AND state = 'open' FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    DELETE FROM ingest.chunks WHERE job_id = v_job AND state = 'receiving';
    RETURN true;
END $$;

-- All bytes are there and cut: the job becomes claimable, in the transaction that ends its upload. Returns 'complete';
-- 'taken' when p_holder no longer has the upload; else what ingest.complete_upload says, and only when the database has
-- forgotten chunks has anything happened: then the upload and its job have failed.
CREATE OR REPLACE FUNCTION ingest.finish_upload(p_upload uuid, p_holder uuid, p_bytes bigint, p_sha256 bytea, p_records bigint,
                                                OUT outcome text, OUT duplicate uuid)
LANGUAGE plpgsql AS $$
DECLARE
    v_job uuid;
    v_why CONSTANT text := 'the database crashed and has forgotten parts of the file; send it again';
BEGIN
    outcome := 'taken';
    UPDATE ingest.uploads SET state = 'completed'
     WHERE id = p_upload AND holder = p_holder AND state = 'open' AND received = p_bytes AND length = p_bytes
    RETURNING job_id INTO v_job;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT c.outcome, c.duplicate INTO outcome, duplicate FROM ingest.complete_upload(v_job, p_bytes, p_sha256, p_records) AS c;
    IF outcome = 'incomplete' THEN
        UPDATE ingest.uploads SET state = 'failed', error_code = 'E_UPLOAD_INCOMPLETE', error_message = v_why WHERE id = p_upload;
        PERFORM ingest.fail_upload(v_job, 'E_UPLOAD_INCOMPLETE', v_why);
    ELSIF outcome <> 'complete' THEN
        UPDATE ingest.uploads SET state = 'open' WHERE id = p_upload;
    END IF;
END $$;

-- The file cannot be loaded: nothing more is taken, and the job, if there is one, has failed. The row stays until it
-- expires, so that the client learns why. False when p_holder no longer has the upload.
CREATE OR REPLACE FUNCTION ingest.refuse_upload(p_upload uuid, p_holder uuid, p_code text, p_message text) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    v_job uuid;
BEGIN
    UPDATE ingest.uploads SET state = 'failed', error_code = p_code, error_message = p_message
     WHERE id = p_upload AND holder = p_holder AND state = 'open'
    RETURNING job_id INTO v_job;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM ingest.fail_upload(v_job, p_code, p_message);
    RETURN true;
END $$;

-- Forget an upload; the job of one that is not complete fails for the reason given. Returns the row as it was.
CREATE OR REPLACE FUNCTION ingest.remove_upload(p_upload uuid, p_code text, p_message text) RETURNS SETOF ingest.uploads
LANGUAGE plpgsql AS $$
DECLARE
    v_upload ingest.uploads;
BEGIN
    DELETE FROM ingest.uploads WHERE id = p_upload RETURNING * INTO v_upload;
    IF FOUND THEN
        IF v_upload.state <> 'completed' THEN
            PERFORM ingest.fail_upload(v_upload.job_id, p_code, p_message);
        END IF;
        RETURN NEXT v_upload;
    END IF;
END $$;

-- Forget the uploads whose time is over; returns the jobs of those that were not complete, so that their objects can go.
CREATE OR REPLACE FUNCTION ingest.expire_uploads() RETURNS SETOF uuid LANGUAGE plpgsql AS $$
DECLARE
    v_id uuid;
BEGIN
    FOR v_id IN SELECT id FROM ingest.uploads WHERE expires_at <= clock_timestamp() ORDER BY id LIMIT 1000 FOR UPDATE SKIP LOCKED LOOP
        RETURN QUERY SELECT job_id FROM ingest.remove_upload(v_id, 'E_UPLOAD_EXPIRED', 'the upload was not completed in time')
                      WHERE state <> 'completed';
    END LOOP;
END $$;
