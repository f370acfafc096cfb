"""The shapes of everything but jobs: problems, datasets, previews, health, statistics."""

from __future__ import annotations

from ingest.job import JobState
from ingest.web.openapi import jobschemas
from ingest.web.openapi.building import (
    Json,
    flag,
    listed,
    maybe,
    named,
    number,
    schema,
    text,
    thing,
    whole,
    word,
)

PROBLEM: Json = {
    **thing(
        "RFC 9457: what was wrong. Further members name the option, the columns, the limits at fault.",
        {
            "type": text("where the code is explained", format="uri-reference"),
            "title": text("the same words for every occurrence"),
            "status": whole("HTTP status", minimum=400, maximum=599),
            "detail": text("what was wrong this time, for a person"),
            "code": text("stable; listed under /docs/problems", pattern="^E_[A-Z0-9_]+$"),
            "request_id": text("as X-Request-Id, and in the log of the service"),
        },
        optional=("request_id",),
    ),
    "additionalProperties": True,
}

TABLE_COLUMN: Json = {
    "name": text(),
    "type": text("as PostgreSQL writes it"),
    "required": flag("a file must have it"),
    "generated": flag("no file can have it"),
    "is_key": flag("part of the primary key"),
}

SHARED: Json = {
    "name": text("what requests call it"),
    "table": text("schema.table of its first target"),
    "mode": word(("append", "skip", "upsert"), "what becomes of a row whose key is known"),
    "description": maybe(text()),
}

DEFINED: Json = {
    **SHARED,
    "key": listed(text(), "columns"),
    "version": whole("of the definition", minimum=1),
    "order": word(("file", "any"), "whether the last record of a key wins"),
    "unknown_columns": word(("reject", "ignore")),
    "max_rejects": maybe(text("a count or a share, as 5%")),
    "parameters": named({"type": "object"}, "what a request must or may give"),
    "platforms": named({"type": "object"}, "sources with names of their own"),
    "columns": listed({"type": "object", "required": ["name", "type"]}, "as the definition says"),
    "checks": listed({"type": "object"}),
    "targets": listed({"type": "object"}, "tables, with the dataset's column of each of theirs"),
}

DIALECT: Json = {
    **thing(
        "how the file is read; what is as usual is left out, but for the first three",
        {
            "delimiter": text(minLength=1),
            "quote": text("none if empty"),
            "null": text("the unquoted text that means NULL"),
            "evidence": listed(text(), "why, in sentences, where it was detected"),
            "options": text("the options that pin it, as a query"),
        },
    ),
    "additionalProperties": True,
}

PREVIEW: Json = {
    "dataset": text("that the header fits"),
    "platform": maybe(text("of a definition with platforms")),
    "certainty": maybe(number("of a dataset that was recognised", maximum=1)),
    "dialect": schema("Dialect"),
    "header": listed(text()),
    "columns": listed(
        thing(
            "a column of the file",
            {
                "name": text("in the header"),
                "column": maybe(text("of the dataset")),
                "matched": maybe(text("name or alias")),
                "type": maybe(text()),
            },
        )
    ),
    "missing": listed(text(), "columns that the file must have and has not"),
    "ignored": listed(text(), "columns of the file that are not loaded"),
    "rows": listed(listed(text()), "the first ones"),
    "problems": listed(text(), "seen so far, as sentences"),
}

