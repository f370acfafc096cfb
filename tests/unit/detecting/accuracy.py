"""How often a dialect is found: `python -m tests.unit.detecting.accuracy` judges ours, DuckDB's and CleverCSV's.

A file is read right when its header and records come out as in the dialect it was written in. CleverCSV says nothing
about what surrounds the records, so `divided` judges delimiter, quote and escape alone, the rest being told.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ingest.detecting import Detected, detect, detect_encoding
from ingest.detecting.layout import Expected
from ingest.dialect import Dialect
from tests.unit.detecting.labelled import Labelled, files
from tests.unit.detecting.reference import read

Guess = Callable[[Labelled], Dialect | None]


def knows(names: Sequence[str]) -> Expected:
    """Return what a dataset with these columns says of a header: the share of it that it knows."""
    known = {_squeezed(name) for name in names}
    return lambda header: sum(_squeezed(name) in known for name in header) / len(header) if header else 0.0


def _squeezed(name: str) -> str:
    return "".join(char for char in name.casefold() if char.isalnum()) or name


def detected(file: Labelled, *, expecting: bool) -> Detected:
    """Return what is detected of a file, encoding and all."""
    encoding = detect_encoding(file.data, ended=True)
    text = file.data[encoding.bom_bytes :].decode(
        encoding.name, "surrogateescape" if encoding.name == "utf-8" else "replace"
    )
    expected = knows(file.names) if expecting and file.names else None
    return detect(text.encode("utf-8", "surrogateescape"), ended=True, expected=expected, encoding=encoding)


def judged(file: Labelled, found: Detected) -> str:
    """Return `right`, `asked` (both readings were offered) or `wrong`."""
    data = file.sound or file.data
    same = read(data, found.dialect) == read(data, file.dialect)
    return "asked" if found.alternatives else "right" if same else "wrong"


def _ours(expecting: bool) -> Guess:
    def guess(file: Labelled) -> Dialect | None:
        found = detected(file, expecting=expecting)
        return None if found.alternatives else found.dialect

    return guess


def _duckdb(folder: Path) -> Guess:
    connection: Any = importlib.import_module("duckdb").connect()
    path = folder / "sample.csv"

    def guess(file: Labelled) -> Dialect | None:
        path.write_bytes(file.data.decode(file.dialect.encoding).removeprefix("\ufeff").encode())
        found = connection.execute(
            "SELECT Delimiter, Quote, Escape, NewLineDelimiter, Comment, SkipRows, HasHeader FROM sniff_csv(?, ignore_errors=true)",
            [str(path)],
        ).fetchone()
        delimiter, quote, escape, newline, comment, skip_rows, has_header = found
        quote, escape, comment = ("" if text == "(empty)" else text for text in (quote, escape, comment))
        return Dialect(
            delimiter=delimiter, quote=quote, escape=escape if escape != quote else "", comment=comment, skip_rows=skip_rows,
            newline="cr" if newline == "\\r" else "lf", header_rows=int(has_header), encoding=file.dialect.encoding,
        )  # fmt: skip

    return guess


def _clevercsv(file: Labelled) -> Dialect | None:
    text = file.data.decode(file.dialect.encoding).removeprefix("\ufeff")
    found: Any = importlib.import_module("clevercsv").Sniffer().sniff(text)
    quote, escape = found.quotechar or "", found.escapechar or ""
    return replace(file.dialect, delimiter=found.delimiter or "\t", quote=quote, escape=escape)


def _both(first: Guess, second: Guess) -> Guess:
    """What the first says; where it does not know, what the second says."""
    return lambda file: first(file) or second(file)


def _judge(guess: Guess, file: Labelled) -> tuple[bool, bool]:
    """Return whether a file was read right, and whether it was divided right."""
    with contextlib.suppress(Exception):  # whatever a library says of a file that it cannot read
        dialect = guess(file)
        if dialect is None or file.ambiguous:
            return (dialect is None and file.ambiguous,) * 2
        data = file.sound or file.data
        wanted = read(data, file.dialect)
        divided = replace(
            file.dialect, delimiter=dialect.delimiter, quote=dialect.quote, escape=dialect.escape, trim=dialect.trim
        )
        return read(data, dialect) == wanted, read(data, divided) == wanted
    return False, False


def main(names: Sequence[str]) -> None:
    """Print the table for all, or the named, detectors."""
    found = files()
    with tempfile.TemporaryDirectory() as folder:
        duckdb = _duckdb(Path(folder))
        guesses: dict[str, Guess] = {
            "ours": _ours(False), "ours, columns expected": _ours(True), "DuckDB": duckdb, "CleverCSV": _clevercsv,
            "ours, else DuckDB": _both(_ours(False), duckdb), "ours, else CleverCSV": _both(_ours(False), _clevercsv),
        }  # fmt: skip
        for name in names or guesses:
            _report(name, guesses[name], found)


def _report(name: str, guess: Guess, found: Sequence[Labelled]) -> None:
    right: dict[str, Counter[str]] = defaultdict(Counter)
    began = time.perf_counter()
    for file in found:
        whole, divided = _judge(guess, file)
        right[file.kind].update(files=1, right=whole, divided=divided)
    seconds = time.perf_counter() - began
    total = sum(right.values(), Counter[str]())
    print(
        f"{name}: read right {total['right']} of {total['files']}, divided right {total['divided']}, {1000 * seconds / len(found):.1f} ms a file"
    )
    for kind, counts in right.items():
        print(f"  {kind:<22}{counts['right']:>5}{counts['divided']:>5} of {counts['files']}")


if __name__ == "__main__":
    main(sys.argv[1:])
