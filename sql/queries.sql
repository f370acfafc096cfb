-- The statements the service sends, by name. `ingest.statements` reads this file once.

-- name: claim_chunks
-- Claim up to $3 chunks of queue $2 for worker $1, with the spec of their jobs.
SELECT c.*, j.spec, j.mode, j.parent_id, j.max_stored_rejects,
       num_nonnulls(j.max_rejects, j.max_rejects_percent) > 0 AS has_budget
  FROM ingest.claim_chunks($1, $2, $3) c JOIN ingest.jobs j ON j.id = c.job_id;

-- name: committed_starts
-- The batches of a chunk that are in the ledger.
SELECT byte_start FROM ingest.ledger WHERE chunk_id = $1;

-- name: is_committed
SELECT EXISTS (SELECT FROM ingest.ledger WHERE chunk_id = $1 AND byte_start = $2);

-- name: batches_waiting_for_locks
-- How many batches of these chunks wait for somebody's lock. Not counted: a table that is being made longer, for which
-- each waits its turn, and how long shows in what they load.
SELECT count(*) FROM pg_stat_activity
 WHERE wait_event_type = 'Lock' AND wait_event <> 'extend'
   AND application_name IN (SELECT format('ingest chunk %s epoch %s', chunk, epoch)
                              FROM unnest($1::bigint[], $2::integer[]) AS held (chunk, epoch));

-- name: renew_leases
SELECT ingest.renew_leases($1, $2, $3, $4) AS chunk_id;

-- name: commit_batch
SELECT ingest.commit_batch($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11);

-- name: commit_batch_with_rejects
SELECT ingest.commit_batch($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) AS outcome, stored
  FROM ingest.store_rejects($12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26) AS stored;

-- name: finish_chunk
SELECT ingest.finish_chunk($1, $2);

-- name: begin_whole
SELECT c.*, j.spec, j.mode, j.parent_id, j.max_stored_rejects, false AS has_budget
  FROM ingest.begin_whole($1, $2) c JOIN ingest.jobs j ON j.id = c.job_id ORDER BY c.ordinal;

-- name: note_progress
UPDATE ingest.jobs SET bytes_tried = greatest(bytes_tried, $2), updated_at = clock_timestamp() WHERE id = $1 AND state = 'processing';

-- name: over_budget
-- What to say about job $1 when, of $2 records, $3 were rejected; NULL while that is within its budget.
SELECT CASE WHEN ingest.is_over_budget(j, $2, $3, $4) THEN ingest.budget_message(j, $2, $3, 0) END
  FROM ingest.jobs j WHERE id = $1;

-- name: finish_whole
SELECT ingest.finish_whole($1, $2, $3, $4, $5, $6, $7, $8);

-- name: pass_fence
SELECT true FROM ingest.chunks WHERE id = $1 AND epoch = $2 AND state = 'processing' FOR SHARE;

-- name: release_chunk
SELECT ingest.release_chunk($1, $2, $3);

-- name: fail_chunk
SELECT ingest.fail_chunk($1, $2, $3, $4, $5, $6, $7);

-- name: rescue_chunks
SELECT ingest.rescue_chunks($1, $2, $3);

-- name: register_worker
-- Once more where the answer to the first time was lost.
INSERT INTO ingest.workers (id, host, pid, version) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO NOTHING;

-- name: unregister_worker
SELECT ingest.unregister_worker($1);

-- name: workers_of_host
-- Workers that said they run on host $1, and are not $2.
SELECT id, pid, started_at FROM ingest.workers WHERE host = $1 AND id <> $2;

-- name: newest_workers
-- Those that were heard of lately, whatever process they are, with the chunks they have; newest first.
SELECT w.id, w.host, w.pid, w.version, w.draining,
       greatest(extract(epoch FROM clock_timestamp() - w.heartbeat_at), 0)::float8 AS heartbeat_age_s,
       (SELECT count(*) FROM ingest.chunks c WHERE c.state = 'processing' AND c.worker_id = w.id) AS chunks
  FROM ingest.workers w ORDER BY w.started_at DESC, w.id LIMIT 100;

-- name: forget_workers
-- Workers that have been silent for longer than $1, or are named in $2, and hold nothing.
DELETE FROM ingest.workers w WHERE (heartbeat_at < clock_timestamp() - $1::interval OR id = ANY ($2))
   AND NOT EXISTS (SELECT FROM ingest.leases l WHERE l.worker_id = w.id);

