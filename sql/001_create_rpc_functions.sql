-- The queue's state changes as functions: each is one atomic step, and no caller changes a state by hand.
-- Runnable by `psql -f` after 000_create_tables.sql.
--
-- The fence: whoever acts on a claimed chunk names its epoch; a chunk that was taken over has a higher one, so the
-- statement of the former owner changes nothing and it learns that it is stale.
--
-- Locks are taken in one order by all: resumable upload, Idempotency-Key, the job's gate, its chunks by id, the job, leases
-- by chunk. Whoever needs several takes them so, and two that meet wait for each other, never in a circle.

-- The gate of a job, held to the end of the transaction: whoever opens chunks (adds them, completes an upload, tries them
-- again) passes it, and so does whoever locks all that are open. Else a chunk that is opened after those were locked
-- would have to be locked after the job, against its worker, which holds the chunk and waits for the job.
CREATE OR REPLACE FUNCTION ingest.pass_gate(p_job uuid) RETURNS void LANGUAGE sql AS $$
    SELECT pg_advisory_xact_lock(hashtextextended('ingest.jobs ' || p_job, 0))
$$;

-- Lock the open chunks of a job and then the job, if it is in one of these states; all fields are NULL when it is not.
-- This waits for batches that have passed the fence, so what follows sees all that was committed.
CREATE OR REPLACE FUNCTION ingest.lock_open_job(p_job uuid, p_states text[]) RETURNS ingest.jobs LANGUAGE plpgsql AS $$
DECLARE
    v_job ingest.jobs;
BEGIN
    PERFORM ingest.pass_gate(p_job);
    PERFORM FROM ingest.chunks WHERE job_id = p_job AND state IN ('pending', 'processing') ORDER BY id FOR NO KEY UPDATE;
    SELECT * INTO v_job FROM ingest.jobs WHERE id = p_job AND state = ANY (p_states) FOR NO KEY UPDATE;
    RETURN v_job;
END $$;

