"""Where the records of a batch are, at a tenth of the cost where every line is a record."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ingest.batch import Batch
from ingest.bits import CR, LF, BitSet, Offsets, find
from ingest.loading.screening import records_of
from ingest.reading.records import Records


def is_one_line_each(batch: Batch) -> bool:
    """Tell whether every line is a record, also in COPY's eyes, to which a CR may be a line end."""
    if batch.range.lines != batch.range.records:
        return False
    return b"\r" not in batch.data or batch.data.count(b"\r") == batch.data.count(b"\r\n")


def located(batch: Batch) -> Records:
    """Return what `records_of` does; the numbers of fields are 0 where nobody had to look for them."""
    if not is_one_line_each(batch):
        return records_of(batch)
    ends = np.flatnonzero(np.frombuffer(batch.data, np.uint8) == LF)
    if ends.size < batch.range.records:  # the file's last line lacks its end
        ends = np.append(ends, len(batch.data))
    return _lines_of(batch, np.arange(ends.size), np.concatenate(([0], ends[:-1] + 1)), ends)


def located_some(batch: Batch, numbers: Sequence[int], where: Records | None) -> Records:
    """Return the records with these numbers; `where` are all of them, None of a batch that is `is_one_line_each`."""
    which = np.array(numbers, np.int64)
    if where is not None:
        return Records(where.start[which], where.end[which], where.line[which], where.fields[which])
    newlines = BitSet(find(np.frombuffer(batch.data, np.uint8), LF))
    start = np.zeros_like(which)
    start[which > 0] = newlines.nth_each(which[which > 0] - 1) + 1
    end = np.full_like(which, len(batch.data))  # the file's last line may lack its end
    end[which < newlines.total] = newlines.nth_each(which[which < newlines.total])
    return _lines_of(batch, which, start, end)


def lines_of(data: bytes, where: Records, kept: Offsets) -> bytes:
    """Return the lines of some records, which are a line each."""
    bounds = np.append(where.start, len(data))
    if not kept.size:
        return b""
    gaps = np.flatnonzero(np.diff(kept) > 1)
    firsts, lasts = kept[np.concatenate(([0], gaps + 1))], kept[np.append(gaps, kept.size - 1)]
    stretches = zip(bounds[firsts].tolist(), bounds[lasts + 1].tolist(), strict=True)
    return b"".join(data[start:end] for start, end in stretches)


def _lines_of(batch: Batch, which: Offsets, start: Offsets, end: Offsets) -> Records:
    """Return the records of these lines, whose line ends are at `end`."""
    octets = np.frombuffer(batch.data, np.uint8)
    lines = batch.range.first_line + which
    return Records(start=start, end=end - (octets[end - 1] == CR), line=lines, fields=np.zeros_like(lines))