-- name: announce
-- Tell that the jobs $1 ('' for any) have changed, and that there is work in the queues $2.
SELECT pg_notify('ingest_job', job) FROM unnest($1::text[]) AS job
 UNION ALL SELECT pg_notify('ingest_work', queue) FROM unnest($2::text[]) AS queue;

-- name: room_for_rejects
SELECT ingest.room_for_rejects($1);

-- name: store_rejects
SELECT ingest.store_rejects($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15);

-- name: resolve_rejects
-- Mark the rejects of job $1 on lines $3 as corrected by job $2; in the transaction that loads the corrected records.
-- Rejects that are resolved already stay as they are. Locked by id, so that two batches cannot deadlock.
WITH found AS MATERIALIZED (
     SELECT id FROM ingest.rejects
      WHERE job_id = $1 AND line = ANY ($3::bigint[]) AND resolved_by IS NULL ORDER BY id FOR NO KEY UPDATE)
UPDATE ingest.rejects r SET resolved_by = $2 FROM found WHERE r.id = found.id AND r.resolved_by IS NULL;

-- name: enforce_budget
SELECT ingest.enforce_budget($1, $2);

-- name: create_job
-- Returns NULL, or which limit of the key $21 the job would exceed; then it was not made.
WITH refusal AS MATERIALIZED (SELECT ingest.job_refusal($21) AS reason),
     made AS (
INSERT INTO ingest.jobs (id, dataset, filename, priority, queue, spec, bytes_total, mode, parent_id,
                         max_rejects, max_rejects_percent, in_order, max_stored_rejects,
                         load, compression, refuse_duplicate, request_key, request_part, request_fingerprint, owner, key_id)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21
  FROM refusal WHERE reason IS NULL)
SELECT reason FROM refusal;

-- name: add_chunk
SELECT ingest.add_chunk($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14);

-- name: receive_job
SELECT * FROM ingest.receive_job($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21,
                                 $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35);

-- name: touch_upload
UPDATE ingest.jobs SET bytes_received = greatest(bytes_received, $2), updated_at = clock_timestamp()
 WHERE id = $1 AND state = 'receiving' RETURNING true;

-- name: complete_upload
SELECT * FROM ingest.complete_upload($1, $2, $3, $4);

-- name: upload_backlog
-- The bytes of job $1 that are stored and wait to be loaded, and the chunk that stands in the way of those after it. No row
-- when the job takes no more data.
SELECT (SELECT coalesce(sum(c.length_bytes), 0)::bigint FROM ingest.chunks c
         WHERE c.job_id = j.id AND c.state IN ('pending', 'processing')) AS bytes,
       (SELECT c.error_message FROM ingest.chunks c
         WHERE c.job_id = j.id AND c.state = 'failed' AND j.in_order ORDER BY c.ordinal LIMIT 1) AS failure
  FROM ingest.jobs j WHERE j.id = $1 AND j.state = 'receiving';

-- name: begin_request
SELECT * FROM ingest.begin_request($1, $2, $3, $4, $5);

-- name: renew_request
UPDATE ingest.request_keys SET renewed_at = clock_timestamp() WHERE id = $1 AND holder = $2;

-- name: end_request
SELECT ingest.end_request($1, $2, $3);

-- name: forget_requests
-- Keys that have expired and that nobody holds any more; a holder that was silent for $1 is dead.
DELETE FROM ingest.request_keys
 WHERE expires_at < clock_timestamp() AND (holder IS NULL OR renewed_at < clock_timestamp() - $1::interval);

-- name: job_of_request
-- The job that file $2 of the request with key $1 has become.
SELECT id, sha256, request_fingerprint AS fingerprint FROM ingest.jobs
 WHERE request_key = $1 AND request_part = $2 AND sha256 IS NOT NULL;

-- name: fail_upload
SELECT ingest.fail_upload($1, $2, $3);

-- name: end_uploads
-- Fail the uploads that have been silent for $1, and forget the resumable ones whose time is over: the jobs of both.
SELECT ingest.fail_silent_uploads($1) AS job_id, false AS expired
 UNION ALL
SELECT ingest.expire_uploads(), true;