-- Take the open chunks of a job, which the caller has locked, from their workers.
CREATE OR REPLACE FUNCTION ingest.drop_leases(p_job uuid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_held bigint[];
BEGIN
    v_held := ARRAY(SELECT l.chunk_id FROM ingest.leases l JOIN ingest.chunks c ON c.id = l.chunk_id
                     WHERE c.job_id = p_job AND c.state IN ('pending', 'processing')
                     ORDER BY l.chunk_id FOR NO KEY UPDATE OF l);
    DELETE FROM ingest.leases WHERE chunk_id = ANY (v_held);
END $$;

-- Tell listeners that a job changed its state, and workers that there may be work. Never called in a batch transaction:
-- a pending NOTIFY takes a database-wide lock at commit.
CREATE OR REPLACE FUNCTION ingest.announce(p_job uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('ingest.hushed', true) IS DISTINCT FROM 'on' THEN
        PERFORM pg_notify('ingest_job', p_job::text);
    END IF;
END $$;

-- Leave what this transaction would announce to the caller, who does it by the statement `announce` after the COMMIT:
-- with a NOTIFY, all transactions that wait for the disk would wait for each other.
CREATE OR REPLACE FUNCTION ingest.hush() RETURNS void LANGUAGE sql AS $$
    SELECT set_config('ingest.hushed', 'on', true)
$$;

CREATE OR REPLACE FUNCTION ingest.announce_work(p_queue text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('ingest.hushed', true) IS DISTINCT FROM 'on' THEN
        PERFORM pg_notify('ingest_work', p_queue);
    END IF;
END $$;

-- What of a job is committed so far: completed chunks say it themselves, for the others the ledger does.
CREATE OR REPLACE FUNCTION ingest.count_committed(p_job uuid, OUT records bigint, OUT inserted bigint, OUT updated bigint,
                                                  OUT unchanged bigint, OUT skipped bigint, OUT rejected bigint)
LANGUAGE sql STABLE AS $$
    SELECT coalesce(sum(t.records), 0), coalesce(sum(t.inserted), 0), coalesce(sum(t.updated), 0),
           coalesce(sum(t.unchanged), 0), coalesce(sum(t.skipped), 0), coalesce(sum(t.rejected), 0)
      FROM (SELECT c.records, c.inserted, c.updated, c.unchanged, c.skipped, c.rejected
              FROM ingest.chunks c WHERE c.job_id = p_job AND c.state = 'completed'
             UNION ALL
            SELECT g.records, g.inserted, g.updated, g.unchanged, g.skipped, g.rejected
              FROM ingest.chunks c JOIN ingest.ledger g ON g.chunk_id = c.id
             WHERE c.job_id = p_job AND c.state <> 'completed' AND c.epoch > 0) AS t
$$;

-- Whether a job is over its error budget. A share is looked at from p_sample records on: of the first few it says nothing.
CREATE OR REPLACE FUNCTION ingest.is_over_budget(p_job ingest.jobs, p_records bigint, p_rejected bigint, p_sample bigint)
RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(p_rejected > p_job.max_rejects
                    OR p_records >= p_sample AND p_rejected * 100.0 > p_job.max_rejects_percent * p_records, false)
$$;

-- What to tell a person about it.
CREATE OR REPLACE FUNCTION ingest.budget_message(p_job ingest.jobs, p_records bigint, p_rejected bigint, p_rows bigint)
RETURNS text LANGUAGE sql STABLE AS $$
    SELECT format('%s of the %s records read were rejected, more than max_rejects=%s allows; ', p_rejected, p_records,
                  coalesce(p_job.max_rejects::text, p_job.max_rejects_percent || '%'))
        || CASE WHEN p_job.mode <> 'batches' THEN 'the table is as it was'
                WHEN p_records < p_job.records OR p_job.records IS NULL THEN format('%s rows of the file are in the table, the rest was not read', p_rows)
                ELSE format('%s rows of the file are in the table', p_rows) END
$$;

-- End a job when its last chunk has ended. Safe to call at any time: it does nothing while a chunk is open, or the upload.
-- The job row is locked first, whatever its state, so that of two chunks finishing at once the second sees the first, and
-- of a chunk that ends while its upload is completed one sees the other.
CREATE OR REPLACE FUNCTION ingest.settle_job(p_job uuid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_total record;
    v_job ingest.jobs;
    v_code text;
    v_message text;
BEGIN
    SELECT * INTO v_job FROM ingest.jobs WHERE id = p_job FOR NO KEY UPDATE;
    IF NOT FOUND OR v_job.state NOT IN ('pending', 'processing', 'paused')
       OR EXISTS (SELECT FROM ingest.chunks
                   WHERE job_id = p_job AND state IN ('receiving', 'pending', 'processing')) THEN
        RETURN;
    END IF;
    SELECT coalesce(sum(inserted), 0)::bigint AS inserted, coalesce(sum(updated), 0)::bigint AS updated,
           coalesce(sum(unchanged), 0)::bigint AS unchanged, coalesce(sum(skipped), 0)::bigint AS skipped,
           coalesce(sum(rejected), 0)::bigint AS rejected, coalesce(sum(records), 0)::bigint AS records,
           count(*) FILTER (WHERE state = 'failed') AS failed
      INTO v_total FROM ingest.chunks WHERE job_id = p_job;
    IF v_total.failed > 0 THEN
        SELECT error_code, CASE WHEN v_job.mode <> 'batches' THEN error_message
                                ELSE format('%s of %s chunks failed; the first: %s', v_total.failed,
                                            (SELECT count(*) FROM ingest.chunks WHERE job_id = p_job), error_message) END
          INTO v_code, v_message FROM ingest.chunks WHERE job_id = p_job AND state = 'failed' ORDER BY ordinal LIMIT 1;
    ELSIF v_total.records <> v_job.records THEN
        v_code := 'E_ACCOUNTING';
        v_message := format('the upload held %s records but the chunks account for %s', v_job.records, v_total.records);
    ELSIF ingest.is_over_budget(v_job, v_total.records, v_total.rejected, 0) THEN
        v_code := 'E_TOO_MANY_REJECTS';
        v_message := ingest.budget_message(v_job, v_total.records, v_total.rejected,
                                           v_total.inserted + v_total.updated + v_total.unchanged);
    ELSIF v_total.records > 0 AND v_total.rejected = v_total.records THEN
        v_code := 'E_ALL_REJECTED';
        v_message := format('none of the %s records could be loaded; the rejects say why', v_total.records);
    END IF;
    UPDATE ingest.jobs
       SET state = CASE WHEN v_code IS NULL THEN 'completed' ELSE 'failed' END,
           error_code = v_code, error_message = v_message,
           inserted = v_total.inserted, updated = v_total.updated, unchanged = v_total.unchanged,
           skipped = v_total.skipped, rejected = v_total.rejected,
           finished_at = clock_timestamp(), updated_at = clock_timestamp()
     WHERE id = p_job;
    PERFORM ingest.announce(p_job);
END $$;

-- Whether a chunk may be claimed beside the others of its job: all may, unless the order of the file matters (then all
-- before it must be completed) or the job is loaded as a whole (then its first chunk stands for all of them).
CREATE OR REPLACE FUNCTION ingest.has_its_turn(p_chunk ingest.chunks, p_job ingest.jobs) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT p_job.mode = 'batches' AND NOT p_job.in_order
        OR NOT EXISTS (SELECT FROM ingest.chunks e
                        WHERE e.job_id = p_chunk.job_id AND e.ordinal < p_chunk.ordinal
                          AND (p_job.mode <> 'batches' OR e.state <> 'completed'))
$$;

-- Claim up to p_limit chunks for a worker. The CTE is materialized because a sub-select with LIMIT and a row lock may be
-- run again for every row (PostgreSQL bug 15715).
CREATE OR REPLACE FUNCTION ingest.claim_chunks(p_worker uuid, p_queue text, p_limit integer)
RETURNS SETOF ingest.chunks LANGUAGE plpgsql AS $$
DECLARE
    v_chunk ingest.chunks;
    v_jobs uuid[];
    v_job uuid;
BEGIN
    PERFORM ingest.hush();
    FOR v_chunk IN
        WITH pick AS MATERIALIZED (
            SELECT c.id FROM ingest.chunks c JOIN ingest.jobs j ON j.id = c.job_id
             WHERE c.state = 'pending' AND c.queue = p_queue AND c.run_at <= clock_timestamp()
               AND (j.state IN ('pending', 'processing') OR j.state = 'receiving' AND j.load = 'while_uploading')
               AND ingest.has_its_turn(c, j)
             ORDER BY c.priority DESC, c.run_at, c.id LIMIT p_limit
               FOR NO KEY UPDATE OF c SKIP LOCKED),
        claimed AS (
            UPDATE ingest.chunks c
               SET state = 'processing', epoch = c.epoch + 1, attempt = c.attempt + 1,
                   worker_id = p_worker, claimed_at = clock_timestamp()
              FROM pick WHERE c.id = pick.id AND c.state = 'pending'
            RETURNING c.*)
        SELECT * FROM claimed ORDER BY priority DESC, run_at, id
    LOOP
        INSERT INTO ingest.leases AS l (chunk_id, epoch, worker_id, heartbeat_at)
        VALUES (v_chunk.id, v_chunk.epoch, p_worker, clock_timestamp())
            ON CONFLICT (chunk_id) DO UPDATE
           SET (epoch, worker_id, heartbeat_at) = (excluded.epoch, excluded.worker_id, excluded.heartbeat_at);
        v_jobs := v_jobs || v_chunk.job_id;
        RETURN NEXT v_chunk;
    END LOOP;
    -- In the order of their ids, so that two workers that start several jobs at once cannot deadlock.
    FOR v_job IN
        WITH begun AS MATERIALIZED (
            SELECT id FROM ingest.jobs
             WHERE id = ANY (v_jobs) AND (state = 'pending' OR state = 'receiving' AND started_at IS NULL)
             ORDER BY id FOR NO KEY UPDATE)
        UPDATE ingest.jobs j
           SET state = CASE state WHEN 'pending' THEN 'processing' ELSE state END,
               started_at = coalesce(started_at, clock_timestamp()), updated_at = clock_timestamp()
          FROM begun WHERE j.id = begun.id
        RETURNING j.id
    LOOP
        PERFORM ingest.announce(v_job);
    END LOOP;
END $$;

-- Renew a worker's leases and its own sign of life; returns the chunks it still holds.
CREATE OR REPLACE FUNCTION ingest.renew_leases(p_worker uuid, p_chunks bigint[], p_epochs bigint[], p_draining boolean)
RETURNS SETOF bigint LANGUAGE plpgsql AS $$
BEGIN
    UPDATE ingest.workers SET heartbeat_at = clock_timestamp(), draining = p_draining WHERE id = p_worker;
    RETURN QUERY
        WITH held AS MATERIALIZED (
            SELECT l.chunk_id FROM ingest.leases l JOIN unnest(p_chunks, p_epochs) AS asked(chunk_id, epoch)
                ON l.chunk_id = asked.chunk_id AND l.epoch = asked.epoch AND l.worker_id = p_worker
             ORDER BY l.chunk_id FOR NO KEY UPDATE OF l)
        UPDATE ingest.leases l SET heartbeat_at = clock_timestamp() FROM held WHERE l.chunk_id = held.chunk_id
        RETURNING l.chunk_id;
END $$;

-- Last statement of a batch's transaction: the fence and the ledger line in one. 'committed' means commit;
-- 'duplicate' (an earlier try of this batch is already in) and 'stale' (another worker has the chunk) mean roll back.
-- FOR SHARE lets the writers of one chunk pass together and makes a takeover wait; FOR KEY SHARE would not.
CREATE OR REPLACE FUNCTION ingest.commit_batch(
    p_chunk bigint, p_epoch bigint, p_start bigint, p_end bigint, p_first_line bigint, p_records bigint,
    p_inserted bigint, p_updated bigint, p_unchanged bigint, p_skipped bigint, p_rejected bigint)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_count integer;
BEGIN
    INSERT INTO ingest.ledger (chunk_id, byte_start, byte_end, first_line, records,
                               inserted, updated, unchanged, skipped, rejected, epoch)
    SELECT p_chunk, p_start, p_end, p_first_line, p_records,
           p_inserted, p_updated, p_unchanged, p_skipped, p_rejected, p_epoch
      FROM (SELECT FROM ingest.chunks WHERE id = p_chunk AND epoch = p_epoch AND state = 'processing' FOR SHARE) AS fence
        ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    IF v_count = 1 THEN
        RETURN 'committed';
    ELSIF EXISTS (SELECT FROM ingest.ledger WHERE chunk_id = p_chunk AND byte_start = p_start) THEN
        RETURN 'duplicate';
    END IF;
    RETURN 'stale';
END $$;

-- Finish a chunk whose ledger covers it without a gap. Returns 'finished', 'gap' or 'stale'.
CREATE OR REPLACE FUNCTION ingest.finish_chunk(p_chunk bigint, p_epoch bigint) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_chunk ingest.chunks;
    v_covered boolean;
BEGIN
    SELECT * INTO v_chunk FROM ingest.chunks
     WHERE id = p_chunk AND epoch = p_epoch AND state = 'processing' FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN 'stale';
    END IF;
    SELECT coalesce(bool_and(byte_start = previous_end), false) AND max(byte_end) = v_chunk.length_bytes INTO v_covered
      FROM (SELECT byte_start, byte_end, lag(byte_end, 1, 0::bigint) OVER (ORDER BY byte_start) AS previous_end
              FROM ingest.ledger WHERE chunk_id = p_chunk) AS ranges;
    IF v_covered IS NOT TRUE THEN
        RETURN 'gap';
    END IF;
    UPDATE ingest.chunks c
       SET state = 'completed', finished_at = clock_timestamp(), error_code = NULL, error_message = NULL,
           inserted = l.inserted, updated = l.updated, unchanged = l.unchanged, skipped = l.skipped, rejected = l.rejected
      FROM (SELECT sum(inserted) AS inserted, sum(updated) AS updated, sum(unchanged) AS unchanged,
                   sum(skipped) AS skipped, sum(rejected) AS rejected
              FROM ingest.ledger WHERE chunk_id = p_chunk) AS l
     WHERE c.id = p_chunk;
    DELETE FROM ingest.leases WHERE chunk_id = p_chunk;
    PERFORM ingest.settle_job(v_chunk.job_id);
    RETURN 'finished';
END $$;

-- The only batch of a chunk, and its finish, in one transaction. The COMMIT that follows in the same trip brings it to the
-- disk, since the chunk's object is removed then; what forbids it is raised: 'stale', 'duplicate' or 'gap', as both say it.
-- The lock of the finish comes first, and not after the weaker one of the batch.
CREATE OR REPLACE FUNCTION ingest.commit_only_batch(
    p_chunk bigint, p_epoch bigint, p_start bigint, p_end bigint, p_first_line bigint, p_records bigint,
    p_inserted bigint, p_updated bigint, p_unchanged bigint, p_skipped bigint, p_rejected bigint)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_outcome text;
BEGIN
    PERFORM FROM ingest.chunks WHERE id = p_chunk AND epoch = p_epoch AND state = 'processing' FOR NO KEY UPDATE;
    v_outcome := ingest.commit_batch(p_chunk, p_epoch, p_start, p_end, p_first_line, p_records,
                                     p_inserted, p_updated, p_unchanged, p_skipped, p_rejected);
    IF v_outcome = 'committed' THEN
        PERFORM ingest.hush();
        PERFORM set_config('synchronous_commit', 'on', true);
        v_outcome := ingest.finish_chunk(p_chunk, p_epoch);
    END IF;
    IF v_outcome <> 'finished' THEN
        RAISE EXCEPTION '%', v_outcome USING ERRCODE = 'IN001';
    END IF;
END $$;

-- The chunks of a job that is loaded as a whole, for whoever holds its first one; what an earlier try found is forgotten,
-- but not how far it came (bytes_tried): progress does not go backwards.
CREATE OR REPLACE FUNCTION ingest.begin_whole(p_chunk bigint, p_epoch bigint) RETURNS SETOF ingest.chunks LANGUAGE plpgsql AS $$
DECLARE
    v_job uuid;
BEGIN
    SELECT job_id INTO v_job FROM ingest.chunks WHERE id = p_chunk AND epoch = p_epoch AND state = 'processing' FOR SHARE;
    DELETE FROM ingest.rejects WHERE job_id = v_job;
    RETURN QUERY SELECT * FROM ingest.chunks WHERE job_id = v_job ORDER BY ordinal;
END $$;

-- Complete all chunks of such a job, and with them the job: the last statement of the transaction that loaded them, or the
-- only one of its own when they were only tried. The arrays are parallel. False when another worker has the job now.
CREATE OR REPLACE FUNCTION ingest.finish_whole(
    p_chunk bigint, p_epoch bigint, p_chunks bigint[], p_inserted bigint[], p_updated bigint[], p_unchanged bigint[],
    p_skipped bigint[], p_rejected bigint[])
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_job uuid;
BEGIN
    SELECT job_id INTO v_job FROM ingest.chunks
     WHERE id = p_chunk AND epoch = p_epoch AND state = 'processing' FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM FROM ingest.chunks WHERE job_id = v_job ORDER BY id FOR NO KEY UPDATE;
    UPDATE ingest.chunks c
       SET state = 'completed', finished_at = clock_timestamp(), error_code = NULL, error_message = NULL,
           inserted = n.inserted, updated = n.updated, unchanged = n.unchanged, skipped = n.skipped, rejected = n.rejected
      FROM unnest(p_chunks, p_inserted, p_updated, p_unchanged, p_skipped, p_rejected)
           AS n(id, inserted, updated, unchanged, skipped, rejected)
     WHERE c.id = n.id AND c.job_id = v_job;
    DELETE FROM ingest.leases WHERE chunk_id = p_chunk;
    PERFORM ingest.settle_job(v_job);
    RETURN true;
END $$;

-- Hand a chunk back, as a shutdown does: the try is not counted and another worker may go on at once.
CREATE OR REPLACE FUNCTION ingest.release_chunk(p_chunk bigint, p_epoch bigint, p_delay interval) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_queue text;
BEGIN
    UPDATE ingest.chunks
       SET state = 'pending', attempt = attempt - 1, crash_count = 0, run_at = clock_timestamp() + p_delay
     WHERE id = p_chunk AND epoch = p_epoch AND state = 'processing'
    RETURNING queue INTO v_queue;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    DELETE FROM ingest.leases WHERE chunk_id = p_chunk;
    PERFORM ingest.announce_work(v_queue);
    RETURN true;
END $$;

-- A worker leaves: whatever it still holds is handed back, as after a drain that was cut short.
CREATE OR REPLACE FUNCTION ingest.unregister_worker(p_worker uuid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_chunk record;
BEGIN
    FOR v_chunk IN SELECT id, epoch FROM ingest.chunks WHERE state = 'processing' AND worker_id = p_worker ORDER BY id LOOP
        PERFORM ingest.release_chunk(v_chunk.id, v_chunk.epoch, interval '0');
    END LOOP;
    DELETE FROM ingest.workers WHERE id = p_worker;
END $$;

-- A try of a chunk failed: again after p_delay, or failed for good when no retry can help or the tries are used up.
CREATE OR REPLACE FUNCTION ingest.fail_chunk(
    p_chunk bigint, p_epoch bigint, p_code text, p_message text, p_permanent boolean, p_max_attempts integer, p_delay interval)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_chunk ingest.chunks;
BEGIN
    UPDATE ingest.chunks
       SET state = CASE WHEN p_permanent OR attempt >= p_max_attempts THEN 'failed' ELSE 'pending' END,
           finished_at = CASE WHEN p_permanent OR attempt >= p_max_attempts THEN clock_timestamp() END,
           run_at = clock_timestamp() + p_delay, crash_count = 0, error_code = p_code, error_message = p_message
     WHERE id = p_chunk AND epoch = p_epoch AND state = 'processing'
    RETURNING * INTO v_chunk;
    IF NOT FOUND THEN
        RETURN 'stale';
    END IF;
    DELETE FROM ingest.leases WHERE chunk_id = p_chunk;
    PERFORM ingest.close_failed_chunk(v_chunk);
    RETURN v_chunk.state;
END $$;

-- What a failed chunk has in the table is counted from the ledger; then its job may have ended. Where no later chunk could
-- have its turn any more they fail with it, and run again with it when the job is tried again. Of a job that is loaded as
-- a whole nothing is in the table, but the rejects that were found are there.
CREATE OR REPLACE FUNCTION ingest.close_failed_chunk(p_chunk ingest.chunks) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_job ingest.jobs;
BEGIN
    IF p_chunk.state <> 'failed' THEN
        RETURN;
    END IF;
    SELECT * INTO v_job FROM ingest.jobs WHERE id = p_chunk.job_id;
    UPDATE ingest.chunks c
       SET inserted = l.inserted, updated = l.updated, unchanged = l.unchanged, skipped = l.skipped, rejected = l.rejected
      FROM (SELECT coalesce(sum(inserted), 0) AS inserted, coalesce(sum(updated), 0) AS updated,
                   coalesce(sum(unchanged), 0) AS unchanged, coalesce(sum(skipped), 0) AS skipped,
                   CASE WHEN v_job.mode = 'batches' THEN coalesce(sum(rejected), 0)
                        ELSE (SELECT count(DISTINCT line) FROM ingest.rejects WHERE job_id = v_job.id) END AS rejected
              FROM ingest.ledger WHERE chunk_id = p_chunk.id) AS l
     WHERE c.id = p_chunk.id;
    IF v_job.in_order OR v_job.mode <> 'batches' THEN
        UPDATE ingest.chunks
           SET state = 'failed', finished_at = clock_timestamp(), error_code = 'E_NOT_TRIED',
               error_message = 'an earlier part of the file failed'
         WHERE job_id = v_job.id AND state = 'pending' AND ordinal > p_chunk.ordinal;
    END IF;
    PERFORM ingest.settle_job(p_chunk.job_id);
END $$;

-- Take chunks back whose lease ran out or is missing, or whose worker is named in p_dead (found dead by whoever calls);
-- any worker may call it at any time. A chunk that has cost p_max_crashes leases in a row without a batch committed is
-- failed: it would take down every worker in turn.
CREATE OR REPLACE FUNCTION ingest.rescue_chunks(p_ttl interval, p_max_crashes integer, p_dead uuid[]) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_chunk ingest.chunks;
    v_count integer := 0;
BEGIN
    FOR v_chunk IN
        WITH dead AS MATERIALIZED (
            SELECT c.id, c.epoch,
                   CASE WHEN EXISTS (SELECT FROM ingest.ledger g WHERE g.chunk_id = c.id AND g.epoch = c.epoch)
                        THEN 1 ELSE c.crash_count + 1 END AS crashes
              FROM ingest.chunks c LEFT JOIN ingest.leases l ON l.chunk_id = c.id AND l.epoch = c.epoch
             WHERE c.state = 'processing'
               AND (c.worker_id = ANY (p_dead)
                    OR c.claimed_at < clock_timestamp() - p_ttl
                       AND (l.chunk_id IS NULL OR l.heartbeat_at < clock_timestamp() - p_ttl))
             ORDER BY c.id LIMIT 100 FOR NO KEY UPDATE OF c SKIP LOCKED)
        UPDATE ingest.chunks c
           SET crash_count = dead.crashes,
               attempt = attempt - 1,
               state = CASE WHEN dead.crashes >= p_max_crashes THEN 'failed' ELSE 'pending' END,
               finished_at = CASE WHEN dead.crashes >= p_max_crashes THEN clock_timestamp() END,
               run_at = clock_timestamp(),
               error_code = 'E_WORKER_LOST',
               error_message = format('its worker went silent %s times in a row', dead.crashes)
          FROM dead WHERE c.id = dead.id AND c.epoch = dead.epoch AND c.state = 'processing'
        RETURNING c.*
    LOOP
        -- Its worker may be frozen inside a COPY, which no timeout of the server ends; see loading.staging.begin.
        PERFORM pg_terminate_backend(pid) FROM pg_stat_activity
          WHERE application_name = format('ingest chunk %s epoch %s', v_chunk.id, v_chunk.epoch)
            AND usename = current_user AND datname = current_database();
        DELETE FROM ingest.leases WHERE chunk_id = v_chunk.id;
        PERFORM ingest.close_failed_chunk(v_chunk);
        PERFORM ingest.announce_work(v_chunk.queue);
        v_count := v_count + 1;
    END LOOP;
    RETURN v_count;
END $$;

-- Whether rows of a job may get into its table.
CREATE OR REPLACE FUNCTION ingest.is_loading(p_job ingest.jobs) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT p_job.state IN ('pending', 'processing', 'paused') OR p_job.state = 'receiving' AND p_job.load = 'while_uploading'
$$;

-- Stop a job that has rejected more than its budget allows: true when this call has stopped it. Called after the commit
-- of a batch with rejects. Batches that have passed the fence are waited for, so the totals are exact; those after them
-- find their chunk cancelled, which the fence calls stale.
CREATE OR REPLACE FUNCTION ingest.enforce_budget(p_job uuid, p_sample bigint) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_job ingest.jobs;
    v_total record;
BEGIN
    SELECT * INTO v_job FROM ingest.jobs j WHERE id = p_job AND ingest.is_loading(j);
    SELECT * INTO v_total FROM ingest.count_committed(p_job);
    IF NOT ingest.is_over_budget(v_job, v_total.records, v_total.rejected, p_sample) THEN
        RETURN false;
    END IF;
    v_job := ingest.lock_open_job(p_job, ARRAY['receiving', 'pending', 'processing', 'paused']);
    IF v_job.id IS NULL THEN
        RETURN false;                           -- it has ended meanwhile
    END IF;
    SELECT * INTO v_total FROM ingest.count_committed(p_job);
    PERFORM ingest.cancel_chunks(p_job);
    UPDATE ingest.jobs
       SET state = 'failed', error_code = 'E_TOO_MANY_REJECTS',
           error_message = ingest.budget_message(v_job, v_total.records, v_total.rejected,
                                                 v_total.inserted + v_total.updated + v_total.unchanged),
           inserted = v_total.inserted, updated = v_total.updated, unchanged = v_total.unchanged,
           skipped = v_total.skipped, rejected = v_total.rejected,
           finished_at = clock_timestamp(), updated_at = clock_timestamp()
     WHERE id = p_job;
    PERFORM ingest.announce(p_job);
    RETURN true;
END $$;

-- Cancel the open chunks of a job, which the caller has locked; what they have in the table is counted from the ledger.
CREATE OR REPLACE FUNCTION ingest.cancel_chunks(p_job uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM ingest.drop_leases(p_job);
    UPDATE ingest.chunks c
       SET state = 'cancelled', finished_at = clock_timestamp(),
           inserted = l.inserted, updated = l.updated, unchanged = l.unchanged, skipped = l.skipped, rejected = l.rejected
      FROM (SELECT o.id, coalesce(sum(g.inserted), 0) AS inserted, coalesce(sum(g.updated), 0) AS updated,
                   coalesce(sum(g.unchanged), 0) AS unchanged, coalesce(sum(g.skipped), 0) AS skipped,
                   coalesce(sum(g.rejected), 0) AS rejected
              FROM ingest.chunks o LEFT JOIN ingest.ledger g ON g.chunk_id = o.id
             WHERE o.job_id = p_job AND o.state IN ('pending', 'processing') GROUP BY o.id) AS l
     WHERE c.id = l.id;
END $$;

-- Run failed chunks of a failed job again, and only them: p_chunks are those whose bytes are still there. What they have
-- committed stays in the ledger and is not read again; epochs go on growing. Returns how many will run, 0 when the job
-- is not failed any more (somebody else was faster), or never was whole, NULL when the key that it counts for has as many
-- open jobs as it may have.
CREATE OR REPLACE FUNCTION ingest.retry_job(p_job uuid, p_chunks bigint[], p_actor text) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_job ingest.jobs;
    v_count integer;
BEGIN
    PERFORM ingest.pass_gate(p_job);
    PERFORM FROM ingest.chunks WHERE job_id = p_job AND id = ANY (p_chunks) AND state = 'failed' ORDER BY id FOR NO KEY UPDATE;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    SELECT * INTO v_job FROM ingest.jobs
     WHERE id = p_job AND state = 'failed' AND error_code <> 'E_TOO_MANY_REJECTS' AND records IS NOT NULL AND v_count > 0
       FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN 0;
    ELSIF ingest.at_open_jobs_limit(v_job.key_id) THEN
        RETURN NULL;
    END IF;
    UPDATE ingest.jobs
       SET state = 'pending', error_code = NULL, error_message = NULL, finished_at = NULL, updated_at = clock_timestamp(),
           inserted = 0, updated = 0, unchanged = 0, skipped = 0, rejected = 0, bytes_tried = 0
     WHERE id = p_job;
    UPDATE ingest.chunks
       SET state = 'pending', attempt = 0, crash_count = 0, run_at = clock_timestamp(), finished_at = NULL,
           error_code = NULL, error_message = NULL, inserted = 0, updated = 0, unchanged = 0, skipped = 0, rejected = 0
     WHERE job_id = p_job AND id = ANY (p_chunks) AND state = 'failed';
    PERFORM ingest.note_audit(p_job, p_actor, 'retry', jsonb_build_object('chunks', v_count));
    PERFORM ingest.announce(p_job);
    PERFORM ingest.announce_work(v_job.queue);
    RETURN v_count;
END $$;

-- Write a chunk of a job that is being received; NULL when the job no longer is. Not waited for on disk: nothing counts
-- before complete_upload, whose commit brings these to the disk with it; and what is committed about a chunk comes after it
-- in the log. Claimable at once if the job is loaded while it is uploaded.
CREATE OR REPLACE FUNCTION ingest.add_chunk(
    p_job uuid, p_ordinal integer, p_object_key text, p_object_offset bigint, p_length_bytes bigint, p_file_offset bigint,
    p_first_line bigint, p_records bigint, p_batch_ends bigint[], p_batch_records bigint[], p_batch_lines bigint[],
    p_batch_blanks bigint[], p_batch_offsets bigint[], p_table_end bigint)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_job ingest.jobs;
    v_chunk bigint;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM ingest.pass_gate(p_job);
    SELECT * INTO v_job FROM ingest.jobs WHERE id = p_job AND state = 'receiving' FOR SHARE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    INSERT INTO ingest.chunks (job_id, ordinal, queue, priority, state, object_key, object_offset, length_bytes, file_offset,
                               first_line, records, batch_ends, batch_records, batch_lines, batch_blanks, batch_offsets,
                               table_end)
    VALUES (p_job, p_ordinal, v_job.queue, v_job.priority,
            CASE v_job.load WHEN 'while_uploading' THEN 'pending' ELSE 'receiving' END, p_object_key, p_object_offset,
            p_length_bytes, p_file_offset, p_first_line, p_records, p_batch_ends, p_batch_records, p_batch_lines, p_batch_blanks,
            p_batch_offsets, p_table_end)
    RETURNING id INTO v_chunk;
    IF v_job.load = 'while_uploading' THEN
        PERFORM ingest.announce_work(v_job.queue);
    END IF;
    RETURN v_chunk;
END $$;

-- The upload is whole: its chunks and the job become claimable together, as far as they are not yet. Returns 'complete';
-- 'gone' when the job is no longer receiving or its request has been served by another; 'duplicate' when the same bytes
-- were loaded before, by job `duplicate`, and the client does not want that: then nothing has happened. Nor has it when
-- it is 'incomplete': chunks are not waited for on disk, and a server that crashed since has forgotten some.
CREATE OR REPLACE FUNCTION ingest.complete_upload(p_job uuid, p_bytes bigint, p_sha256 bytea, p_records bigint,
                                                  OUT outcome text, OUT duplicate uuid)
LANGUAGE plpgsql AS $$
DECLARE
    v_job ingest.jobs;
    v_queue text;
BEGIN
    outcome := 'gone';
    SELECT * INTO v_job FROM ingest.jobs WHERE id = p_job AND state = 'receiving';
    IF NOT FOUND OR ingest.is_served(v_job.request_key, v_job.request_part) THEN
        RETURN;
    END IF;
    duplicate := ingest.find_duplicate(v_job, p_sha256);
    IF duplicate IS NOT NULL AND v_job.refuse_duplicate THEN
        outcome := 'duplicate';
        RETURN;
    END IF;
    PERFORM ingest.pass_gate(p_job);
    PERFORM FROM ingest.jobs WHERE id = p_job AND state = 'receiving' FOR NO KEY UPDATE;
    IF FOUND AND p_records <> (SELECT coalesce(sum(records), 0) FROM ingest.chunks WHERE job_id = p_job) THEN
        outcome := 'incomplete';
        RETURN;
    END IF;
    UPDATE ingest.jobs
       SET state = CASE WHEN started_at IS NULL THEN 'pending' ELSE 'processing' END, bytes_total = p_bytes,
           bytes_received = p_bytes, sha256 = p_sha256, records = p_records, duplicate_of = duplicate,
           updated_at = clock_timestamp()
     WHERE id = p_job AND state = 'receiving'
    RETURNING queue INTO v_queue;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    outcome := 'complete';
    UPDATE ingest.chunks SET state = 'pending', run_at = clock_timestamp() WHERE job_id = p_job AND state = 'receiving';
    PERFORM ingest.announce(p_job);
    PERFORM ingest.announce_work(v_queue);
    PERFORM ingest.settle_job(p_job);           -- a file without records has ended already
END $$;

-- The upload broke or the file cannot be loaded: nothing of it may be claimed any more. What a job that is loaded while it
-- is uploaded has in its table stays there; batches that have passed the fence are waited for, so the totals are exact.
CREATE OR REPLACE FUNCTION ingest.fail_upload(p_job uuid, p_code text, p_message text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_job ingest.jobs;
    v_total record;
    v_failed ingest.chunks;
BEGIN
    IF NOT EXISTS (SELECT FROM ingest.jobs WHERE id = p_job AND state = 'receiving') THEN
        RETURN false;
    END IF;
    v_job := ingest.lock_open_job(p_job, ARRAY['receiving']);
    IF v_job.id IS NULL THEN
        RETURN false;
    END IF;
    DELETE FROM ingest.chunks WHERE job_id = p_job AND state = 'receiving';
    PERFORM ingest.cancel_chunks(p_job);
    SELECT * INTO v_total FROM ingest.count_committed(p_job);
    IF p_code = 'E_UPLOAD_GONE' THEN            -- not the upload's fault, if a chunk was in its way
        SELECT * INTO v_failed FROM ingest.chunks WHERE job_id = p_job AND state = 'failed' ORDER BY ordinal LIMIT 1;
    END IF;
    UPDATE ingest.jobs
       SET state = 'failed', error_code = coalesce(v_failed.error_code, p_code),
           error_message = coalesce(v_failed.error_message, p_message)
               || CASE load WHEN 'while_uploading'
                            THEN format('; %s rows of the file are in the table, the rest was not loaded',
                                        v_total.inserted + v_total.updated + v_total.unchanged) ELSE '' END,
           inserted = v_total.inserted, updated = v_total.updated, unchanged = v_total.unchanged,
           skipped = v_total.skipped, rejected = v_total.rejected,
           finished_at = clock_timestamp(), updated_at = clock_timestamp()
     WHERE id = p_job;
    PERFORM ingest.announce(p_job);
    RETURN true;
END $$;

-- Fail uploads whose receiver has been silent for p_silence (it was killed); returns their ids so that the objects can go.
-- A resumable upload may be silent until it expires.
CREATE OR REPLACE FUNCTION ingest.fail_silent_uploads(p_silence interval) RETURNS SETOF uuid LANGUAGE plpgsql AS $$
DECLARE
    v_job uuid;
BEGIN
    FOR v_job IN SELECT id FROM ingest.jobs j WHERE state = 'receiving' AND updated_at < clock_timestamp() - p_silence
                    AND NOT EXISTS (SELECT FROM ingest.uploads u WHERE u.job_id = j.id) LOOP
        IF ingest.fail_upload(v_job, 'E_UPLOAD_INCOMPLETE', 'the server stopped before the upload was complete; send the file again') THEN
            RETURN NEXT v_job;
        END IF;
    END LOOP;
END $$;

-- Store a definition as the next version, unless the latest one says the same; returns the version that holds.
CREATE OR REPLACE FUNCTION ingest.save_definition(p_name text, p_definition json, p_sha256 bytea) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    latest ingest.datasets;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('ingest.datasets'), hashtext(p_name));
    SELECT * INTO latest FROM ingest.datasets WHERE name = p_name ORDER BY version DESC LIMIT 1;
    IF latest.sha256 = p_sha256 THEN
        RETURN latest.version;
    END IF;
    INSERT INTO ingest.datasets (name, version, definition, sha256)
    VALUES (p_name, coalesce(latest.version, 0) + 1, p_definition, p_sha256);
    RETURN coalesce(latest.version, 0) + 1;
END $$;
