"""The operations that take files: uploads, resumable uploads, previews."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from ingest.dialectoptions import DIALECT_OPTIONS
from ingest.web.answers import BASE
from ingest.web.openapi import examples
from ingest.web.openapi.building import DATABASE_ERRORS, Json, answer, body, operation, schema
from ingest.web.openapi.parameters import BYTES, UPLOAD, use
from ingest.web.problems import Kind

HEADER_ERRORS = (
    "E_FILE", "E_EMPTY", "E_NOT_CSV", "E_ENCODING", "E_ENCODING_SUSPECT", "E_LINE_END", "E_HEADER", "E_HEADER_EMPTY",
    "E_TOO_MANY_COLUMNS", "E_QUOTE_OPEN", "E_RECORD_TOO_LARGE", "E_DATASET_UNSURE",
    "E_DIALECT_AMBIGUOUS", "E_HEADER_MISMATCH",
)  # fmt: skip
# What a request with a body may meet; and one whose body is a file to load.
BODY_ERRORS = ("E_OPTION", "E_OPTION_UNSUPPORTED", "E_UPLOAD_INCOMPLETE", "E_TIMEOUT", "E_TOO_LARGE")
DATASET_ERRORS = ("E_DATASET_UNKNOWN", "E_DATASET_FORBIDDEN", *DATABASE_ERRORS)
# A file on its way to a job, wherever it comes from; and one that comes as the body of a request.
ADMISSION_ERRORS = (
    *BODY_ERRORS, *DATASET_ERRORS, *HEADER_ERRORS, "E_DATASET_TABLE", "E_PARENT", "E_COMPRESSED",
    "E_DECOMPRESSED_LIMIT", "E_DUPLICATE",
)  # fmt: skip
STORED_ERRORS = ("E_UPLOAD_GONE", "E_MEDIA_TYPE", "E_STORAGE", "E_STORAGE_FULL", "E_DRAINING")
FILE_ERRORS = (*ADMISSION_ERRORS, *STORED_ERRORS, "E_DIGEST", "E_KEY_BUSY", "E_KEY_REUSED")
TUS_ERRORS = (
    "E_TUS_VERSION", "E_OPTION", "E_NOT_FOUND", "E_DRAINING", "E_UPLOAD_ENDED", "E_UPLOAD_TAKEN", "E_UPLOAD_BUSY",
    *DATABASE_ERRORS,
)  # fmt: skip
TUS_FILE_ERRORS = (*TUS_ERRORS, *ADMISSION_ERRORS, *STORED_ERRORS, "E_TUS_HEADER", "E_CHECKSUM")

FILES = f"{BASE}/files"
WITH_THE_LAST_BYTE = (
    "With the last byte the file is finished: one that is compressed or not in UTF-8 is unpacked. What takes longer "
    "than 20 s goes on without the request; the job stays `receiving` meanwhile, and is `pending` or `failed` then."
)


def upload_paths(kinds: Mapping[str, Kind]) -> Json:
    """Return the paths that take files."""
    one = partial(operation, tag="uploads", kinds=kinds)
    return {
        f"{BASE}/upload": {"post": _form(kinds)},
        f"{BASE}/upload/{{filename}}": {
            "put": one(
                "upload_file",
                summary="Send one file.",
                description="Files named .gz, .zst or .bz2 are decompressed while they arrive.",
                answers={
                    200: answer(
                        "The same Idempotency-Key and request: the same job.", schema("Job"), headers=("Location",)
                    ),
                    202: answer("Its job.", schema("Job"), example=examples.JOB, headers=("Location",)),
                },
                errors=("E_FILENAME", *FILE_ERRORS),
                parameters=[*use("filename"), *UPLOAD, *BYTES],
                request=body(
                    "The bytes of the file, whatever the Content-Type.",
                    csv={"schema": {"type": "string"}, "example": examples.FILE},
                    binary={},
                ),
                scopes=("upload",),
            )
        },
        f"{BASE}/preview": {
            "post": one(
                "preview",
                summary="How the beginning of a file is read, and what is wrong with it; nothing is loaded.",
                answers={200: answer("What a load would begin with.", schema("Preview"))},
                errors=(*BODY_ERRORS, *DATASET_ERRORS, *HEADER_ERRORS, "E_COMPRESSED"),
                parameters=use("preview_dataset", *DIALECT_OPTIONS),
                request=body("At most 1 MiB.", csv={"schema": {"type": "string"}, "example": examples.FILE}, binary={}),
                scopes=("upload",),
            )
        },
        **_files(kinds),
    }


def _form(kinds: Mapping[str, Kind]) -> Json:
    fields = {name: {"type": "string"} for name in ("dataset", "mode", "priority", "max_rejects", "parent")}
    file = {"type": "array", "items": {"type": "string", "contentMediaType": "application/octet-stream"}, "minItems": 1}
    form = {"type": "object", "properties": {**fields, "file": file}, "required": ["file"]}
    return operation(
        "upload_form",
        "uploads",
        "Send any number of files in a form.",
        {
            200: answer("The same Idempotency-Key and request: the same jobs.", schema("Upload")),
            202: answer("One entry a file, in order.", schema("Upload"), example={"jobs": [examples.JOB]}),
        },
        description="Fields hold for the files after them and win over the query. A refused file spoils no other.",
        errors=("E_MULTIPART", *FILE_ERRORS),
        parameters=[*(use("optional_dataset")), *UPLOAD[1:]],
        request=body("Options and files.", form={"schema": form, "encoding": {"file": {"contentType": "text/csv"}}}),
        scopes=("upload",),
        kinds=kinds,
    )


def _files(kinds: Mapping[str, Kind]) -> Json:
    one = partial(operation, tag="resumable", kinds=kinds, scopes=("upload",), always=("Tus-Resumable",))
    tus = use("header_Tus-Resumable")
    told = ("Tus-Resumable", "Upload-Offset", "Upload-Expires", "Ingest-Job")
    able = ("Tus-Resumable", "Tus-Version", "Tus-Extension", "Tus-Max-Size", "Tus-Checksum-Algorithm", "Allow")
    options = one(
        "tus_options", summary="What of tus is spoken.", answers={204: answer("It is.", headers=able)}, scopes=()
    )
    piece: Json = {"schema": {}}
    return {
        FILES: {"post": _create(kinds), "options": options},
        f"{FILES}/{{upload_id}}": {
            "head": one(
                "find_upload",
                summary="How far an upload is.",
                description="Of one that is whole it waits, at most 20 s, until it is a job or is refused.",
                answers={
                    200: answer(
                        "It exists.", headers=(*told, "Upload-Length", "Upload-Defer-Length", "Upload-Metadata")
                    )
                },
                errors=TUS_FILE_ERRORS,
                parameters=[*use("upload_id"), *tus],
            ),
            "patch": one(
                "continue_upload",
                summary="Send further bytes. Those that are acknowledged are on the disk.",
                description=WITH_THE_LAST_BYTE,
                answers={204: answer("They are stored.", headers=told)},
                errors=(*TUS_FILE_ERRORS, "E_UPLOAD_OFFSET", "E_UPLOAD_LENGTH"),
                parameters=[
                    *use("upload_id"), *tus,
                    *use("header_Upload-Offset", "header_Upload-Length", "header_Upload-Checksum"),
                ],
                request=body("The bytes from Upload-Offset on.", patch=piece),
            ),
            "delete": one(
                "end_upload",
                summary="Give an upload up; nothing of it stays.",
                answers={204: answer("It is gone.", headers=("Tus-Resumable",))},
                errors=(*TUS_ERRORS, "E_STATE", "E_STORAGE"),
                parameters=[*use("upload_id"), *tus],
            ),
            "post": _overridden(kinds),
            "options": {**options, "operationId": "tus_options_of_upload", "parameters": use("upload_id")},
        },
    }  # fmt: skip


def _create(kinds: Mapping[str, Kind]) -> Json:
    headers = ("Location", "Tus-Resumable", "Upload-Offset", "Upload-Expires", "Ingest-Job")
    names = ("Tus-Resumable", "Upload-Length", "Upload-Defer-Length", "Upload-Metadata", "Upload-Checksum")  # fmt: skip
    return operation(
        "create_upload",
        "resumable",
        "Begin a resumable upload (tus 1.0), with its first bytes or without.",
        {201: answer("It exists.", headers=headers)},
        description=f"Options go into Upload-Metadata, or into the query. {WITH_THE_LAST_BYTE}",
        errors=(*TUS_FILE_ERRORS, "E_TOO_MANY_UPLOADS"),
        parameters=[*use(*(f"header_{name}" for name in names)), *use("optional_dataset"), *UPLOAD[1:-1]],
        request=body("The first bytes.", required=False, patch={"schema": {}}),
        scopes=("upload",),
        always=("Tus-Resumable",),
        kinds=kinds,
    )


def _overridden(kinds: Mapping[str, Kind]) -> Json:
    names = ("X-HTTP-Method-Override", "Tus-Resumable", "Upload-Offset", "Upload-Length", "Upload-Checksum")
    headers = ("Tus-Resumable", "Upload-Offset", "Upload-Expires", "Ingest-Job")
    more = ("Upload-Length", "Upload-Defer-Length", "Upload-Metadata")
    return operation(
        "use_upload",
        "resumable",
        "PATCH, DELETE or HEAD, for clients that can only POST.",
        {200: answer("As of HEAD.", headers=(*headers, *more)), 204: answer("As of PATCH or DELETE.", headers=headers)},
        errors=(*TUS_FILE_ERRORS, "E_UPLOAD_OFFSET", "E_UPLOAD_LENGTH", "E_STATE", "E_METHOD"),
        parameters=[*use("upload_id"), *use(*(f"header_{name}" for name in names))],
        request=body("The bytes from Upload-Offset on, for PATCH.", required=False, patch={"schema": {}}),
        scopes=("upload",),
        always=("Tus-Resumable",),
        kinds=kinds,
    )