-- name: jobs_by_id
-- Jobs with the progress of their chunks and, for chunks at work, of their ledger; for jobs at work with their latest pace.
SELECT j.*, p.*, r.*, clock_timestamp() AS read_at,
       (SELECT count(DISTINCT r.line) FROM ingest.rejects r WHERE r.job_id = j.id AND r.resolved_by IS NOT NULL) AS resolved
  FROM ingest.jobs j
  CROSS JOIN LATERAL (
       SELECT count(*) FILTER (WHERE c.state IN ('receiving', 'pending')) AS chunks_pending,
              count(*) FILTER (WHERE c.state = 'processing') AS chunks_processing,
              count(*) FILTER (WHERE c.state = 'completed') AS chunks_completed,
              count(*) FILTER (WHERE c.state IN ('failed', 'cancelled')) AS chunks_failed,
              coalesce(sum(CASE WHEN c.state = 'completed' THEN c.length_bytes ELSE l.bytes END), 0)::bigint AS bytes_loaded,
              coalesce(sum(CASE WHEN c.state = 'completed' THEN c.inserted ELSE l.inserted END), 0)::bigint AS inserted_now,
              coalesce(sum(CASE WHEN c.state = 'completed' THEN c.updated ELSE l.updated END), 0)::bigint AS updated_now,
              coalesce(sum(CASE WHEN c.state = 'completed' THEN c.unchanged ELSE l.unchanged END), 0)::bigint AS unchanged_now,
              coalesce(sum(CASE WHEN c.state = 'completed' THEN c.skipped ELSE l.skipped END), 0)::bigint AS skipped_now,
              coalesce(sum(CASE WHEN c.state = 'completed' THEN c.rejected ELSE l.rejected END), 0)::bigint AS rejected_now,
              coalesce(sum(c.length_bytes), 0)::bigint AS bytes_to_load
         FROM ingest.chunks c
         LEFT JOIN LATERAL (
              SELECT sum(byte_end - byte_start) AS bytes, sum(g.inserted) AS inserted, sum(g.updated) AS updated,
                     sum(g.unchanged) AS unchanged, sum(g.skipped) AS skipped, sum(g.rejected) AS rejected
                FROM ingest.ledger g WHERE g.chunk_id = c.id AND c.state IN ('pending', 'processing', 'failed', 'cancelled')) l
           ON c.epoch > 0 AND c.state <> 'completed'
        WHERE c.job_id = j.id) p
  LEFT JOIN LATERAL ingest.recent_pace(j.id) r ON j.state IN ('receiving', 'processing')
 WHERE j.id = ANY ($1);

-- name: page_of_job_ids
-- Of all owners when $5 is NULL.
SELECT id FROM ingest.jobs
 WHERE ($3::text IS NULL OR state = $3) AND ($4::text IS NULL OR dataset = $4) AND ($5::text IS NULL OR owner = $5)
 ORDER BY created_at DESC, id DESC LIMIT $1 OFFSET $2;

-- name: count_jobs
SELECT count(*) FROM ingest.jobs
 WHERE ($1::text IS NULL OR state = $1) AND ($2::text IS NULL OR dataset = $2) AND ($3::text IS NULL OR owner = $3);

-- name: page_of_jobs_by_name
-- Those whose file's name contains $6 in whatever case, of the newest 100,000 jobs: more are never looked through.
SELECT id FROM ingest.jobs
 WHERE ($3::text IS NULL OR state = $3) AND ($4::text IS NULL OR dataset = $4) AND ($5::text IS NULL OR owner = $5)
   AND created_at > (SELECT coalesce((SELECT created_at FROM ingest.jobs ORDER BY created_at DESC, id DESC
                                      OFFSET 100000 LIMIT 1), '-infinity'))
   AND strpos(lower(filename), lower($6)) > 0
 ORDER BY created_at DESC, id DESC LIMIT $1 OFFSET $2;

-- name: count_jobs_by_name
SELECT count(*) FROM ingest.jobs
 WHERE ($1::text IS NULL OR state = $1) AND ($2::text IS NULL OR dataset = $2) AND ($3::text IS NULL OR owner = $3)
   AND created_at > (SELECT coalesce((SELECT created_at FROM ingest.jobs ORDER BY created_at DESC, id DESC
                                      OFFSET 100000 LIMIT 1), '-infinity'))
   AND strpos(lower(filename), lower($4)) > 0;

