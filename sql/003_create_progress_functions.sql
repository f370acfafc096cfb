-- How fast rows come in: what was committed in the last half minute, by the ledger.
-- Runnable by `psql -f` after 000_create_tables.sql.
--
-- Not since a job began: a pause, a restart or a retry a day later would make the average meaningless. The window begins
-- with the claims of the chunks at work, so that the first seconds do not look slow.

-- The chunks of which something may have been committed within the window: those at work, and those that ended in it.
-- Found by their indexes, and of a long job too they are few.
CREATE OR REPLACE FUNCTION ingest.recent_pace(p_job uuid, OUT recent_rows bigint, OUT recent_bytes bigint, OUT recent_s float8)
LANGUAGE sql STABLE AS $$
    SELECT coalesce(sum(g.records), 0)::bigint, coalesce(sum(g.byte_end - g.byte_start), 0)::bigint,
           -- NULL when nobody works on the job; greatest() alone would look past that.
           extract(epoch FROM clock_timestamp() - CASE WHEN count(*) > 0 THEN
                              greatest(min(c.claimed_at), clock_timestamp() - interval '30 s') END)::float8
      FROM ingest.chunks c
      LEFT JOIN ingest.ledger g ON g.chunk_id = c.id AND g.committed_at > clock_timestamp() - interval '30 s'
     WHERE c.job_id = p_job AND c.epoch > 0
       AND (c.state = 'processing' OR c.finished_at > clock_timestamp() - interval '30 s')
$$;

-- The same for the whole service, in rows a second.
CREATE OR REPLACE FUNCTION ingest.overall_pace() RETURNS float8 LANGUAGE sql STABLE AS $$
    SELECT coalesce(sum(g.records) / greatest(extract(epoch FROM clock_timestamp() - min(c.claimed_at)), 0.001), 0)::float8
      FROM (SELECT id, greatest(claimed_at, clock_timestamp() - interval '30 s') AS claimed_at
              FROM ingest.chunks WHERE state = 'processing'
             UNION ALL
            SELECT id, greatest(claimed_at, clock_timestamp() - interval '30 s')
              FROM ingest.chunks WHERE finished_at > clock_timestamp() - interval '30 s' AND epoch > 0) AS c
      LEFT JOIN ingest.ledger g ON g.chunk_id = c.id AND g.committed_at > clock_timestamp() - interval '30 s'
$$;
