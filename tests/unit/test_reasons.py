"""SQLSTATE -> stable code and sentence: this table is part of the API."""

from __future__ import annotations

import pytest

from ingest.loading.reasons import Reason


@pytest.mark.parametrize(
    ("sqlstate", "code"),
    [
        (None, "E_DATE_SPECIAL"),
        ("22P02", "E_TYPE"),
        ("22007", "E_TYPE"),
        ("22003", "E_OUT_OF_RANGE"),
        ("22008", "E_OUT_OF_RANGE"),
        ("22001", "E_TOO_LONG"),
        ("22026", "E_TOO_LONG"),
        ("22021", "E_ENCODING"),
        ("22P05", "E_JSON_NUL"),
        ("22012", "E_RULE"),
        ("42601", "E_TYPE"),
        ("23502", "E_NOT_NULL"),
        ("23503", "E_FOREIGN_KEY"),
        ("23505", "E_DUP_KEY"),
        ("23514", "E_CHECK"),
        ("23P01", "E_EXCLUSION"),
        ("23001", "E_CONSTRAINT"),
        ("44000", "E_CHECK"),
        ("54000", "E_TOO_LARGE"),
        ("54001", "E_TOO_LARGE"),
        ("P0001", "E_TRIGGER"),
        ("P0004", "E_TRIGGER"),
        ("ZZ999", "E_TRIGGER"),
    ],
)
def test_each_sqlstate_has_a_stable_code(sqlstate: str | None, code: str) -> None:
    """Clients match on it; what a trigger raises with a state of its own is the trigger's."""
    assert Reason(ordinal=0, sqlstate=sqlstate, message="m").code == code


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        (Reason(ordinal=0, sqlstate="23502", message="m", columns="a"), "a is empty, but must have a value"),
        (
            Reason(ordinal=0, sqlstate="23505", message="m", columns="a, b", constraint="t_pkey"),
            "a row with the same a, b exists already (t_pkey)",
        ),
        (
            Reason(ordinal=0, sqlstate="23505", message="m", constraint="t_lower_idx"),
            "a row with the same key exists already (t_lower_idx)",
        ),
        (
            Reason(ordinal=0, sqlstate="23P01", message="m", columns="during", constraint="x"),
            "during conflicts with a row that exists already (x)",
        ),
        (
            Reason(ordinal=0, sqlstate="23503", message="m", columns="a", constraint="fk", rule="FOREIGN KEY (a) ..."),
            "a refers to a row that does not exist (fk: FOREIGN KEY (a) ...)",
        ),
        (
            Reason(ordinal=0, sqlstate="23514", message="m", columns="a", constraint="c", rule="CHECK ((a > 0))"),
            "a breaks the rule c: CHECK ((a > 0))",
        ),
        (
            Reason(ordinal=0, sqlstate="23514", message="m", constraint="c", rule="CHECK (false)"),
            "the record breaks the rule c: CHECK (false)",
        ),
        (
            Reason(ordinal=0, sqlstate="23514", message="no partition of relation", columns=None),
            "no partition of relation",
        ),
        (
            Reason(ordinal=0, sqlstate="22008", message='date/time field value out of range: "01/02/2024"'),
            'date/time field value out of range: "01/02/2024"; dates are read year first; a definition\'s format says '
            "otherwise, like DD/MM/YYYY",
        ),
        (Reason(ordinal=0, sqlstate="22008", message='out of range: "2024-02-30"'), 'out of range: "2024-02-30"'),
        (Reason(ordinal=0, sqlstate="22P02", message="invalid input syntax", columns="a"), "invalid input syntax"),
    ],
)
def test_sentences_are_for_a_person(reason: Reason, sentence: str) -> None:
    """They name the columns and the constraint; for values, PostgreSQL's own words are good."""
    assert reason.sentence() == sentence
