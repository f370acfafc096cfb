"""Polluted files, a part of each kind, through the whole service and through the readers it is compared with."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.conftest import emptied
from tests.pollution.honesty import JUSTIFIED, silent
from tests.pollution.peers import csv_sniffed, csv_told, with_duckdb
from tests.pollution.pollute import Polluted, polluted, sampled
from tests.pollution.score import SURVEY, Read, measures, score, scores
from tests.pollution.service import CRASH, Loaded, Service, Way
from tests.pollution.source import NAMES, RECORDS

OF_A_KIND = 6
# What lenient settings must reach of 10, kinds counting alike. More than 9.62 cannot be found: a file without a byte is
# refused where nobody said that it has no header.
TOLD, FOUND = 9.97, 9.6
FILES = list(polluted())
PART = sampled(FILES, OF_A_KIND)
# Of each kind of broken rows, those in which it is the header.
HEADERS = [file for file in FILES if re.fullmatch(r"[a-z_]+_0(_[15])?", file.name)]


@pytest.fixture
def dsn(shared_dsn: str) -> str:
    """DSN of a migrated, empty database."""
    return emptied(shared_dsn)


async def loaded_by(dsn: str, folder: Path, way: Way, files: Sequence[Polluted] = PART) -> dict[str, Loaded]:
    """Load files in this way; no job may end in a way that nobody foresaw."""
    async with Service(dsn, folder) as service:
        loaded = await service.load(files, way)
    assert not [name for name, each in loaded.items() if each.refused and each.refused.startswith(CRASH)]
    return loaded


def successes(loaded: Mapping[str, Loaded]) -> dict[str, Read | None]:
    """What was read of each file, None where it was refused."""
    return {name: each.success for name, each in loaded.items()}


def silently_wrong(files: Sequence[Polluted], loaded: Mapping[str, Loaded]) -> list[str]:
    """What is neither right nor rejected, but for what is justified."""
    return [str(each) for file in files for each in silent(file, loaded[file.name]) if file.kind not in JUSTIFIED]


def test_every_kind_of_the_published_list() -> None:
    """As many files of each kind as in the benchmark, whose table has as many rows and columns; no two the same."""
    listed = [file for file in FILES if file.listed]
    assert {file.kind for file in listed} == set(SURVEY)
    assert len(listed) == 2290
    assert (len(RECORDS), len(NAMES)) == (83, 9)
    assert len({(file.data, file.told) for file in FILES}) == len(FILES)
    assert len({file.name for file in FILES}) == len(FILES)


def test_the_measures() -> None:
    """All found is 3, nothing 0; half of it twice: precision 1/4, recall 1/2, F1 1/3; a reader that gives up gets 0."""
    assert measures("abab", "bbaa") == 3.0
    assert measures("ab", "cd") == measures("", "a") == 0.0
    assert measures("", "") == 3.0
    assert measures("ab", "accc") == pytest.approx(0.25 + 0.5 + 1 / 3)
    source = PART[0]
    assert score(source, Read(NAMES, RECORDS)) == 10.0
    assert score(source, Read(None, RECORDS)) == 7.0
    assert score(source, Read(NAMES, RECORDS[:-1])) < 10.0
    assert score(source, None) == 0.0


def test_the_readers_it_is_compared_with(tmp_path: Path) -> None:
    """Each reads a clean file without a fault when it is told the dialect, and none reads all of them."""
    for reader in (csv_told, csv_sniffed, with_duckdb(tmp_path, told=True), with_duckdb(tmp_path, told=False)):
        found = scores(PART, {file.name: reader(file) for file in PART})
        assert 8.0 < found.equal_kinds < 9.7
        assert 8.0 < found.survey < 10.0
    for reader in (csv_told, csv_sniffed, with_duckdb(tmp_path, told=True)):
        assert score(PART[0], reader(PART[0])) == 10.0


async def test_told_the_dialect_nearly_all_is_read(dsn: str, tmp_path: Path) -> None:
    """Lenient settings."""
    loaded = await loaded_by(dsn, tmp_path, Way(told=True, lenient=True, typed=True))
    assert scores(PART, successes(loaded)).equal_kinds >= TOLD


async def test_left_to_find_the_dialect(dsn: str, tmp_path: Path) -> None:
    """Lenient settings, nothing but the dataset is said."""
    loaded = await loaded_by(dsn, tmp_path, Way(told=False, lenient=True, typed=True))
    assert scores(PART, successes(loaded)).equal_kinds >= FOUND


@pytest.mark.parametrize("told", [True, False], ids=["told", "detected"])
async def test_nothing_is_silently_wrong(dsn: str, tmp_path: Path, told: bool) -> None:
    """Default settings and columns that take any text: what is not loaded to the letter is in the rejects, or the whole
    file was refused. What is not broken is loaded."""
    files = PART + HEADERS
    loaded = await loaded_by(dsn, tmp_path, Way(told=told, lenient=False, typed=False), files)
    assert silently_wrong(files, loaded) == []
    assert score(PART[0], loaded[PART[0].name].success) == 10.0