CHANGES = ("climb", "trial", "return", "conflict", "lock", "unavailable", "memory")
POOL: Json = {name: whole() for name in ("open", "idle", "limit")}
STORAGE: Json = {
    name: whole() for name in ("objects_written", "bytes_written", "objects_removed", "threads_busy")
}  # fmt: skip
WORKER: Json = {
    "id": jobschemas.UUID,
    "heartbeat_age_s": maybe(number("seconds since the database last heard of it")),
    "chunks": whole("at work"),
    "batches_in_flight": thing("read and not committed", {"queued": whole(), "writing": whole()}),
    "last_batch_s": maybe(number("seconds that the last batch took")),
    "writers": thing(
        "batches that may be at the database at once",
        {
            "auto": flag("whether the number follows the load"),
            "now": whole(),
            "most": whole("what it may grow to"),
            "busy": whole("batches that are at the database"),
            "bytes_per_s": number("loaded, as measured last; 0 where the number is set"),
            "changes": listed(
                thing(
                    "a change",
                    {"age_s": number("seconds ago"), "before": whole(), "writers": whole(), "reason": word(CHANGES)},
                ),
                "the latest ones, the last at the end",
            ),
        },
    ),
}
WORKER_OF_ALL: Json = {
    "id": jobschemas.UUID,
    "host": text(),
    "pid": whole(),
    "version": text(),
    "draining": flag(),
    "heartbeat_age_s": number("seconds since the database last heard of it"),
    "chunks": whole("at work"),
}
QUEUE: Json = {"pending": whole("chunks"), "processing": whole("chunks"), "oldest_age_s": maybe({"type": "number"})}
STATUSES = ("ok", "starting", "draining", "database_unavailable")

HEALTH: Json = {
    "status": word(STATUSES),
    "version": text(),
    "uptime": number("seconds"),
    "role": word(("serve", "api", "worker")),
    "draining": flag(),
    "database": thing(
        "one question, timed",
        {
            "ok": flag(),
            "latency_ms": maybe(number()),
            "code": maybe(text("why not ok")),
            "pool": thing("connections", POOL),
        },
    ),
    "storage": thing("since the start", STORAGE),
    "worker": maybe(thing("of this process", WORKER)),
    "queue": maybe(thing("of all workers", QUEUE)),
    "memory": thing("of this process", {"rss_bytes": whole(), "peak_bytes": whole()}),
}

ROWS: Json = {name: whole() for name in ("inserted", "updated", "unchanged", "skipped", "rejected")}
LATELY: Json = {
    "hours": whole("how far back"),
    "jobs": thing("that ended", {name: whole() for name in ("completed", "failed", "cancelled")}),
    "success_rate": maybe(number("completed, of completed and failed", maximum=1)),
    "rows": thing("of these jobs", ROWS),
    "bytes": whole("of their files"),
}
STATS: Json = {
    "jobs": thing("by state", {"total": whole(), **{state.value: whole() for state in JobState}}),
    "rows_per_second": number("of all jobs at work"),
    "queue": thing("of all workers", QUEUE),
    "workers": listed(thing("a process that loads", WORKER_OF_ALL), "those heard of within the last hour"),
    "lately": thing("what has ended", LATELY),
}

SESSION: Json = {
    "signed_in": flag("a key was sent, or is kept by the browser"),
    "owner": maybe(text("of the key")),
    "scopes": listed(text(), "what the caller may do; admin where no keys are asked for"),
}

SCHEMAS: Json = {
    **jobschemas.SCHEMAS,
    "Problem": PROBLEM,
    "Upload": thing(
        "One entry a file part, in order: its job, or the problem why it was refused.",
        {"jobs": listed({"anyOf": [schema("Job"), schema("Problem")]})},
    ),
    "TableDataset": thing(
        "A table that exists.", {**SHARED, "columns": listed(thing("a column", TABLE_COLUMN))}
    ),
    "DefinedDataset": thing("A definition, its defaults filled in.", DEFINED),
    "Dataset": {"anyOf": [schema("DefinedDataset"), schema("TableDataset")]},
    "DatasetList": thing("Every dataset.", {"datasets": listed(schema("Dataset"))}),
    "Dialect": DIALECT,
    "Preview": thing("How the beginning of a file is read.", PREVIEW),
    "Health": thing("The state of a process.", HEALTH),
    "Status": thing("A probe's answer.", {"status": word(STATUSES)}),
    "Links": thing("Where things are.", {"service": text(), "links": named(jobschemas.PATH)}),
    "Session": thing("Who the caller is.", SESSION),
    "Stats": thing("What all jobs come to, at most a second old.", STATS),
}  # fmt: skip
