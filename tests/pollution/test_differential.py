"""Random files, told the dialect: the service loads the cells that Python's csv and DuckDB read, or rejects the record."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.conftest import emptied
from tests.pollution.dialects import natural_files, shattered_files, sound_files
from tests.pollution.honesty import silent
from tests.pollution.peers import csv_told, with_duckdb
from tests.pollution.pollute import Polluted
from tests.pollution.score import Reader
from tests.pollution.service import Loaded, Service, Way
from tests.pollution.source import Cells

# Each example is as many files, because the database is opened once for all of them. Made smaller, one that fails would
# take minutes.
FILES = 20
EXAMPLES = settings(max_examples=5, derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
TOLD = Way(told=True, lenient=False, typed=False)
LENIENT = Way(told=True, lenient=True, typed=False)
DETECTED = Way(told=False, lenient=False, typed=False)


@pytest.fixture(scope="module")
def dsn(shared_dsn: str) -> str:
    """DSN of a migrated, empty database."""
    return emptied(shared_dsn)


def named(files: Sequence[Polluted]) -> list[Polluted]:
    """Give each file a name of its own."""
    return [replace(file, name=f"{number}") for number, file in enumerate(files)]


def loaded_by(dsn: str, files: Sequence[Polluted], way: Way = TOLD) -> dict[str, Loaded]:
    """Load the files in this way."""

    async def load(folder: Path) -> dict[str, Loaded]:
        async with Service(dsn, folder) as service:
            return await service.load(files, way)

    with tempfile.TemporaryDirectory() as folder:
        return trio.run(load, Path(folder))


@EXAMPLES
@given(st.lists(sound_files(), min_size=FILES, max_size=FILES), st.sampled_from([TOLD, LENIENT]))
def test_sound_files_are_loaded_to_the_letter(dsn: str, files: list[Polluted], way: Way) -> None:
    """Every cell of every record, whatever the delimiter, quote, escape, line end and encoding; nothing is rejected.

    Lenient settings change nothing of what is sound.
    """
    files = named(files)
    for name, loaded in loaded_by(dsn, files, way).items():
        file = files[int(name)]
        assert (loaded.refused, loaded.rejects) == (None, []), file
        assert sorted(loaded.read.records) == sorted(file.records), file


@EXAMPLES
@given(st.lists(natural_files(), min_size=FILES // 2, max_size=FILES // 2))
def test_a_dialect_that_is_found_is_the_right_one(dsn: str, files: list[Polluted]) -> None:
    """Nothing is said but the dataset: records are loaded to the letter, or rejected, or the file is refused: rarely."""
    files = named(files)
    loaded = loaded_by(dsn, files, DETECTED)
    assert [str(each) for file in files for each in silent(file, loaded[file.name])] == []
    # Times and addresses are full of colons: a file with that delimiter may well be refused.
    likely = [file for file in files if file.told.delimiter != ":"]
    spoilt = [file for file in likely if loaded[file.name].refused or loaded[file.name].rejects]
    assert len(spoilt) <= len(files) / 4, spoilt


@EXAMPLES
@given(st.lists(shattered_files(), min_size=FILES, max_size=FILES))
def test_what_is_loaded_of_a_broken_file_another_reader_reads_too(dsn: str, files: list[Polluted]) -> None:
    """A record is in the table only with the cells that csv or DuckDB reads, at their most lenient.

    Behind a record that is rejected for its quotes, reading begins anew with a line: so may that of the others.
    """
    files = named(files)
    found = loaded_by(dsn, files)
    with tempfile.TemporaryDirectory() as folder:
        duckdb = with_duckdb(Path(folder), told=True)
        for file in files:
            loaded = found[file.name]
            allowed = readings(file, duckdb) if not loaded.rejects else readings(file, duckdb, *tails(file))
            assert set(loaded.read.records) <= allowed, (file, loaded)


def readings(file: Polluted, duckdb: Reader, *tails: Polluted) -> set[Cells]:
    """Return the records that the others read in a file, and csv in its tails."""
    reads = [csv_told(file), duckdb(file), *map(csv_told, tails)]
    return {record for read in reads if read for record in read.records}


def tails(file: Polluted) -> Iterator[Polluted]:
    """Yield what is left of a file when so many of its lines are left out."""
    told = replace(file.told, header_rows=0)
    lines = [line for line in re.split(r"(?<=\n)|(?<=\r)(?!\n)", file.data.decode()) if line]
    for start in range(1, len(lines)):
        yield replace(file, data="".join(lines[start:]).encode(), told=told)
