"""The guard against formulas: what gets it, that it can be undone, and that SQL and Python agree."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingest.formula import guard, unguard

CELLS = st.text(alphabet="'=+-@\t\r0159.,eE a\nß\x00")


@pytest.mark.parametrize(
    ("cell", "guarded"),
    [
        ("=1+1", "'=1+1"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("-", "'-"),
        ("-5\n", "'-5\n"),
        ("+٣", "'+٣"),
        ("'=1", "''=1"),
        ("''-1", "'''-1"),
        *((same, same) for same in ("", "a=1", " =1", "-5", "+5", "-1.50", "-1,5", "-.5", "+1e-9", "'", "'tis", "12")),
    ],
)
def test_what_a_spreadsheet_would_run_is_guarded(cell: str, guarded: str) -> None:
    """Numbers with a sign are left alone, and so is everything else."""
    assert guard(cell) == guarded
    assert unguard(guarded) == cell


@given(CELLS)
@example("'-5")
@example("'''=")
def test_the_guard_can_be_undone(cell: str) -> None:
    """For every cell, also those that look as if they were guarded."""
    assert unguard(guard(cell)) == cell


@given(CELLS)
def test_nothing_but_a_number_leaves_with_such_a_beginning(cell: str) -> None:
    """Python's own idea of a number agrees."""
    guarded = guard(cell)
    if guarded[:1] in tuple("=+-@\t\r"):
        assert math.isfinite(float(guarded.replace(",", ".")))
