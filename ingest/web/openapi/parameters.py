"""Parameters of requests, and headers of requests and answers."""

from __future__ import annotations

from ingest.dialectoptions import DIALECT_OPTIONS
from ingest.job import JobMode, JobState
from ingest.web.openapi.building import Json, parameter, ref, text, whole, word
from ingest.web.openapi.jobschemas import UUID
from ingest.web.options import DEFAULT_LIMIT, MAX_LIMIT, MAX_PAGE, MAX_VALUE_CHARS

CELL = text(maxLength=MAX_VALUE_CHARS)
COUNT = text("a whole number, or `auto`", pattern="^([0-9]{1,4}|auto)$")

QUERY: Json = {
    "page": ("page of a list, from 1", whole(minimum=1, maximum=MAX_PAGE, default=1), 1),
    "limit": ("items of a page", whole(minimum=1, maximum=MAX_LIMIT, default=DEFAULT_LIMIT), 10),
    "status": ("only jobs that stand there", word(["", *JobState]), "completed"),
    "of_dataset": ("only jobs of a dataset", CELL, "customers"),
    "of_filename": ("only jobs whose file's name contains this, of the newest 100,000; case is ignored", CELL, "march"),
    "dataset": (
        "where the rows go: a definition, `schema.table`, `auto` for the definition that fits the header, or"
        " `new:schema.table` for a table that is made with columns and types as the first records have them",
        text(minLength=1, maxLength=MAX_VALUE_CHARS),
        "customers",
    ),
    "load": ("when loading begins", word(("after_upload", "while_uploading")), "after_upload"),
    "mode": ("what can be seen in the table, and when", word(JobMode), "batches"),
    "priority": ("9 runs first", whole(maximum=9, default=5), 5),
    "max_rejects": ("with more the job stops: a count, or a share as 5%", CELL, "5%"),
    "on_duplicate": (
        "what becomes of a file that was loaded into the dataset before",
        word(("load", "refuse")),
        "load",
    ),
    "parent": ("the job whose rejects this file corrects", UUID, None),
    "delimiter": ("up to eight characters, or `tab`, `space`, `comma-space`; else detected", CELL, ","),
    "quote": ("one character, or `none`; else detected", CELL, '"'),
    "escape": ("what makes a quote plain inside quotes, or `none`; else detected", CELL, "none"),
    "encoding": ("of the file; else detected", CELL, "utf-8"),
    "newline": ("`lf`, with or without a CR before it, or `cr`; else detected", word(("lf", "cr", "auto")), "lf"),
    "header": ("`false`: the file has none; else detected", CELL, "true"),
    "header_rows": ("records that make up the header; else detected", COUNT, None),
    "skip_rows": ("lines before the header; else detected", COUNT, None),
    "footer_rows": ("lines at the end that are no records; else detected", COUNT, None),
    "comment": ("what a line begins with that is left out; else detected", CELL, None),
    "columns": ("names instead of those of the header; one without a name is not loaded", CELL, None),
    "trim": ("white space around fields is no part of them; else detected", CELL, None),
    "on_ragged": (
        "a record with another number of fields",
        word(("reject", "pad", "merge")),
        "reject",
    ),
    "on_header": (
        "the header once more: it is rejected alone, or ends the table; `auto`: it ends it unless on_ragged rejects",
        word(("auto", "reject", "end")),
        "auto",
    ),
    "on_quote": ("a quote that is not around a whole field", word(("reject", "keep")), "reject"),
    "null": ("the unquoted text that means NULL", CELL, "NA"),
    "code": ("only rejects with this code", CELL, "E_TYPE"),
    "column": ("only rejects of this column", CELL, "email"),
    "line": ("only rejects of this line", whole(minimum=1, maximum=10**18 - 1), 4),
    "resolved": ("whether a corrected file has loaded the record since", word(("true", "false", "all")), "all"),
    "after": ("the cursor of a `next` link; excludes page", CELL, None),
}

