"""Examples that the document shows; the tests hold them against the schemas, and against what the service answers."""

from __future__ import annotations

from hashlib import sha256

from ingest.web.openapi.building import Json

ID = "01a202b3-b76b-7498-a9ff-6235041411a5"
PATH = f"/api/v1/csv/jobs/{ID}"

FILE = (
    "email,name,city,created_at\n"
    "ada@example.com,Ada Lovelace,London,1815-12-10\n"
    "not-an-address,Nobody,Nowhere,2024-01-01\n"
    'grace@example.com,"Hopper, Grace",New York,1906-12-09\n'
)

JOB: Json = {
    "id": ID,
    "dataset": "customers",
    "filename": "customers.csv",
    "status": "completed",
    "mode": "batches",
    "priority": 5,
    "bytes_total": len(FILE),
    "bytes_received": len(FILE),
    "bytes_processed": len(FILE),
    "total_rows": 3,
    "processed_rows": 2,
    "inserted_rows": 2,
    "updated_rows": 0,
    "unchanged_rows": 0,
    "skipped_rows": 0,
    "failed_rows": 1,
    "resolved_rows": 0,
    "progress": 1.0,
    "rows_per_second": 214.3,
    "eta_seconds": None,
    "chunks": {"pending": 0, "processing": 0, "completed": 1, "failed": 0},
    "error": None,
    "warnings": [],
    "parent_id": None,
    "sha256": sha256(FILE.encode()).hexdigest(),
    "duplicate_of": None,
    "compression": None,
    "load": "after_upload",
    "owner": None,
    "dialect": {
        "delimiter": ",",
        "quote": '"',
        "null": "",
        "evidence": [
            "The encoding is UTF-8: the first 169 bytes are valid ASCII.",
            "The first line, read with commas between the names, is what the dataset expects.",
        ],
        "options": "delimiter=%2C&quote=%22&encoding=utf-8",
    },
    "created_at": "2026-11-22T11:25:34.120000Z",
    "started_at": "2026-11-22T11:25:34.164000Z",
    "completed_at": "2026-11-22T11:25:34.178000Z",
    "updated_at": "2026-11-22T11:25:34.178000Z",
    "links": {
        "self": PATH,
        **{name: f"{PATH}/{name}" for name in ("progress", "stream", "ws", "chunks", "rejects", "audit")},
        "rejects_summary": f"{PATH}/rejects/summary",
        "rejects_csv": f"{PATH}/rejects.csv",
    },
}

REJECT: Json = {
    "line": 3,
    "byte_offset": 74,
    "column": "email",
    "value": "not-an-address",
    "code": "E_RULE",
    "sqlstate": None,
    "message": "email is not an e-mail address",
    "raw": "not-an-address,Nobody,Nowhere,2024-01-01",
    "truncated": False,
    "resolved_by": None,
}

REJECTS: Json = {
    "rejects": [REJECT], "page": 1, "limit": 10, "total": 1, "stored": 1, "rejected": 1, "next": None,
}  # fmt: skip

SUMMARY: Json = {
    "total": 1,
    "resolved": 0,
    "stored": 1,
    "groups": [
        {
            "column": "email",
            "code": "E_RULE",
            "count": 1,
            "resolved": 0,
            "examples": [{"line": 3, "value": "not-an-address", "message": "email is not an e-mail address"}],
        }
    ],
}

JOBS: Json = {"jobs": [JOB], "page": 1, "limit": 10, "total": 1}

STREAM = f'id: 7\nevent: completed\ndata: {{"id": "{ID}", "status": "completed", "progress": 1.0}}\n\n'

METRICS = (
    "# HELP ingest_rows_total Records of committed batches.\n"
    "# TYPE ingest_rows_total counter\n"
    'ingest_rows_total{dataset="customers",outcome="inserted"} 2.0\n'
)