-- name: page_of_chunks
SELECT c.ordinal, c.state AS status, c.attempt, c.worker_id, w.host AS worker_host, w.pid AS worker_pid, c.file_offset,
       c.length_bytes, c.first_line, c.records, cardinality(c.batch_ends) AS batches,
       (SELECT count(*) FROM ingest.ledger g WHERE g.chunk_id = c.id) AS batches_committed,
       c.inserted, c.updated, c.unchanged, c.skipped, c.rejected,
       c.error_code, c.error_message, CASE WHEN c.state = 'pending' AND isfinite(c.run_at) THEN c.run_at END AS next_try_at,
       c.claimed_at, c.finished_at
  FROM ingest.chunks c LEFT JOIN ingest.workers w ON w.id = c.worker_id
 WHERE c.job_id = $1 ORDER BY c.ordinal LIMIT $2 OFFSET $3;

-- name: count_chunks
SELECT count(*) FROM ingest.chunks WHERE job_id = $1;

-- name: page_of_rejects
-- By line, after (line, id) = ($4, $5); NULL filters match all.
SELECT id, line, byte_offset, column_name AS "column", value, code, sqlstate, message, raw, raw_bytes, truncated, resolved_by
  FROM ingest.rejects
 WHERE job_id = $1 AND (line, id) > ($4::bigint, $5::bigint)
   AND ($6::text IS NULL OR code = $6) AND ($7::text IS NULL OR column_name = $7) AND ($8::bigint IS NULL OR line = $8)
   AND ($9::boolean IS NULL OR (resolved_by IS NOT NULL) = $9)
 ORDER BY line, id LIMIT $2 OFFSET $3;

-- name: count_rejects
SELECT count(*) FROM ingest.rejects
 WHERE job_id = $1 AND ($2::text IS NULL OR code = $2) AND ($3::text IS NULL OR column_name = $3)
   AND ($4::bigint IS NULL OR line = $4) AND ($5::boolean IS NULL OR (resolved_by IS NOT NULL) = $5);

-- name: count_stored_rejects
-- Rejected records of job $1 that are stored; those that several reasons speak against count once.
SELECT count(DISTINCT line) FROM ingest.rejects WHERE job_id = $1;

-- name: summary_of_rejects
-- The reasons of job $1, most frequent first, each with its first examples.
SELECT column_name AS "column", code, max(reasons) AS count, max(resolved) AS resolved,
       jsonb_agg(jsonb_build_object('line', line, 'value', value, 'message', message) ORDER BY line, id) AS examples
  FROM (SELECT id, line, column_name, code, value, message,
               row_number() OVER (PARTITION BY column_name, code ORDER BY line, id) AS place,
               count(*) OVER (PARTITION BY column_name, code) AS reasons,
               count(resolved_by) OVER (PARTITION BY column_name, code) AS resolved
          FROM ingest.rejects WHERE job_id = $1) AS r
 WHERE place <= 3
 GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT $2;

-- name: rejected_records
-- Rejected records of job $1 after line $2, each once with all its reasons; those of a thousand wrong columns are cut.
-- Records that were stored cut ($5 bytes) are left out: sent back, they would be loaded without their end.
SELECT line, (array_agg(raw ORDER BY id))[1] AS raw, (array_agg(raw_bytes ORDER BY id))[1] AS raw_bytes,
       bool_or(truncated) AS truncated, left(string_agg(column_name, '; ' ORDER BY id), 4000) AS columns,
       left(string_agg(code, '; ' ORDER BY id), 4000) AS codes, left(string_agg(message, '; ' ORDER BY id), 4000) AS messages
  FROM ingest.rejects
 WHERE job_id = $1 AND line > $2 AND ($4::boolean IS NULL OR (resolved_by IS NOT NULL) = $4)
   AND NOT (truncated AND coalesce(octet_length(raw_bytes), octet_length(raw)) >= $5)
 GROUP BY line ORDER BY line LIMIT $3;

-- name: spec_of_job
SELECT spec FROM ingest.jobs WHERE id = $1;

-- name: failed_chunks
-- The failed chunks of job $1 if all of its file is there, the job's queue, and whether a chunk needs those before it.
SELECT c.id, c.object_key, c.queue, j.in_order OR j.mode <> 'batches' AS needs_all
  FROM ingest.chunks c JOIN ingest.jobs j ON j.id = c.job_id
 WHERE c.job_id = $1 AND c.state = 'failed' AND j.records IS NOT NULL ORDER BY c.id;

-- name: retry_job
SELECT ingest.retry_job($1, $2, $3);

-- name: cancel_job
SELECT ingest.cancel_job($1, $2);

-- name: pause_job
SELECT ingest.pause_job($1, $2);

