"""Nothing silently wrong: what is in the table is what the file says, and what is missing there is in the rejects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from tests.pollution.pollute import Polluted
from tests.pollution.service import Loaded
from tests.pollution.source import Cells

# Kinds whose clean version is a matter of opinion, and why ours may differ.
JUSTIFIED = {
    "second_table_equal": "behind the same header again come more records of the same table: files put together",
}


@dataclass(frozen=True)
class Silent:
    """A record that is in the table but not in the clean file (`wrong`), or the other way round and not rejected."""

    file: Polluted
    record: Cells
    wrong: bool

    def __str__(self) -> str:
        return f"{self.file.name}: {'loaded' if self.wrong else 'lost'} {self.record}"


def silent(file: Polluted, loaded: Loaded) -> Iterator[Silent]:
    """Yield what is silently wrong with a file that was loaded; whatever a refused one has left in the table is, too."""
    found = Counter(loaded.read.records)
    for record in (found - Counter(file.records)).elements():
        yield Silent(file, record, wrong=True)
    if loaded.refused is None:
        for record in _lost(file, loaded, found):
            yield Silent(file, record, wrong=False)


def _lost(file: Polluted, loaded: Loaded, found: Counter[Cells]) -> Iterator[Cells]:
    left, cut = Counter(found), False
    for record, line in zip(file.records, file.lines, strict=True):
        if left[record]:
            left[record] -= 1
            cut = False  # a record that was cut in the rejects has ended, at the latest, where another one is loaded
            continue
        within = [each for each in loaded.rejects if each.first_line <= line <= each.last_line]
        cut = cut or any(each.first_line == line for each in within)
        if not (cut or any(each.last_line < float("inf") for each in within)):
            yield record
