"""Which column of a file is which column of a dataset."""

from __future__ import annotations

import pytest

from ingest.definitions.matching import Matches, match_header, mismatch
from ingest.definitions.names import squeeze, unambiguous

OWN = [("id", "id"), ("pledge_amount", "pledge_amount"), ("Name", "Name"), ("name", "name")]
ALIASES = [("Order No.", "id"), ("Total", "pledge_amount"), ("Sum", "pledge_amount")]


def matched(matches: Matches) -> list[str | None]:
    """The column of each column of the file."""
    return [match.column for match in matches.columns]


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("id", "id"),
        (" ID ", "id"),
        ("\uff29\uff24", "id"),
        ("Pledge Amount", "pledge_amount"),
        ("pledge-amount:", "pledge_amount"),
        ("PledgeAmount", "pledge_amount"),
        ("Name", "Name"),
        ("name", "name"),
        ("NAME", None),
        ("order no", "id"),
        ("TOTAL", "pledge_amount"),
        ("Totals", None),
        ("i", None),
        ("", None),
    ],
)
def test_a_name_matches_ever_more_forgivingly(name: str, column: str | None) -> None:
    """To the letter, folded, squeezed; own names before aliases; never a name that two columns share."""
    assert matched(match_header([name], [OWN, ALIASES])) == [column]


def test_the_name_that_matched_is_told() -> None:
    """So that a preview can show it."""
    [match] = match_header(["order no"], [OWN, ALIASES]).columns
    assert (match.header, match.name, match.rank) == ("order no", "Order No.", (1, 0))


def test_unknown_and_duplicate_columns_are_all_named() -> None:
    """In the file's order, and by column."""
    found = match_header(["x", "id", "Total", "y", "Sum", "x"], [OWN, ALIASES])
    assert (found.unknown, found.duplicate) == (("x", "y", "x"), ("pledge_amount",))


def test_a_lenient_match_prefers_the_better_name() -> None:
    """The others then stand for nothing; the same name twice remains a mistake."""
    found = match_header(["Sum", "Total", "order no"], [OWN, ALIASES], lenient=True)
    assert matched(found) == [None, "pledge_amount", "id"]
    assert found.duplicate == ()
    assert match_header(["Total", "total"], [OWN, ALIASES], lenient=True).duplicate == ("pledge_amount",)


def test_ignored_names_stand_for_nothing() -> None:
    """Even where they would match."""
    found = match_header(["_line", "id"], [[("_line", "_line"), *OWN]], ignored=("_line",))
    assert (matched(found), found.unknown, found.positions) == ([None, "id"], (), {"id": 1})


def test_names_of_signs_alone_are_not_squeezed_to_nothing() -> None:
    """Or `#` would be the same name as `%`."""
    assert squeeze(" # ") == "#"
    assert unambiguous([("#", "a"), ("%", "b")], squeeze) == {"#": ("#", "a"), "%": ("%", "b")}


def test_the_error_names_everything_and_stays_short() -> None:
    """Long names are cut, long lists too."""
    error = mismatch("d", missing=["a"], unknown=["x" * 500] * 30, duplicate=["b"], columns=["a", "b"])
    assert error.code == "E_HEADER_MISMATCH"
    assert len(error.detail) < 2000
    assert error.facts["missing"] == ["a"]
    assert error.facts["unknown"] == ["x" * 100] * 30
    assert "and 10 more" in error.detail
