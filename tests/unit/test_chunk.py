"""A chunk's batches, and the accounting of one batch."""

from __future__ import annotations

from uuid import UUID

import pytest

from ingest.batch import BatchResult
from ingest.chunk import BatchRange, Chunk, ChunkCut
from ingest.dialect import Dialect
from ingest.errors import AccountingError
from ingest.spec import Column, LoadSpec

SPEC = LoadSpec(
    dataset="public.t",
    schema="public",
    table="t",
    columns=(Column(name="a", type="integer"), Column(name="b c", type="character varying(5)")),
    dialect=Dialect(delimiter=";", null="NA"),
    keyed=True,
)


def chunk(**lists: list[int]) -> Chunk:
    """A chunk that begins at line 5 of its file."""
    cut = ChunkCut(
        ordinal=1, object_key="chunks/x/000001", object_offset=0, length_bytes=lists["ends"][-1], file_offset=100,
        first_line=5, **lists,
    )  # fmt: skip
    return Chunk(id=1, job_id=UUID(int=1), epoch=1, attempt=1, spec=SPEC, cut=cut)


def test_ranges_follow_one_another_in_bytes_and_lines() -> None:
    """Each batch begins where the one before ends; its first line counts all physical lines before it."""
    ranges = list(chunk(ends=[10, 30, 31], records=[2, 3, 0], lines=[2, 7, 1], blank_lines=[0, 1, 1]).ranges())
    assert ranges == [
        BatchRange(start=0, end=10, first_line=5, records=2, lines=2, blank_lines=0),
        BatchRange(start=10, end=30, first_line=7, records=3, lines=7, blank_lines=1),
        BatchRange(start=30, end=31, first_line=14, records=0, lines=1, blank_lines=1),
    ]


def test_lists_of_different_lengths_are_a_bug() -> None:
    """The four lists are parallel; a missing entry is not skipped in silence."""
    with pytest.raises(ValueError, match="shorter"):
        list(chunk(ends=[10, 20], records=[1, 1], lines=[1, 1], blank_lines=[0]).ranges())


def test_a_spec_survives_its_json() -> None:
    """What is pinned in the job is read back as it was."""
    assert LoadSpec.from_json(SPEC.to_json()) == SPEC


@pytest.mark.parametrize(
    "result",
    [
        BatchResult(inserted=5),
        BatchResult(inserted=1, updated=1, unchanged=1, skipped=1, rejected=1),
        BatchResult(rejected=5),
    ],
)
def test_every_record_is_accounted_for_once(result: BatchResult) -> None:
    """Five records in, five accounted for; four or six are a bug and never a success."""
    result.check(5)
    for wrong in (4, 6):
        with pytest.raises(AccountingError, match=f"{wrong} records were read but 5"):
            result.check(wrong)
