"""Where the records of a batch are, at a tenth of the cost where every line is a record."""

from __future__ import annotations

import numpy as np

from ingest.batch import Batch
from ingest.bits import CR, LF
from ingest.loading.screening import records_of
from ingest.reading.records import Records


def is_one_line_each(batch: Batch) -> bool:
    """Tell whether every line is a record, also in COPY's eyes, to which a CR may be a line end."""
    if batch.range.lines != batch.range.records:
        return False
    return b"\r" not in batch.data or batch.data.count(b"\r") == batch.data.count(b"\r\n")


def located(batch: Batch) -> Records:
    """Return what `records_of` does; the numbers of fields are 0 where nobody had to look for them."""
    return _lines_of(batch) if is_one_line_each(batch) else records_of(batch)


def _lines_of(batch: Batch) -> Records:
    octets = np.frombuffer(batch.data, np.uint8)
    ends = np.flatnonzero(octets == LF)
    if not ends.size or ends[-1] != octets.size - 1:
        ends = np.append(ends, octets.size)
    start = np.concatenate(([0], ends[:-1] + 1))
    lines = batch.range.first_line + np.arange(ends.size)
    ends = ends - (octets[ends - 1] == CR)
    return Records(start=start, end=ends, line=lines, fields=np.zeros_like(lines))
