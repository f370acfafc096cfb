"""What is taken for certain must be taken by PostgreSQL; that little else is asked shows only in time."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.database.joined import RECORD, UNIT, joined
from ingest.loading.taken import FIXED, are_taken
from tests.conftest import Psql

KINDS = [
    *FIXED, "numeric(15,2)", "numeric(4,0)", "numeric(100,99)", "character(3)", "character varying(3)", "numeric(2,2)",
    "numeric(3,-1)", "timestamp(3) without time zone", "integer[]",
]  # fmt: skip
# By construction near what the types take, and often not taken.
NEAR = st.one_of(
    st.from_regex(r"[-+]?[0-9]{0,20}(\.[0-9]{0,3})?", fullmatch=True),
    st.from_regex(r"[12][0-9]{3}-[01][0-9]-[0-3][0-9]([ T][0-2][0-9]:[0-6][0-9]:[0-6][0-9](\.[0-9]{1,7})?)?Z?", fullmatch=True),
    st.uuids().map(str),
    st.sampled_from(["", "t", "true", "NaN", "infinity", "1e5", " 1", "1\n2", "1\n", "\u0661", "yes", "o", "1_000", "0x1f"]),
    st.text(max_size=4),
)  # fmt: skip


def is_taken(kind: str, *texts: str | None) -> bool:
    """Ask about one column."""
    end, null, [packed] = joined([texts])
    return are_taken(kind, packed, end, null)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_certain_is_taken(psql: Psql, kind: str) -> None:
    """Of many texts at once, so that the server is asked only now and then."""

    @settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.lists(NEAR.filter(lambda text: "\0" not in text and "$q$" not in text), min_size=50, max_size=200))
    def ask(texts: list[str]) -> None:
        certain = [text for text in texts if is_taken(kind, text)]
        values = ", ".join(f"($q${text}$q$)" for text in certain)
        if certain:
            assert (
                psql(f"select text from (values {values}) as v(text) where not pg_input_is_valid(text, '{kind}')") == ""
            )

    ask()


def test_a_column_is_taken_when_all_of_it_is() -> None:
    """NULL has no text."""
    assert is_taken("integer", "1", None, "-23")
    assert not is_taken("integer", "1", "x", "2")
    assert not is_taken("integer", "")
    assert is_taken("character(1)", "", "a")
    assert not is_taken("character(1)", "é")


@pytest.mark.parametrize("text", [f"1{UNIT}2", f"1{RECORD}2", UNIT, RECORD, "1\n2"])
def test_marks_inside_of_a_text_make_no_two_of_it(text: str) -> None:
    assert not is_taken("integer", text)
    assert not is_taken("integer", "1", text, None)


@pytest.mark.parametrize("kind", ["date", "timestamp without time zone", "timestamp with time zone"])
@pytest.mark.parametrize(("day", "taken"), [("2024-02-28", True), ("2023-02-29", False), ("2023-04-31", False),
                                            ("2023-12-31", True), ("2023-13-01", False)])  # fmt: skip
def test_days_that_there_are_not(kind: str, day: str, taken: bool) -> None:
    text = day if kind == "date" else f"{day} 23:59:59"
    assert is_taken(kind, text) == taken


@pytest.mark.parametrize("kind", ["money", "integer[]", "numeric(2,2)", "numeric(3,-1)", "mood", "interval"])
def test_other_types_are_asked(kind: str) -> None:
    assert not is_taken(kind, "0")
