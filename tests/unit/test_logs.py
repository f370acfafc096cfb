"""Logs: one line per event whoever logs it, with the bound ids, escaped, in JSON or for a console."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator
from datetime import datetime, timedelta
from uuid import UUID

import pytest
import structlog
import trio
from structlog.contextvars import bound_contextvars

from ingest import logs


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(False)
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    """The JSON lines written so far."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def json_logs(level: str = "INFO") -> io.StringIO:
    """Logs configured as JSON into memory."""
    out = io.StringIO()
    logs.configure(level, "json", out)
    return out


def test_an_event_is_one_json_line_with_time_level_and_logger() -> None:
    out = json_logs()
    structlog.get_logger("ingest.poller").info("claimed", chunk=3)
    [line] = lines(out)
    stamp = datetime.fromisoformat(str(line.pop("timestamp")))
    assert stamp.utcoffset() == timedelta(0)
    assert line == {"event": "claimed", "chunk": 3, "level": "info", "logger": "ingest.poller"}


@pytest.mark.parametrize(("format", "shown"), [("json", '"{}"'), ("console", "={}")])
def test_an_id_is_written_as_an_id(format: str, shown: str) -> None:
    out = io.StringIO()
    logs.configure("INFO", format, out)
    job = UUID("0198c0de-0000-7000-8000-000000000001")
    structlog.get_logger().info("created", job=job)
    assert shown.format(job) in out.getvalue()


def test_what_libraries_log_looks_the_same() -> None:
    out = json_logs()
    logging.getLogger("hypercorn.error").warning("lost %s", "peer", extra={"port": 8000})
    [line] = lines(out)
    assert (line["event"], line["level"], line["logger"], line["port"]) == (
        "lost peer",
        "warning",
        "hypercorn.error",
        8000,
    )


def test_warnings_are_logged() -> None:
    out = json_logs()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    [line] = lines(out)
    assert line["logger"] == "py.warnings"
    assert "DeprecationWarning: old" in str(line["event"])


async def test_bound_ids_are_on_every_line_of_the_task_and_its_children_only() -> None:
    out = json_logs()

    async def child() -> None:
        logging.getLogger("asyncpg").info("from a library")

    with bound_contextvars(job="j", chunk=1):
        structlog.get_logger().info("ours")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
    structlog.get_logger().info("after")
    assert [(line.get("job"), line.get("chunk")) for line in lines(out)] == [("j", 1), ("j", 1), (None, None)]


def test_events_below_the_level_are_dropped_for_everybody() -> None:
    out = json_logs("WARNING")
    structlog.get_logger().info("quiet")
    logging.getLogger("trio").info("quiet")
    structlog.get_logger().warning("loud")
    assert [line["event"] for line in lines(out)] == ["loud"]


def test_configuring_again_replaces_the_old_output() -> None:
    old = json_logs()
    new = json_logs()
    structlog.get_logger().info("here")
    assert (old.getvalue(), len(lines(new))) == ("", 1)


@pytest.mark.parametrize("format", ["json", "console"])
def test_hostile_characters_cannot_forge_a_line_or_drive_a_terminal(format: str) -> None:
    out = io.StringIO()
    logs.configure("INFO", format, out)
    hostile = "a\nfake\r\x1b[2J\x7f\x9b\u2028\u202e\ud800b"
    structlog.get_logger().info(hostile, name=hostile, nested=[hostile])
    logging.getLogger("library").info(hostile)
    written = out.getvalue()
    assert written.count("\n") == 2
    assert not logs.HOSTILE.search(written.replace("\n", ""))


@pytest.mark.parametrize("format", ["json", "console"])
def test_a_traceback_shows_no_local_variables(format: str) -> None:
    out = io.StringIO()
    logs.configure("INFO", format, out)
    password = "s3cret"
    try:
        raise ValueError("\x1b[31mbad")
    except ValueError:
        structlog.get_logger().exception("failed")
    assert "Traceback" in out.getvalue()
    assert password not in out.getvalue().replace('password = "s3cret"', "")
    assert "\x1b" not in out.getvalue()


@pytest.mark.parametrize(("stream", "is_json"), [(io.StringIO, True), (Terminal, False)])
def test_auto_is_for_people_on_a_terminal_and_json_elsewhere(stream: type[io.StringIO], is_json: bool) -> None:
    out = stream()
    logs.configure("INFO", "auto", out)
    structlog.get_logger().info("started")
    assert out.getvalue().startswith("{") is is_json


def test_standard_error_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(format="json")
    structlog.get_logger().info("started")
    said = capsys.readouterr()
    assert said.out == ""
    assert '"event": "started"' in said.err