-- name: resume_job
SELECT ingest.resume_job($1, $2);

-- name: prioritise_job
SELECT ingest.prioritise_job($1, $2, $3);

-- name: delete_job
SELECT ingest.delete_job($1, $2);

-- name: audit_of_job
-- What was done to job $1, the latest first.
SELECT at, actor, action, detail FROM ingest.audit WHERE job_id = $1 ORDER BY id DESC LIMIT $2;

-- name: fate_of_chunk
-- Why the chunk $1 is no longer that of the claim with epoch $2. One that was paused may have been resumed since.
SELECT coalesce((SELECT CASE WHEN c.epoch = $2 AND c.state = 'completed' THEN 'finished'
                             WHEN c.error_code = 'E_WORKER_LOST' OR c.epoch > $2 AND c.state = 'completed' THEN 'taken over'
                             WHEN c.epoch > $2 OR c.state = 'pending' THEN 'paused' ELSE j.state END
                   FROM ingest.chunks c JOIN ingest.jobs j ON j.id = c.job_id WHERE c.id = $1), 'deleted');

-- name: queue_depth
-- Without the chunks of paused jobs: nobody waits for them.
SELECT count(*) FILTER (WHERE state = 'pending') AS pending,
       count(*) FILTER (WHERE state = 'processing') AS processing,
       coalesce(extract(epoch FROM clock_timestamp() - min(run_at) FILTER (WHERE state = 'pending')), 0)::float8 AS oldest_age_s
  FROM ingest.chunks WHERE state IN ('pending', 'processing') AND isfinite(run_at);

-- name: statistics
-- The service as a whole: jobs by state, what ended within $1, and how fast rows come in now.
SELECT s.*, e.*, r.rows_per_second
  FROM (SELECT coalesce(jsonb_object_agg(state, jobs), '{}') AS states
          FROM (SELECT state, count(*) AS jobs FROM ingest.jobs GROUP BY state) AS t) AS s,
       (SELECT count(*) FILTER (WHERE state = 'completed') AS completed, count(*) FILTER (WHERE state = 'failed') AS failed,
               count(*) FILTER (WHERE state = 'cancelled') AS cancelled, coalesce(sum(bytes_total), 0)::bigint AS bytes,
               coalesce(sum(inserted), 0)::bigint AS inserted, coalesce(sum(updated), 0)::bigint AS updated,
               coalesce(sum(unchanged), 0)::bigint AS unchanged, coalesce(sum(skipped), 0)::bigint AS skipped,
               coalesce(sum(rejected), 0)::bigint AS rejected
          FROM ingest.jobs WHERE finished_at > clock_timestamp() - $1::interval) AS e,
       ingest.overall_pace() AS r (rows_per_second);

-- name: count_jobs_by_state
SELECT state, count(*) AS count FROM ingest.jobs GROUP BY state;

-- name: count_chunks_by_state
SELECT state, count(*) AS count FROM ingest.chunks GROUP BY state;

-- name: jobs_with_objects
-- Which of the jobs in $1 exist, and whether their stored chunks may still be read: not when the job has ended, except
-- for failed chunks, which can be retried (not those of a job over its error budget). A resumable upload has its object
-- before its job is written.
SELECT id, state NOT IN ('completed', 'cancelled')
           AND (state <> 'failed' OR error_code <> 'E_TOO_MANY_REJECTS' AND records IS NOT NULL
                                     AND EXISTS (SELECT FROM ingest.chunks c WHERE c.job_id = j.id AND c.state = 'failed')) AS needed
  FROM ingest.jobs j WHERE id = ANY ($1)
 UNION ALL
SELECT job_id, state = 'open' FROM ingest.uploads u
 WHERE job_id = ANY ($1) AND NOT EXISTS (SELECT FROM ingest.jobs j WHERE j.id = u.job_id);

-- name: create_upload
-- No row when $7 uploads are open already.
INSERT INTO ingest.uploads (id, job_id, length, options, metadata, expires_at)
SELECT $1, $2, $3, $4, $5, clock_timestamp() + $6::interval
 WHERE (SELECT count(*) FROM (SELECT FROM ingest.uploads WHERE state = 'open' LIMIT $7) AS open) < $7
RETURNING *;

-- name: upload_by_id
SELECT u.*, clock_timestamp() >= expires_at AS expired, EXISTS (SELECT FROM ingest.jobs j WHERE j.id = u.job_id) AS has_job
  FROM ingest.uploads u WHERE id = $1;

