"""A header and the names of a dataset -> which column of the file is which column of the dataset. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ingest.definitions.names import NORMALS, unambiguous
from ingest.errors import FileError

# What `rejects.csv` adds to a file's own columns; recognised and ignored when the corrected file comes back.
REJECT_COLUMNS = ("_line", "_column", "_code", "_error")
PARENT_LINE = "_line"

# Names and the columns they stand for; the earlier names are preferred.
Source = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A column of the file: its `header`, the dataset's `column` that it is, if any, and the `name` that matched.

    `rank` says how much this name is preferred to the column's other names: the lower, the more.
    """

    header: str
    column: str | None = None
    name: str | None = None
    rank: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Matches:
    """The columns of a file in order, and what does not fit: names without column, columns named more than once."""

    columns: tuple[Match, ...]
    unknown: tuple[str, ...]
    duplicate: tuple[str, ...]

    @property
    def positions(self) -> dict[str, int]:
        """The place in the file (from 0) of each column of the dataset that the file has."""
        return {match.column: place for place, match in enumerate(self.columns) if match.column is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a dataset reads a header, fitting or not: for a person to look at before a file is loaded."""

    dataset: str
    matches: Matches
    types: Mapping[str, str]  # of the dataset's columns that can come from a file
    required: frozenset[str]
    missing: tuple[str, ...]
    ignores_unknown: bool = False
    platform: str | None = None
    certainty: float | None = None


def match_header(
    header: Sequence[str], sources: Sequence[Source], *, lenient: bool = False, ignored: Collection[str] = ()
) -> Matches:
    """Match a header with names, the earlier `sources` first, in each to the letter, else folded, else squeezed.

    `ignored` headers stand for nothing. `lenient`: of several columns of the file that are the same column by different
    names, the one with the preferred name is taken and the others stand for nothing.
    """
    lookups = [(number, unambiguous(source, normal)) for number, source in enumerate(sources) for normal in NORMALS]
    orders = [{name: place for place, (name, _) in reversed(list(enumerate(source)))} for source in sources]

    def find(name: str) -> Match:
        for (number, lookup), normal in zip(lookups, NORMALS * len(sources), strict=True):
            if found := lookup.get(normal(name)):
                return Match(header=name, column=found[1], name=found[0], rank=(number, orders[number][found[0]]))
        return Match(header=name)

    found = [Match(header=name) if name in ignored else find(name) for name in header]
    columns = list(_preferred(found)) if lenient else found
    counts = Counter(match.column for match in columns if match.column is not None)
    return Matches(
        columns=tuple(columns),
        unknown=tuple(match.header for match in found if match.column is None and match.header not in ignored),
        duplicate=tuple(sorted(name for name, count in counts.items() if count > 1)),
    )


def _preferred(found: Sequence[Match]) -> Iterator[Match]:
    best: dict[str, tuple[int, int]] = {}
    for match in found:
        if match.column is not None:
            best[match.column] = min(match.rank, best.get(match.column, match.rank))
    for match in found:
        loser = match.column is not None and match.rank > best[match.column]
        yield replace(match, column=None, name=None) if loser else match


def mismatch(
    dataset: str, *, missing: Sequence[str], unknown: Sequence[str], duplicate: Sequence[str], columns: Sequence[str]
) -> FileError:
    """Return the error for a header that does not fit: all that is wrong with it, and what the columns are."""
    parts = [
        f"{label}: {shown(names)}"
        for label, names in (("missing", missing), ("unknown", unknown), ("more than once", duplicate))
        if names
    ]
    return FileError(
        f"the header does not fit dataset {dataset} ({'; '.join(parts)}). Its columns are {shown(columns)}",
        code="E_HEADER_MISMATCH",
        missing=list(missing[:100]),
        unknown=[name[:100] for name in unknown[:100]],
        duplicate=list(duplicate[:100]),
    )


def shown(names: Sequence[str], most: int = 20) -> str:
    """Return names for a sentence, not too many of them and none too long."""
    text = ", ".join(repr(name[:60]) for name in names[:most])
    return text + (f" and {len(names) - most} more" if len(names) > most else "")
