"""A batch as it was sent -> a batch that COPY reads, which remembers where each of its records came from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import trio

from ingest.batch import Batch, Source
from ingest.loading.screening import records_of
from ingest.reading.canonical import Canonical, canonical, compact, layout_of
from ingest.reading.strays import has_stray_quote


async def readable(batch: Batch, *, leniently: bool = False) -> Batch:
    """Return a batch whose records COPY reads as they are; most batches are that already.

    `leniently`: records that are not well-formed are read as the dialect's on_ragged and on_quote say. Cancellation
    waits for the thread.
    """
    read = _reading(batch, leniently)
    return batch if read is None else await trio.to_thread.run_sync(lambda: _read(batch, read()))


def _reading(batch: Batch, leniently: bool) -> Callable[[], Canonical] | None:
    """Return what reads the batch, None where nothing is to be done."""
    spec, dialect = batch.chunk.spec, batch.chunk.spec.dialect
    layout = layout_of(dialect, spec.width, tuple(spec.types))
    if batch.range.behind:
        return None
    if (leniently and dialect.is_lenient) or not dialect.is_native or not layout.keeps_all:
        return lambda: canonical(batch.data, dialect, records_of(batch), layout, leniently=leniently)
    if batch.range.blank_lines and not has_stray_quote(batch.data, dialect):
        return lambda: compact(batch.data, dialect, records_of(batch))
    return None


def _read(batch: Batch, read: Canonical) -> Batch:
    spec = replace(batch.chunk.spec, dialect=read.dialect)
    lines = read.data.count(b"\n")
    return replace(
        batch,
        chunk=replace(batch.chunk, spec=spec),
        range=replace(batch.range, lines=lines, blank_lines=0),
        data=read.data,
        is_plain=None,
        source=Source(batch=batch, where=records_of(batch), start=read.start, faults=read.faults),
    )