-- name: hold_upload
-- From now on only the request $2 may write to upload $1.
UPDATE ingest.uploads SET holder = $2 WHERE id = $1 AND state = 'open' RETURNING id;

-- name: uploads_taken
-- Those of the uploads $1 (held by the requests $2, parallel) that another request has taken since, or that have gone.
SELECT h.id FROM unnest($1::uuid[], $2::uuid[]) AS h(id, holder)
 WHERE NOT EXISTS (SELECT FROM ingest.uploads u WHERE u.id = h.id AND u.holder = h.holder AND u.state = 'open');

-- name: cut_so_far
-- What of job $1 is cut into chunks: the next byte and physical line, the last ordinal, the records, and whether the
-- table has ended.
SELECT j.state, j.spec, j.compression, coalesce(c.ordinal, 0) AS ordinal, c.file_offset + c.length_bytes AS cut_to,
       c.table_end IS NOT NULL AS behind,
       (c.first_line + (SELECT sum(n) FROM unnest(c.batch_lines) AS l(n)))::bigint AS line,
       coalesce((SELECT sum(records) FROM ingest.chunks WHERE job_id = j.id), 0)::bigint AS records
  FROM ingest.jobs j
  LEFT JOIN LATERAL (SELECT * FROM ingest.chunks WHERE job_id = j.id ORDER BY ordinal DESC LIMIT 1) AS c ON true
 WHERE j.id = $1;

-- name: set_upload_length
UPDATE ingest.uploads SET length = $3 WHERE id = $1 AND holder = $2 AND state = 'open' AND length IS NULL AND received <= $3
RETURNING id;

-- name: advance_upload
SELECT ingest.advance_upload($1, $2, $3, $4, $5);

-- name: whole_uploads
-- Uploads of which all bytes are there, and that somebody is to finish; any $1 of them, so that those that cannot be
-- finished just now do not stand before the others.
SELECT id FROM ingest.uploads WHERE state = 'open' AND received = length ORDER BY random() LIMIT $1;

-- name: renew_upload
-- Somebody is at work on upload $1, so it does not expire; no row when $2 no longer has it.
UPDATE ingest.uploads SET expires_at = greatest(expires_at, clock_timestamp() + $3::interval)
 WHERE id = $1 AND holder = $2 AND state = 'open' RETURNING id;

-- name: cut_anew
SELECT ingest.cut_anew($1, $2);

-- name: finish_upload
SELECT * FROM ingest.finish_upload($1, $2, $3, $4, $5);

-- name: refuse_upload
SELECT ingest.refuse_upload($1, $2, $3, $4);

-- name: remove_upload
SELECT state FROM ingest.remove_upload($1, $2, $3);

-- name: unfinished_job_of_queue
SELECT id, state FROM ingest.jobs WHERE queue = $1 AND state IN ('pending', 'processing') ORDER BY created_at DESC LIMIT 1;

-- name: tables_of_schemas
SELECT n.nspname AS schema, c.relname AS table, obj_description(c.oid, 'pg_class') AS description
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = ANY ($1) AND c.relkind IN ('r', 'p') AND NOT c.relispartition
 ORDER BY 1, 2;

