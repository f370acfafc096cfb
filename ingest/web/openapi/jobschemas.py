"""The shapes of jobs, their chunks and their rejects."""

from __future__ import annotations

from ingest.job import JobMode, JobState
from ingest.web.openapi.building import (
    Json,
    flag,
    listed,
    maybe,
    moment,
    named,
    number,
    schema,
    text,
    thing,
    whole,
    word,
)

UUID = {"type": "string", "format": "uuid"}
PATH = text("a path on this server")
CHUNK_STATES = ("receiving", "pending", "processing", "completed", "failed", "cancelled")

JOB: Json = {
    "id": UUID,
    "dataset": text("where the rows go"),
    "filename": text("as the client called it, without folders"),
    "status": word(JobState, "where the job stands; the last three are final"),
    "mode": word(JobMode, "what can be seen in the table, and when"),
    "priority": whole("9 runs first", maximum=9),
    "bytes_total": maybe(whole("of the file; null while that is not known")),
    "bytes_received": whole("so far"),
    "bytes_processed": maybe(whole("in committed batches")),
    "total_rows": maybe(whole("records of the file; null until it has arrived")),
    "processed_rows": whole("rows in the table: inserted, updated and unchanged"),
    "inserted_rows": whole(),
    "updated_rows": whole(),
    "unchanged_rows": whole("were in the table already, just so"),
    "skipped_rows": whole("left out on purpose: of mode skip, or dropped by a trigger of the table"),
    "failed_rows": whole("rejected records"),
    "resolved_rows": whole("rejected records that a corrected file has loaded since"),
    "progress": number("loaded share of the bytes", maximum=1),
    "rows_per_second": maybe(number("since the first chunk was claimed")),
    "eta_seconds": maybe(number("left at this pace; null when that is not known")),
    "chunks": schema("ChunkCounts"),
    "error": maybe(schema("Failure")),
    "warnings": listed(schema("Failure"), "what is no failure, but worth a look"),
    "parent_id": maybe({**UUID, "description": "the job whose rejects this file corrects"}),
    "sha256": maybe(text("of the file, once it has arrived", pattern="^[0-9a-f]{64}$")),
    "duplicate_of": maybe({**UUID, "description": "an earlier job that brought the same bytes to the dataset"}),
    "compression": maybe(word(("gzip", "zstd", "bzip2"), "of the file as it was sent")),
    "load": word(("after_upload", "while_uploading"), "when its chunks may be claimed"),
    "owner": maybe(text("whose key brought it; null where no keys are in use")),
    "dialect": maybe(schema("Dialect")),
    "created_at": moment("when the header was accepted"),
    "started_at": maybe(moment("when the first chunk was claimed")),
    "completed_at": maybe(moment("when the job reached its final state, whichever")),
    "updated_at": moment("when anything about it last changed"),
    "links": named(PATH, "the job, and what belongs to it"),
}

CHUNK: Json = {
    "ordinal": whole("place in the file, from 0"),
    "status": word(CHUNK_STATES),
    "attempt": whole("tries that counted"),
    "worker_id": maybe({**UUID, "description": "who has it, or had it last"}),
    "worker_host": maybe(text()),
    "worker_pid": maybe(whole()),
    "file_offset": whole("of its first byte in the file"),
    "length_bytes": whole(),
    "first_line": whole("physical line of its first record, from 1"),
    "records": whole(),
    "batches": whole("it is cut into"),
    "batches_committed": whole("in the ledger"),
    "inserted": whole("this and the next four: written when the chunk is completed"),
    "updated": whole(),
    "unchanged": whole(),
    "skipped": whole(),
    "rejected": whole(),
    "error": maybe(schema("Failure")),
    "next_try_at": maybe(moment("when it can be claimed")),
    "claimed_at": maybe(moment("when its last try began")),
    "finished_at": maybe(moment("when it reached its final state")),
}

REJECT: Json = {
    "line": whole("physical line of the record in the file, from 1"),
    "byte_offset": whole("of the record's first byte in the file"),
    "column": maybe(text("to blame, if one is")),
    "value": maybe(text("of that column, cut at 1,024 characters")),
    "code": text("why: a stable code, listed under /docs/problems", pattern="^E_[A-Z0-9_]+$"),
    "sqlstate": maybe(text("PostgreSQL's, where it refused")),
    "message": text("why, as a sentence"),
    "raw": maybe(text("the record as sent, cut at 4,096 bytes")),
    "truncated": flag("whether value or raw were cut"),
    "resolved_by": maybe({**UUID, "description": "the job that loaded the corrected record"}),
}

PAGE: Json = {"page": whole("from 1"), "limit": whole("items of a page"), "total": whole("items of all pages")}

EXAMPLE: Json = {"line": whole(), "value": maybe(text()), "message": text()}

GROUP: Json = {
    "column": maybe(text()),
    "code": text(),
    "count": whole("reasons"),
    "resolved": whole("of them resolved"),
    "examples": listed(thing("one of the first", EXAMPLE)),
}

AUDIT: Json = {
    "at": moment("when"),
    "actor": maybe(text("the id of the key that asked for it")),
    "action": text("what was asked for"),
    "detail": maybe({"type": ["object", "string"], "description": "what came of it"}),
}

COUNTS: Json = {name: whole() for name in ("pending", "processing", "completed", "failed")}

SCHEMAS: Json = {
    "Job": thing("One uploaded file for one dataset.", JOB),
    "JobPage": thing("Jobs, newest first.", {"jobs": listed(schema("Job")), **PAGE}),
    "ChunkCounts": thing("Chunks of a job by state.", COUNTS),
    "Chunk": thing("A record-aligned stretch of a file: the unit that workers claim and retry.", CHUNK),
    "ChunkPage": thing("Chunks in file order.", {"chunks": listed(schema("Chunk")), **PAGE}),
    "Reject": thing("One reason why one record was not loaded.", REJECT),
    "RejectPage": thing(
        "Reasons by line.",
        {
            "rejects": listed(schema("Reject")),
            **PAGE,
            "stored": whole("rejected records that are kept"),
            "rejected": whole("rejected records, kept or not"),
            "next": maybe(text("the path of what follows")),
        },
    ),
    "RejectSummary": thing(
        "Why records of a job were rejected.",
        {
            "total": whole("rejected records"),
            "resolved": whole("that a corrected file has loaded"),
            "stored": whole("that are kept"),
            "groups": listed(thing("a column and a code, most frequent first", GROUP)),
        },
    ),
    "Audit": thing(
        "What was done to a job.",
        {"audit": listed(thing("one action, the latest first", AUDIT))},
    ),
    "Failure": thing("What went wrong.", {"code": text("stable"), "message": text("for a person")}),
    "Priority": thing("What of a job may be changed.", {"priority": whole("9 runs first", maximum=9)}),
    "Source": {
        **thing(
            "A file that the service reads in place; all options of an upload are further members.",
            {
                "source": text("file:///folder/file.csv, below a folder of INGEST_SOURCE_ROOTS"),
                "dataset": text("where the rows go"),
                "filename": text("what to call it; its own name if missing"),
            },
            optional=("filename",),
        ),
        "additionalProperties": {"type": ["string", "integer"]},
    },
}
