-- What people do to a job: cancel, pause, resume, change its priority, delete it. Each is one conditional step and leaves
-- a line in the audit. They return 'done', or else the state in which the job was found and which forbids it, or NULL
-- when there is no such job.
-- Runnable by `psql -f` after 001_create_rpc_functions.sql.

-- How many lines the audit keeps of one job: whoever pauses and resumes for ever must not fill the disk.
CREATE OR REPLACE FUNCTION ingest.note_audit(p_job uuid, p_actor text, p_action text, p_detail jsonb) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ingest.audit (actor, action, job_id, detail) VALUES (p_actor, p_action, p_job, p_detail);
    DELETE FROM ingest.audit
     WHERE job_id = p_job
       AND id <= (SELECT id FROM ingest.audit WHERE job_id = p_job ORDER BY id DESC OFFSET 1000 LIMIT 1);
END $$;

-- End a job for good. After the commit of this no batch of it is committed any more: the fence finds the chunks
-- cancelled. What was committed before stays, and the message says how much; of a load as a whole nothing stays.
-- A file that is still being received is no longer wanted: its upload learns that when it adds or reports something.
CREATE OR REPLACE FUNCTION ingest.cancel_job(p_job uuid, p_actor text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_job ingest.jobs;
    v_total record;
BEGIN
    PERFORM FROM ingest.uploads WHERE job_id = p_job FOR UPDATE;
    v_job := ingest.lock_open_job(p_job, ARRAY['receiving', 'pending', 'processing', 'paused']);
    IF v_job.id IS NULL THEN
        RETURN (SELECT state FROM ingest.jobs WHERE id = p_job);
    END IF;
    SELECT * INTO v_total FROM ingest.count_committed(p_job);
    IF v_job.mode <> 'batches' THEN
        v_total.rejected := (SELECT count(DISTINCT line) FROM ingest.rejects WHERE job_id = p_job);
    END IF;
    UPDATE ingest.uploads SET state = 'failed', error_code = 'E_UPLOAD_GONE', error_message = 'its job was cancelled'
     WHERE job_id = p_job AND state = 'open';
    PERFORM ingest.cancel_chunks(p_job);
    DELETE FROM ingest.chunks WHERE job_id = p_job AND state = 'receiving';
    UPDATE ingest.jobs
       SET state = 'cancelled', error_code = 'E_CANCELLED',
           error_message = ingest.cancel_message(v_job, v_total.inserted + v_total.updated + v_total.unchanged),
           inserted = v_total.inserted, updated = v_total.updated, unchanged = v_total.unchanged,
           skipped = v_total.skipped, rejected = v_total.rejected,
           finished_at = clock_timestamp(), updated_at = clock_timestamp()
     WHERE id = p_job;
    PERFORM ingest.note_audit(p_job, p_actor, 'cancel', jsonb_build_object(
        'was', v_job.state, 'records', v_total.records, 'inserted', v_total.inserted, 'updated', v_total.updated,
        'unchanged', v_total.unchanged, 'skipped', v_total.skipped, 'rejected', v_total.rejected));
    PERFORM ingest.announce(p_job);
    RETURN 'done';
END $$;

-- What to tell a person about it.
CREATE OR REPLACE FUNCTION ingest.cancel_message(p_job ingest.jobs, p_rows bigint) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN p_job.state = 'receiving' AND p_rows = 0
                THEN 'cancelled while the file was being received; nothing of it is in the table'
                WHEN p_job.mode <> 'batches' THEN 'cancelled; the table is as it was'
                WHEN p_rows = 0 THEN 'cancelled; nothing of the file is in the table'
                ELSE format('cancelled; %s rows of the file are in the table and stay there', p_rows) END
$$;

-- Let a job rest: its chunks are taken back, and after the commit of this no batch of it is committed until it is
-- resumed. What runs rolls back and is not counted as a try. run_at tells a claim that has looked at the job too early:
-- it looks again at the chunk that it has waited for, but not at the job.
CREATE OR REPLACE FUNCTION ingest.pause_job(p_job uuid, p_actor text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_job ingest.jobs;
BEGIN
    v_job := ingest.lock_open_job(p_job, ARRAY['pending', 'processing']);
    IF v_job.id IS NULL THEN
        RETURN (SELECT state FROM ingest.jobs WHERE id = p_job);
    END IF;
    PERFORM ingest.drop_leases(p_job);
    UPDATE ingest.chunks
       SET attempt = attempt - CASE state WHEN 'processing' THEN 1 ELSE 0 END, state = 'pending', crash_count = 0,
           run_at = 'infinity'
     WHERE job_id = p_job AND state IN ('pending', 'processing');
    UPDATE ingest.jobs SET state = 'paused', updated_at = clock_timestamp() WHERE id = p_job;
    PERFORM ingest.note_audit(p_job, p_actor, 'pause', jsonb_build_object('was', v_job.state));
    PERFORM ingest.announce(p_job);
    RETURN 'done';
END $$;

-- Go on with a job that rests, from where its ledger ends.
CREATE OR REPLACE FUNCTION ingest.resume_job(p_job uuid, p_actor text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_job ingest.jobs;
BEGIN
    v_job := ingest.lock_open_job(p_job, ARRAY['paused']);
    IF v_job.id IS NULL THEN
        RETURN (SELECT state FROM ingest.jobs WHERE id = p_job);
    END IF;
    -- One moment for all of them, so that they are claimed in the order of the file.
    UPDATE ingest.chunks SET run_at = now() WHERE job_id = p_job AND state = 'pending';
    UPDATE ingest.jobs SET state = 'pending', updated_at = clock_timestamp() WHERE id = p_job;
    PERFORM ingest.note_audit(p_job, p_actor, 'resume', '{}');
    PERFORM ingest.announce(p_job);
    PERFORM ingest.announce_work(v_job.queue);
    RETURN 'done';
END $$;

-- Say how soon the open chunks of a job are claimed, those that are still to come included.
CREATE OR REPLACE FUNCTION ingest.prioritise_job(p_job uuid, p_actor text, p_priority smallint) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    v_job ingest.jobs;
BEGIN
    v_job := ingest.lock_open_job(p_job, ARRAY['receiving', 'pending', 'processing', 'paused']);
    IF v_job.id IS NULL THEN
        RETURN (SELECT state FROM ingest.jobs WHERE id = p_job);
    END IF;
    UPDATE ingest.chunks SET priority = p_priority
     WHERE job_id = p_job AND state IN ('receiving', 'pending', 'processing') AND priority <> p_priority;
    UPDATE ingest.jobs SET priority = p_priority, updated_at = clock_timestamp() WHERE id = p_job;
    PERFORM ingest.note_audit(p_job, p_actor, 'prioritise', jsonb_build_object('was', v_job.priority, 'priority', p_priority));
    PERFORM ingest.announce(p_job);
    RETURN 'done';
END $$;

-- Forget a job that has ended: its chunks, leases, ledger and rejects go with it; its rows in the table stay, and so does
-- its audit. Objects are the caller's to remove, after the commit. A resumable upload of the job that is still open ends
-- with it: it would write the job anew, and load what was cancelled.
CREATE OR REPLACE FUNCTION ingest.delete_job(p_job uuid, p_actor text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_job ingest.jobs;
BEGIN
    PERFORM FROM ingest.uploads WHERE job_id = p_job FOR UPDATE;
    PERFORM ingest.pass_gate(p_job);
    PERFORM FROM ingest.chunks WHERE job_id = p_job ORDER BY id FOR UPDATE;
    SELECT * INTO v_job FROM ingest.jobs
     WHERE id = p_job AND state IN ('completed', 'failed', 'cancelled') FOR UPDATE;
    IF NOT FOUND THEN
        RETURN (SELECT state FROM ingest.jobs WHERE id = p_job);
    END IF;
    UPDATE ingest.uploads SET state = 'failed', error_code = 'E_UPLOAD_GONE', error_message = 'its job was deleted'
     WHERE job_id = p_job AND state = 'open';
    DELETE FROM ingest.rejects WHERE job_id = p_job;
    DELETE FROM ingest.jobs WHERE id = p_job;
    PERFORM ingest.note_audit(p_job, p_actor, 'delete', jsonb_build_object(
        'was', v_job.state, 'dataset', v_job.dataset, 'filename', v_job.filename, 'records', v_job.records,
        'inserted', v_job.inserted, 'updated', v_job.updated, 'unchanged', v_job.unchanged,
        'skipped', v_job.skipped, 'rejected', v_job.rejected));
    PERFORM ingest.announce(p_job);
    RETURN 'done';
END $$;