-- name: columns_of_table
-- In each row also `order_columns`: the columns through which one row of the table can be in the way of another, or be needed
-- by it: those of unique and exclusion indexes, and of references to the table itself. '' stands for what is computed, from
-- whatever columns.
WITH found AS MATERIALIZED (
     SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p'))
SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS not_null,
       (a.atthasdef AND a.attgenerated = '') OR a.attidentity <> '' AS has_default,
       a.attgenerated <> '' AS generated,
       coalesce(a.attnum = ANY (k.conkey), false) AS is_key,
       ARRAY(SELECT CASE WHEN o.attname IS NULL OR o.attgenerated <> '' THEN '' ELSE o.attname::text END
               FROM found f
              CROSS JOIN LATERAL (SELECT relid FROM pg_partition_tree(f.oid) UNION SELECT f.oid) AS part
              CROSS JOIN LATERAL (
                    SELECT unnest(indkey) AS attnum FROM pg_index WHERE indrelid = part.relid AND (indisunique OR indisexclusion)
                     UNION
                    SELECT unnest(conkey) FROM pg_constraint
                     WHERE contype = 'f' AND conrelid = part.relid AND confrelid = f.oid) AS u
               LEFT JOIN pg_attribute o ON o.attrelid = part.relid AND o.attnum = u.attnum AND u.attnum > 0) AS order_columns
  FROM found
  JOIN pg_attribute a ON a.attrelid = found.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_constraint k ON k.conrelid = found.oid AND k.contype = 'p'
 ORDER BY a.attnum;

-- name: save_definition
SELECT ingest.save_definition($1, $2, $3);

-- name: latest_definition
SELECT name, version, definition FROM ingest.datasets WHERE name = $1 ORDER BY version DESC LIMIT 1;

-- name: latest_definitions
SELECT DISTINCT ON (name) name, version, definition FROM ingest.datasets ORDER BY name, version DESC;

-- name: unique_keys
-- The columns of each unique index that ON CONFLICT can name: whole columns, all rows, checked at once.
SELECT (SELECT array_agg(a.attname::text) FROM unnest(i.indkey[:i.indnkeyatts - 1]) AS k (attnum)
          JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum) AS columns
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_index i ON i.indrelid = c.oid
 WHERE n.nspname = $1 AND c.relname = $2 AND i.indisunique AND i.indisvalid AND i.indimmediate
   AND i.indpred IS NULL AND i.indexprs IS NULL;

-- name: unknown_types
SELECT t AS name FROM unnest($1::text[]) AS u (t) WHERE to_regtype(t) IS NULL;

-- name: may_drop_rows
SELECT ingest.may_drop_rows($1::text::regclass);

-- name: merge_isolated
SELECT * FROM ingest.merge_isolated($1, $2, $3, $4);

-- name: target_rules
-- What the tables $1.$2 (parallel arrays, numbered from 1) demand of their rows; see loading.tablerules. References to the
-- tables themselves are left out (the file may bring what it refers to), and those to tables that we may not read.
WITH target AS MATERIALIZED (
     SELECT number::integer, to_regclass(format('%I.%I', schema, name)) AS relid
       FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS t(schema, name, number))
SELECT number AS target, 'column' AS kind, a.attname::text AS name, ARRAY[a.attname]::text[] AS columns,
       format_type(a.atttypid, a.atttypmod) AS expression, NULL::text[] AS referred, NULL AS rule, 0::bigint AS place
  FROM target JOIN pg_attribute a ON a.attrelid = relid AND a.attnum > 0 AND NOT a.attisdropped
 UNION ALL
SELECT number, 'not_null', a.attname, ARRAY[a.attname], NULL, NULL, NULL, 0
  FROM target JOIN pg_attribute a ON a.attrelid = relid AND a.attnum > 0 AND a.attnotnull AND NOT a.attisdropped
 UNION ALL
SELECT number, CASE c.contype WHEN 'c' THEN 'check' ELSE 'reference' END, c.conname, k.columns,
       CASE c.contype WHEN 'c' THEN pg_get_expr(c.conbin, c.conrelid) ELSE c.confrelid::regclass::text END,
       r.columns, pg_get_constraintdef(c.oid), c.oid::bigint
  FROM target JOIN pg_constraint c ON c.conrelid = relid
 CROSS JOIN LATERAL (SELECT array_agg(a.attname::text ORDER BY u.place) AS columns
                       FROM unnest(c.conkey) WITH ORDINALITY AS u(attnum, place)
                       JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = u.attnum) AS k
 CROSS JOIN LATERAL (SELECT array_agg(a.attname::text ORDER BY u.place) AS columns
                       FROM unnest(c.confkey) WITH ORDINALITY AS u(attnum, place)
                       JOIN pg_attribute a ON a.attrelid = c.confrelid AND a.attnum = u.attnum) AS r
 WHERE k.columns IS NOT NULL
   AND (c.contype = 'c' OR c.contype = 'f' AND c.confmatchtype = 's' AND c.confrelid NOT IN (SELECT relid FROM target)
                           AND has_table_privilege(c.confrelid, 'SELECT'))
 UNION ALL
SELECT number, CASE WHEN NOT i.indimmediate THEN 'unforeseeable'
                    WHEN i.indexprs IS NOT NULL OR i.indpred IS NOT NULL OR i.indisexclusion OR NOT i.indisunique THEN 'other_unique'
                    ELSE 'unique' END,
       c.relname, coalesce(k.columns, '{}'), NULL, NULL, NULL, i.indexrelid::bigint
  FROM target JOIN pg_index i ON i.indrelid = relid AND (i.indisunique OR i.indisexclusion) JOIN pg_class c ON c.oid = i.indexrelid
 CROSS JOIN LATERAL (SELECT array_agg(a.attname::text ORDER BY u.place) AS columns
                       FROM unnest(i.indkey) WITH ORDINALITY AS u(attnum, place)
                       JOIN pg_attribute a ON a.attrelid = relid AND a.attnum = u.attnum
                      WHERE u.place <= i.indnkeyatts) AS k
 UNION ALL
SELECT number, 'unforeseeable', 'rows may be dropped or changed, or may not be read', '{}', NULL, NULL, NULL, 0
  FROM target
 WHERE ingest.may_drop_rows(relid) OR (SELECT relkind FROM pg_class WHERE oid = relid) = 'p'
    OR NOT has_table_privilege(relid, 'SELECT')
 ORDER BY target, place, kind, name;

-- name: refused_texts_one_by_one
-- Which of the texts $3, meant for column number $2 of record $1, the columns' types $4 refuse, and why; of any type, and
-- NULL too, which a domain may refuse.
SELECT u.ordinal, u.place, e.sql_state, e.message
  FROM unnest($1::integer[], $2::integer[], $3::text[]) AS u(ordinal, place, value)
 CROSS JOIN LATERAL ingest.input_error(u.value, ($4::text[])[u.place]) AS e;

-- name: create_key
INSERT INTO ingest.keys (prefix, secret_sha256, owner, scopes, expires_at, bytes_per_day, open_jobs, requests_per_second,
                         jobs_per_second)
VALUES ($1, $2, $3, $4, clock_timestamp() + $5::interval, $6, $7, $8, $9);

-- name: key_by_prefix
SELECT id, prefix, secret_sha256, owner, scopes, bytes_per_day, requests_per_second, revoked_at IS NOT NULL AS revoked,
       extract(epoch FROM expires_at - clock_timestamp())::float8 AS expires_in_s
  FROM ingest.keys WHERE prefix = $1;

-- name: key_by_session
-- The key that session $1 was begun with; its end is that of the session, if that comes first.
SELECT k.id, k.prefix, k.secret_sha256, k.owner, k.scopes, k.bytes_per_day, k.requests_per_second,
       k.revoked_at IS NOT NULL AS revoked,
       extract(epoch FROM least(k.expires_at, s.expires_at) - clock_timestamp())::float8 AS expires_in_s
  FROM ingest.sessions s JOIN ingest.keys k ON k.id = s.key_id WHERE s.token_sha256 = $1;

-- name: begin_session
SELECT ingest.begin_session($1, $2, $3);

-- name: end_session
DELETE FROM ingest.sessions WHERE token_sha256 = $1;

-- name: forget_sessions
-- Those that have ended, by themselves or with their key.
DELETE FROM ingest.sessions s USING ingest.keys k
 WHERE k.id = s.key_id AND (least(k.expires_at, s.expires_at) < clock_timestamp() OR k.revoked_at IS NOT NULL);

-- name: list_keys
SELECT k.prefix, k.owner, k.scopes, k.bytes_per_day, k.open_jobs, k.requests_per_second, k.jobs_per_second, k.created_at,
       k.expires_at, k.revoked_at, k.last_used_at, coalesce(u.bytes, 0) AS bytes_today,
       CASE WHEN k.revoked_at IS NOT NULL THEN 'revoked' WHEN k.expires_at <= clock_timestamp() THEN 'expired'
            ELSE 'active' END AS status
  FROM ingest.keys k
  LEFT JOIN ingest.key_usage u ON u.key_id = k.id AND u.day = (clock_timestamp() AT TIME ZONE 'UTC')::date
 ORDER BY k.created_at, k.prefix;

-- name: revoke_key
UPDATE ingest.keys SET revoked_at = coalesce(revoked_at, clock_timestamp()) WHERE prefix = $1 RETURNING prefix;

-- name: has_keys
SELECT EXISTS (SELECT FROM ingest.keys WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp()));

-- name: note_key_use
UPDATE ingest.keys SET last_used_at = clock_timestamp()
 WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < clock_timestamp() - interval '1 minute');

-- name: take_bytes
SELECT * FROM ingest.take_bytes($1, $2);

-- name: give_back_bytes
UPDATE ingest.key_usage SET bytes = greatest(bytes - $3, 0) WHERE key_id = $1 AND day = $2;

-- name: owner_of_job
SELECT owner FROM ingest.jobs WHERE id = $1;