HEADERS: Json = {
    "Idempotency-Key": (
        "the same key and request is the same job again",
        text(minLength=1, maxLength=255),
        "f-2024-01",
    ),
    "Content-Encoding": (
        "unpacked while it arrives; so are files named .gz, .zst, .bz2, or that begin as such",
        word(("identity", "gzip", "x-gzip", "zstd", "bzip2", "x-bzip2")),
        "identity",
    ),
    "Content-Digest": ("of the bytes as sent; they are checked (RFC 9530)", text(), None),
    "Repr-Digest": ("the same here", text(), None),
    "If-None-Match": ("answered with 304 if nothing has changed", text(), None),
    "Last-Event-ID": ("the last event that was seen", text(), None),
    "Tus-Resumable": ("the version of tus", word(("1.0.0",)), "1.0.0"),
    "Upload-Length": ("bytes of the file", whole(), 1000),
    "Upload-Defer-Length": ("the length is told later", word(("1",)), "1"),
    "Upload-Offset": ("where these bytes belong", whole(), 0),
    "Upload-Metadata": ("pairs of name and base64: filename, dataset, and the options of an upload", text(), None),
    "X-HTTP-Method-Override": ("for clients that can only POST", word(("PATCH", "DELETE", "HEAD")), None),
    "Upload-Checksum": ("algorithm and base64, of these bytes", text(), None),
}

ANSWER_HEADERS: Json = {
    "Location": text("the path of what was made"),
    "Retry-After": whole("seconds to wait"),
    "WWW-Authenticate": text("which kind of key is asked for"),
    "ETag": text("changes with the answer"),
    "Set-Cookie": text("keeps the token of a session, or forgets it"),
    "Content-Encoding": text("gzip, where the client takes it"),
    "Vary": text("request headers that the answer depends on"),
    "Allow": text("methods of this path"),
    "Upgrade": text("websocket"),
    "X-Accel-Buffering": text("no"),
    "Content-Disposition": text("the name of the file"),
    "Ingest-Job": text("the URL of the upload's job"),
    "Tus-Resumable": text("the version of tus"),
    "Tus-Version": text("versions that are spoken"),
    "Tus-Extension": text("extensions that are spoken"),
    "Tus-Max-Size": whole("bytes of a file"),
    "Tus-Checksum-Algorithm": text("sha1,sha256"),
    "Upload-Offset": whole("bytes that are stored"),
    "Upload-Length": whole("bytes of the file"),
    "Upload-Defer-Length": text("1 while the length is not known"),
    "Upload-Metadata": text("as it was sent"),
    "Upload-Expires": text("when it is removed, an HTTP date"),
}


def parameters() -> Json:
    """Return the components: names of query parameters as they are, those of headers behind `header_`."""
    found = {name: parameter("query", name, *rest) for name, rest in QUERY.items()}
    found["of_dataset"]["name"] = "dataset"
    found["of_filename"]["name"] = "filename"
    found["optional_dataset"] = found["dataset"]
    found["dataset"] = {**found["dataset"], "required": True}
    found["preview_dataset"] = {**found["optional_dataset"], "description": "default: auto"}
    found |= {f"header_{name}": parameter("header", name, *rest) for name, rest in HEADERS.items()}
    found["others"] = {
        **parameter(
            "query",
            "parameters",
            "parameters that the dataset asks for, each under its own name",
            {"type": "object", "additionalProperties": CELL, "propertyNames": {"pattern": "^[a-z][a-z0-9_]{0,62}$"}},
        ),
        "style": "form",
        "explode": True,
    }
    found["job_id"] = parameter("path", "job_id", "of a job", UUID)
    found["upload_id"] = parameter("path", "upload_id", "of a resumable upload", text(minLength=1))
    found["filename"] = parameter("path", "filename", "what the file is called", text(minLength=1), "customers.csv")
    found["page_file"] = parameter("path", "name", "of a file of the page", text(minLength=1), "main.js")
    found["name"] = parameter("path", "name", "of a dataset", text(minLength=1), "customers")
    return found


def headers() -> Json:
    """Return the components: headers of answers."""
    return {
        name: {"schema": {key: value for key, value in kind.items() if key != "description"},
               "description": kind["description"]}
        for name, kind in ANSWER_HEADERS.items()
    }  # fmt: skip


def use(*names: str) -> list[Json]:
    """Return references to parameters."""
    return [ref("parameters", name) for name in names]


UPLOAD = use(
    "dataset", "load", "mode", "priority", "max_rejects", "on_duplicate", "parent", *DIALECT_OPTIONS, "others",
    "header_Idempotency-Key",
)  # fmt: skip
BYTES = use("header_Content-Encoding", "header_Content-Digest", "header_Repr-Digest")
