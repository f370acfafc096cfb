"""The labelled set: of a file that was written in a dialect, that dialect is found, or all that it could be is named."""

from __future__ import annotations

from collections import defaultdict

import pytest

from tests.unit.detecting.accuracy import detected, judged
from tests.unit.detecting.labelled import Labelled, files

# Read otherwise than they were written, each of them: what is between the fields is less usual than what was found.
WRONG = {"rare_delimiters-capitals-;;-8rows"}
# Words with a space between: are they one column, or several?
ASKED = {"rare_delimiters-capitals-space-8rows", "rare_delimiters-codes-space-30rows"}

KINDS: dict[str, list[Labelled]] = defaultdict(list)
for one in files():
    KINDS[one.kind].append(one)


def test_the_set_is_large() -> None:
    """Else the figures mean little."""
    assert sum(map(len, KINDS.values())) >= 500


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_dataset(kind: str) -> None:
    """Nobody says what the columns are."""
    outcomes = {file.name: judged(file, detected(file, expecting=False)) for file in KINDS[kind]}
    ambiguous = {file.name for file in KINDS[kind] if file.ambiguous}
    assert {name for name, outcome in outcomes.items() if outcome == "wrong"} <= WRONG
    assert {name for name, outcome in outcomes.items() if outcome == "asked"} <= ASKED | ambiguous
    assert all(outcomes[name] == "asked" for name in ambiguous)


@pytest.mark.parametrize("kind", KINDS)
def test_with_what_a_dataset_expects(kind: str) -> None:
    """The names of the columns leave no doubt."""
    outcomes = {file.name: judged(file, detected(file, expecting=True)) for file in KINDS[kind] if file.names}
    assert {name: outcome for name, outcome in outcomes.items() if outcome != "right"} == {}
