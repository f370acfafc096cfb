"""Request options: read from the query or from form fields, checked in one place, refused by name when unknown."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from urllib.parse import parse_qsl, unquote
from uuid import UUID

from ingest.budget import Budget
from ingest.dialectoptions import DIALECT_OPTIONS, dialect_of
from ingest.errors import RequestError
from ingest.job import DEFAULT_PRIORITY, JobMode, JobState, Load
from ingest.receiving import UploadOptions

MAX_PARAMETERS = 50
MAX_VALUE_CHARS = 500
MAX_FILENAME_CHARS = 255
MAX_PAGE = 1_000_000  # keeps the OFFSET of a page far inside bigint
MAX_LIMIT = 500
DEFAULT_LIMIT = 10

UPLOAD_OPTIONS = tuple(
    sorted((*DIALECT_OPTIONS, "dataset", "load", "max_rejects", "mode", "on_duplicate", "parent", "priority"))
)
# What a parameter of a dataset may be called; whether the dataset has it, the dataset knows.
PARAMETER = re.compile(r"[a-z][a-z0-9_]{0,62}")


def query(query_string: bytes, allowed: Collection[str], *, others: bool = False) -> dict[str, str]:
    """Return the query's parameters by name. Raises RequestError (400) for one unknown, repeated or unreadable.

    `others`: names that a dataset's parameters may have are let pass, for the dataset to judge.
    """
    try:
        pairs = parse_qsl(
            query_string.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS
        )
    except ValueError as error:
        raise RequestError("the query cannot be read: it must be percent-encoded UTF-8", code="E_OPTION") from error
    values: dict[str, str] = {}
    for name, value in pairs:
        if name in values:
            raise RequestError(f"{name} is given more than once", code="E_OPTION", option=name)
        check_option(name, value, allowed, others=others)
        values[name] = value
    return values


def check_option(name: str, value: str, allowed: Collection[str], *, others: bool = False) -> None:
    """Raise RequestError (400) when an option is not one of `allowed`, is too long or holds control characters."""
    if name not in allowed and not (others and PARAMETER.fullmatch(name)):
        shown = name[:MAX_VALUE_CHARS]
        text = f"{shown!r} is not an option of this request"
        raise RequestError(text, code="E_OPTION", option=shown, allowed=sorted(allowed))
    if len(value) > MAX_VALUE_CHARS or not value.replace("\t", "").isprintable():
        raise RequestError(f"{name} is too long or holds control characters", code="E_OPTION", option=name)


def upload_options(values: Mapping[str, str], *, filename: str, bytes_total: int | None) -> UploadOptions:
    """Return the options of an upload.

    Raises RequestError (400, E_OPTION) that names the option at fault and what it may be.
    """
    load = Load(one_of(values, "load", tuple(Load)) or Load.AFTER_UPLOAD)
    mode = JobMode(one_of(values, "mode", tuple(JobMode)) or JobMode.BATCHES)
    refuse_duplicate = one_of(values, "on_duplicate", ("load", "refuse")) == "refuse"
    if load is Load.WHILE_UPLOADING and (mode is not JobMode.BATCHES or refuse_duplicate):
        other = "on_duplicate=refuse" if refuse_duplicate else f"mode={mode}"
        text = f"load={load} begins before the file is known and cannot be combined with {other}"
        raise RequestError(text, code="E_OPTION", option="load")
    if not values.get("dataset"):
        raise RequestError("dataset is missing: say which dataset the file is for", code="E_OPTION", option="dataset")
    return UploadOptions(
        dataset=values["dataset"],
        filename=filename,
        dialect=dialect_of(values),
        told={name: values[name] for name in DIALECT_OPTIONS if name in values},
        priority=whole(values, "priority", DEFAULT_PRIORITY, 0, 9),
        bytes_total=bytes_total,
        mode=mode,
        load=load,
        refuse_duplicate=refuse_duplicate,
        budget=Budget.parse(values["max_rejects"]) if "max_rejects" in values else None,
        parent_id=_parent(values),
        parameters={name: value for name, value in values.items() if name not in UPLOAD_OPTIONS},
    )


def page(values: Mapping[str, str]) -> tuple[int, int]:
    """Return (page, limit), from 1. Raises RequestError (400) when either is out of range."""
    return whole(values, "page", 1, 1, MAX_PAGE), whole(values, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT)


def status(values: Mapping[str, str]) -> JobState | None:
    """Return the job state asked for; empty means any. Raises RequestError (400) for a word that is no state."""
    word = one_of(values, "status", ["", *JobState])
    return JobState(word) if word else None


def path_label(raw_segment: bytes) -> str:
    """Return the last segment of a URL as a file's label. Raises RequestError (400, E_FILENAME) if nothing is left."""
    name = label(unquote(raw_segment.decode("latin-1")))
    if not name:
        raise RequestError("the URL must end in the name of the file", code="E_FILENAME")
    return name


def label(filename: str) -> str:
    """Return a client's file name as a label, never a path: no folders, nothing unprintable, at most 255 characters."""
    name = filename.replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(char for char in name if char.isprintable()).strip()[:MAX_FILENAME_CHARS]


def _parent(values: Mapping[str, str]) -> UUID | None:
    text = values.get("parent")
    if text is None:
        return None
    job_id = job_id_from(text)
    if job_id is None:
        raise RequestError(f"parent must be the id of a job, not {text[:50]!r}", code="E_OPTION", option="parent")
    return job_id


def job_id_from(text: str) -> UUID | None:
    """Return the id that `text` is, or None; braces, `urn:` and missing hyphens, which UUID() takes, are refused."""
    try:
        job_id = UUID(text)
    except ValueError:
        return None
    return job_id if str(job_id) == text.lower() else None


def one_of(values: Mapping[str, str], name: str, allowed: Collection[str]) -> str | None:
    """Return the word that an option has, or None. Raises RequestError (400) for a word that is not allowed."""
    value = values.get(name)
    if value is not None and value not in allowed:
        text = f"{name} must be {' or '.join(word for word in allowed if word)}, not {value!r}"
        raise RequestError(text, code="E_OPTION", option=name, allowed=[word for word in allowed if word])
    return value


def whole(values: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    """Return the whole number that an option has. Raises RequestError (400) when it is none or out of range."""
    text = values.get(name)
    if text is None:
        return default
    # isdigit alone accepts superscripts and other scripts' digits; the length keeps int() cheap.
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(high)) and low <= int(text) <= high):
        raise RequestError(
            f"{name} must be a whole number from {low} to {high}, not {text!r}", code="E_OPTION", option=name
        )
    return int(text)
