"""How well a file was read: the ten measures of the Pollock benchmark, and their means over files and over kinds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from tests.pollution.pollute import Polluted
from tests.pollution.source import Cells

# How often each kind was met in the benchmark's survey of public files: what its weighted score weighs by. Kinds that
# are not here were not met, or are not of the list.
SURVEY: Mapping[str, float] = {
    "source": 1, "no_payload": 15, "no_final_newline": 184, "double_final_newline": 5, "no_header": 470,
    "header_of_2_rows": 47, "header_of_3_rows": 47, "preamble": 282, "second_table_narrower": 188 / 3,
    "second_table_equal": 188 / 3, "second_table_wider": 188 / 3, "header_only": 3, "one_record": 4,
    "delimiter_semicolon": 834, "delimiter_tab": 4, "delimiter_space": 4, "delimiter_comma_space": 101,
    "quote_apostrophe": 11, "escape_backslash": 1, "escape_none": 7, "newline_lf": 1691, "newline_cr": 7,
    "missing_delimiter": 247, "extra_delimiter": 278, "row_delimiter": 12, "extra_quote": 7,
}  # fmt: skip


@dataclass(frozen=True)
class Read:
    """What a reader made of a file; a `header` of None means that it took the file to have none."""

    header: Cells | None
    records: Sequence[Cells]


# None: the reader gave up.
Reader = Callable[[Polluted], Read | None]


def score(file: Polluted, read: Read | None) -> float:
    """Return the sum of the ten measures, 0 to 10.

    Stricter than the benchmark in what a record is: equal only when each of its cells is, so that two cells read as one
    cost the record. Texts are compared as they are.
    """
    if read is None:
        return 0.0
    return 1.0 + _header(file, read) + _records(file, read) + _cells(file, read)


def _header(file: Polluted, read: Read) -> float:
    if file.header is None or read.header is None:
        return 3.0 * (file.header == read.header)
    return measures(file.header, read.header)


def _records(file: Polluted, read: Read) -> float:
    return measures(file.records, read.records)


def _cells(file: Polluted, read: Read) -> float:
    wanted = [cell for record in file.records for cell in record]
    return measures(wanted, [cell for record in read.records for cell in record])


def measures(wanted: Iterable[Hashable], found: Iterable[Hashable]) -> float:
    """Return precision + recall + F1 of what was found, order apart; finding nothing where nothing was is all right."""
    wanted_of, found_of = Counter(wanted), Counter(found)
    if not wanted_of:
        return 3.0 * (not found_of)
    common = (wanted_of & found_of).total()
    if not common:
        return 0.0
    precision, recall = common / found_of.total(), common / wanted_of.total()
    return precision + recall + 2 * precision * recall / (precision + recall)


@dataclass(frozen=True)
class Scores:
    """The scores of one reader over many files, by kind."""

    by_kind: Mapping[str, Sequence[float]]

    @property
    def simple(self) -> float:
        """Every file weighs the same: nearly all of them have one broken row."""
        return fmean(each for scores in self.by_kind.values() for each in scores)

    @property
    def equal_kinds(self) -> float:
        """Every kind weighs the same, however many files there are of it."""
        return fmean(map(fmean, self.by_kind.values()))

    @property
    def survey(self) -> float:
        """Every kind weighs as often as it was met in the survey."""
        return fmean(map(fmean, self.by_kind.values()), [SURVEY[kind] for kind in self.by_kind])


def scores(files: Sequence[Polluted], reads: Mapping[str, Read | None]) -> Scores:
    """Score what a reader made of the files of the list, by name."""
    by_kind: dict[str, list[float]] = {}
    for file in files:
        if file.listed:
            by_kind.setdefault(file.kind, []).append(score(file, reads[file.name]))
    return Scores(by_kind)
