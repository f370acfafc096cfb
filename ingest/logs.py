"""Logging: one line per event on standard error, the same for our own events and for those of the libraries.

Standard output belongs to what a person asked for (the ready line, tables, JSON), so logs never go there.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import uuid
from pathlib import Path
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

# Control characters, line separators, direction overrides and lone surrogates: what a file name or a header of a
# stranger could use to forge a log line or to drive a terminal.
HOSTILE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

# An API key, wherever it came from; its prefix says which one it was.
KEY = re.compile(r"ing_([0-9a-f]{12})_[A-Za-z0-9_-]+")

# Tracebacks are ours and have lines; everything hostile but the newline is escaped in them too.
MULTILINE = frozenset({"exception", "stack"})


def configure(level: str = "INFO", format: str = "auto", stream: TextIO | None = None) -> None:
    """Send everything that is logged by structlog, the standard library or warnings to `stream` (standard error).

    `format` is `json`, `console`, or `auto`: console when the stream is a terminal. May be called again to change it.
    Values bound with `structlog.contextvars.bound_contextvars` appear on every line of the task and its children.
    """
    out = stream or sys.stderr
    shared = _shared()
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=_rendering(format, out))
    )
    # What is not shown is not looked for: where a line is logged from, and by which thread and process.
    logging._srcfile = None  # as the documentation of logging says
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    logging.captureWarnings(True)
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def escaped(text: str) -> str:
    """The text with hostile characters written as escapes, so that it stays on one line and moves no cursor."""
    return HOSTILE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def without_keys(text: str) -> str:
    """The text with the secret of every API key in it left out: no line is ever to hold one, whoever writes it."""
    return KEY.sub(r"ing_\1_***", text)


def _shared() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        # Plain text: the richer renderers print local variables, which hold passwords and cell values.
        structlog.processors.format_exc_info,
    ]


def _rendering(format: str, out: TextIO) -> list[Processor]:
    remove_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if format == "json" or (format == "auto" and not out.isatty()):
        return [remove_meta, structlog.processors.JSONRenderer(serializer=_json, default=str)]
    return [remove_meta, _escape, structlog.dev.ConsoleRenderer(colors=out.isatty())]


def _json(event: EventDict, **options: Any) -> str:
    # ASCII only, so every hostile character but DEL is escaped by JSON itself and any stream can take the line.
    return without_keys(json.dumps(event, **options).replace("\x7f", "\\u007f"))


def _escape(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    for key, value in event.items():
        if isinstance(value, uuid.UUID | Path):
            event[key] = escaped(str(value))
        elif isinstance(value, str):
            value = without_keys(value)
            event[key] = "\n".join(map(escaped, value.split("\n"))) if key in MULTILINE else escaped(value)
    return event
