-- Isolated loading: find, for every record of a staging table, whether and why the target refuses it.
-- A staging table is a temporary table (ordinal integer, c1 text, c2 text, ...) that holds well-formed records.

-- The error of storing p_value in a column of p_type; no row when it is fine. For PostgreSQL 15, and for types that cannot
-- report an error softly; 16 and newer have pg_input_error_info.
CREATE OR REPLACE FUNCTION ingest.input_error(p_value text, p_type text)
RETURNS TABLE (message text, sql_state text) LANGUAGE plpgsql AS $$
BEGIN
    IF p_type ~* '^(national )?(character|n?char|varchar|bpchar|bit|varbit)' OR EXISTS (SELECT FROM pg_type WHERE oid = to_regtype(p_type) AND typtype = 'd') THEN
        -- A cast to a type with a length cuts the value silently, an assignment does not.
        EXECUTE format('DO %L', format('DECLARE v %s := %L; BEGIN END', p_type, p_value));
    ELSE
        EXECUTE format('SELECT $1::%s', p_type) USING p_value;
    END IF;
EXCEPTION WHEN OTHERS OR ASSERT_FAILURE THEN
    RETURN QUERY SELECT SQLERRM, SQLSTATE;
END $$;

-- Whether p_value can be stored in a column of p_type: pg_input_is_valid for PostgreSQL 15.
CREATE OR REPLACE FUNCTION ingest.input_is_valid(p_value text, p_type text) RETURNS boolean LANGUAGE sql AS $$
    SELECT CASE WHEN p_value IS NOT NULL THEN NOT EXISTS (SELECT FROM ingest.input_error(p_value, p_type)) END
$$;

-- The columns of a constraint or of a unique index, and the rule it states.
CREATE OR REPLACE FUNCTION ingest.constraint_of(p_schema text, p_table text, p_constraint text, OUT columns text, OUT rule text)
LANGUAGE sql STABLE AS $$
    SELECT string_agg(a.attname, ', ' ORDER BY k.position), max(c.rule)
      FROM (SELECT conrelid AS relid, conkey AS keys, pg_get_constraintdef(oid) AS rule
              FROM pg_constraint WHERE conrelid = to_regclass(format('%I.%I', p_schema, p_table)) AND conname = p_constraint
             UNION ALL                               -- a unique index that is no constraint
            SELECT indrelid, indkey::smallint[], NULL
              FROM pg_index JOIN pg_class i ON i.oid = indexrelid
             WHERE indrelid = to_regclass(format('%I.%I', p_schema, p_table)) AND i.relname = p_constraint
               AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)) AS c
      LEFT JOIN LATERAL unnest(c.keys) WITH ORDINALITY AS k(attnum, position) ON true
      LEFT JOIN pg_attribute a ON a.attrelid = c.relid AND a.attnum = k.attnum AND k.attnum > 0
$$;

-- Whether an error says nothing about a record (connection, resources, locks, syntax, permissions).
CREATE OR REPLACE FUNCTION ingest.is_nobodys_fault(p_state text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT p_state <> '42601' AND left(p_state, 2) IN ('08', '0A', '0L', '0P', '25', '26', '28', '2B', '34', '3D', '3F',
                                                       '40', '42', '53', '55', '57', '58', 'F0', 'XX')
$$;

-- Merge the staged records p_low..p_high by p_statement ($1 = low, $2 = high, $3 = p_room; see loading/merge); where a stretch fails,
-- halve it under a savepoint until each refused record stands alone, in file order, so that of two records with one key the
-- first wins. Returns a row with an ordinal for each record that was refused, and for each stretch that went in one without
-- ordinal: its counts, its faults and who lost. Errors that say nothing about a record are raised.
CREATE OR REPLACE FUNCTION ingest.merge_isolated(p_statement text, p_low integer, p_high integer, p_room bigint)
RETURNS TABLE (ordinal integer, sql_state text, message text, column_name text, constraint_name text,
               constraint_columns text, constraint_rule text,
               inserted bigint, updated bigint, unchanged bigint, skipped bigint, good bigint, faulty integer[], faults text[],
               lost integer[], repeated bigint)
LANGUAGE plpgsql AS $$
DECLARE
    v_lows integer[] := ARRAY[p_low];
    v_highs integer[] := ARRAY[p_high];
    v_depth integer := 1;
    v_low integer;
    v_high integer;
    v_schema text;
    v_table text;
BEGIN
    WHILE v_depth > 0 LOOP
        v_low := v_lows[v_depth];
        v_high := v_highs[v_depth];
        v_depth := v_depth - 1;
        BEGIN
            EXECUTE p_statement INTO inserted, updated, unchanged, skipped, good, faulty, faults, lost, repeated
                USING v_low, v_high, p_room;
            ordinal := NULL; sql_state := NULL; message := NULL; column_name := NULL; constraint_name := NULL;
            constraint_columns := NULL; constraint_rule := NULL;
            RETURN NEXT;
        EXCEPTION WHEN OTHERS OR ASSERT_FAILURE THEN
            GET STACKED DIAGNOSTICS sql_state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, column_name = COLUMN_NAME,
                constraint_name = CONSTRAINT_NAME, v_schema = SCHEMA_NAME, v_table = TABLE_NAME;
            IF ingest.is_nobodys_fault(sql_state) THEN
                RAISE;
            END IF;
            IF v_low = v_high THEN
                ordinal := v_low;
                SELECT c.columns, c.rule INTO constraint_columns, constraint_rule
                  FROM ingest.constraint_of(v_schema, v_table, constraint_name) c;
                RETURN NEXT;
            ELSE
                v_lows[v_depth + 1] := (v_low + v_high) / 2 + 1;
                v_highs[v_depth + 1] := v_high;
                v_lows[v_depth + 2] := v_low;
                v_highs[v_depth + 2] := (v_low + v_high) / 2;
                v_depth := v_depth + 2;
            END IF;
        END;
    END LOOP;
END $$;

-- Whether the table may drop a record without an error: a row trigger that returns NULL, or a rule.
CREATE OR REPLACE FUNCTION ingest.may_drop_rows(p_table regclass) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM pg_trigger t
                    WHERE t.tgrelid IN (SELECT relid FROM pg_partition_tree(p_table) UNION SELECT p_table)
                      AND NOT t.tgisinternal AND t.tgtype & 7 = 7)             -- BEFORE INSERT FOR EACH ROW
        OR EXISTS (SELECT FROM pg_rewrite r WHERE r.ev_class = p_table AND r.rulename <> '_RETURN')
