"""The columns of a file without a header: those of the dataset, by position, if that is surely what was meant. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from ingest.definitions.matching import Reading
from ingest.definitions.newtable import NewTable
from ingest.dialect import Dialect
from ingest.errors import FileError
from ingest.header import Header
from ingest.reading.fitting import are_values


class Columned(Protocol):
    """What a dataset is asked about its columns."""

    def own_names(self) -> Sequence[str]: ...

    def read_header(self, names: Sequence[str]) -> Reading: ...


def names_of(dataset: Columned, header: Header, dialect: Dialect, told: Mapping[str, str] | None) -> Sequence[str]:
    """Return the names in a header, or the dataset's own columns, in their order, for a file without one.

    That there is none must be sure: the request says so (`told` are its options; None: nothing is detected), or some
    value of the first record can only be one of a column that is no text, or the settings are lenient, and it is the
    only reading. Else the record is taken for a header that does not fit. Raises FileError (E_HEADER_MISMATCH) where
    the dataset has another number of columns.
    """
    if header.names:
        return header.names
    own = dataset.own_names()
    if len(own) != header.width:
        text = f"the file has no header and {header.width} columns: name them with the option columns"
        raise FileError(text, code="E_HEADER_MISMATCH", columns=header.width)
    told_so = told is None or not {"header", "header_rows"}.isdisjoint(told)
    if told_so or dialect.is_lenient or isinstance(dataset, NewTable):
        return own
    types = dataset.read_header(own).types
    return own if are_values(header.first, [types[name] for name in own]) else header.first


def with_hint(error: FileError, names: Sequence[str], header: Header, dialect: Dialect) -> FileError:
    """Return `error`, about names that do not fit, saying also what may be the cause.

    That is another delimiter than the file seems to be written with, or that its first record is no header.
    """
    counts = {char: names[0].count(char) for char in ",;\t|" if char != dialect.delimiter} if names else {}
    seen = max(counts, key=lambda char: counts[char], default="")
    if len(names) == 1 and counts[seen]:
        text = f"{error.detail}; the header seems to be written with the delimiter {seen!r}"
        return FileError(text, code=error.code, **error.facts, delimiter_seen=seen)
    if header.names or names != header.first:
        return error
    text = f"{error.detail}; the first record does not look like a header: if it is none, say header=false"
    return FileError(text, code=error.code, **error.facts)