$$;

-- How many rejected records a job may still store. Batches that are committed at the same moment do not see each other: a
-- job may so store the rejects of a few batches more. (What ingest.count_committed counts, written out: the query of an
-- SQL function is planned again at each call.)
CREATE OR REPLACE FUNCTION ingest.room_for_rejects(p_job uuid) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT greatest(j.max_stored_rejects
                - (SELECT coalesce(sum(c.rejected), 0) FROM ingest.chunks c WHERE c.job_id = p_job AND c.state = 'completed')
                - (SELECT coalesce(sum(g.rejected), 0) FROM ingest.chunks c JOIN ingest.ledger g ON g.chunk_id = c.id
                    WHERE c.job_id = p_job AND c.state <> 'completed' AND c.epoch > 0), 0)
              FROM ingest.jobs j WHERE j.id = p_job);
END $$;

-- The texts of a column that were joined for one parameter: each is followed by p_end, p_null stands for NULL.
CREATE OR REPLACE FUNCTION ingest.texts(p_joined text, p_end text, p_null text) RETURNS text[]
LANGUAGE sql IMMUTABLE AS $$
    SELECT trim_array(string_to_array(p_joined, p_end, p_null), 1)
$$;

-- Store the rejects of a batch, as joined texts; p_record is the number of a reject's record among the rejected ones, from
-- 1, and no more records are stored than there is room for. p_digits: the bytes of a raw record that is no text. Returns
-- the number of rejects stored.
CREATE OR REPLACE FUNCTION ingest.store_rejects(
    p_job uuid, p_chunk bigint, p_end text, p_null text, p_record text, p_line text, p_offset text, p_column text,
    p_value text, p_code text, p_sqlstate text, p_message text, p_raw text, p_digits text, p_truncated text)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_room bigint := ingest.room_for_rejects(p_job);
    v_count bigint;
BEGIN
    INSERT INTO ingest.rejects (job_id, chunk_id, line, byte_offset, column_name, value, code, sqlstate, message,
                                raw, raw_bytes, truncated)
    SELECT p_job, p_chunk, r.line, r.byte_offset, r.column_name, r.value, r.code, r.sqlstate, r.message,
           r.raw, decode(r.digits, 'hex'), r.truncated
      FROM unnest(ingest.texts(p_record, p_end, p_null)::bigint[], ingest.texts(p_line, p_end, p_null)::bigint[],
                  ingest.texts(p_offset, p_end, p_null)::bigint[], ingest.texts(p_column, p_end, p_null),
                  ingest.texts(p_value, p_end, p_null), ingest.texts(p_code, p_end, p_null),
                  ingest.texts(p_sqlstate, p_end, p_null), ingest.texts(p_message, p_end, p_null),
                  ingest.texts(p_raw, p_end, p_null), ingest.texts(p_digits, p_end, p_null),
                  ingest.texts(p_truncated, p_end, p_null)::boolean[])
           AS r(record, line, byte_offset, column_name, value, code, sqlstate, message, raw, digits, truncated)
     WHERE r.record <= v_room;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_count;
END $$;

-- Makes the table of a job that brings its own (p_columns is SQL made by the service), in the transaction of whichever of
-- the job's batches is first; the others wait for that one. The comment tells the job's table from a table that somebody
-- else has made meanwhile: that one is not touched.
CREATE OR REPLACE FUNCTION ingest.make_table(p_schema text, p_table text, p_columns text, p_job uuid) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_mark text := 'made by ingest job ' || p_job;
    v_table oid := ingest.table_oid(p_schema, p_table);
BEGIN
    IF v_table IS NULL THEN
        PERFORM pg_advisory_xact_lock(hashtext('ingest.make_table'), hashtext(p_schema || '.' || p_table));
        v_table := ingest.table_oid(p_schema, p_table);
    END IF;
    IF v_table IS NULL THEN
        EXECUTE format('CREATE TABLE %I.%I (%s)', p_schema, p_table, p_columns);
        EXECUTE format('COMMENT ON TABLE %I.%I IS %L', p_schema, p_table, v_mark);
    ELSIF obj_description(v_table, 'pg_class') IS DISTINCT FROM v_mark THEN
        RAISE EXCEPTION 'table %.% is there already, and was not made by this job', p_schema, p_table USING ERRCODE = 'duplicate_table';
    END IF;
END $$;

-- The table of that name, if there is one. Read from the catalogue itself: what to_regclass has once not found it does not
-- find again before the transaction locks a table.
CREATE OR REPLACE FUNCTION ingest.table_oid(p_schema text, p_table text) RETURNS oid LANGUAGE sql VOLATILE AS $$
    SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = p_schema AND c.relname = p_table
$$;
