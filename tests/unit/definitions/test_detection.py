"""`dataset=auto`: taken when it is clear, refused with the candidates when it is not."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from ingest.datasetfiles import known_definitions
from ingest.definitions.defined import DefinedDataset
from ingest.definitions.detection import AutoDataset, candidates, recognise
from ingest.definitions.text import read_definition
from ingest.dialect import Dialect
from ingest.errors import FileError, RequestError
from tests.exports import PLATFORMS, pledges

SHIPPED = tuple(DefinedDataset(definition=definition, version=1) for definition in known_definitions(None))
TWIN = """
name = "{name}"
table = "t"
unknown_columns = "ignore"
[columns.id]
type = "bigint"
required = true
[columns.{column}]
type = "text"
[columns.extra]
type = "text"
"""


def twin(name: str, column: str) -> DefinedDataset:
    """A dataset that is much like its twin."""
    return DefinedDataset(definition=read_definition(TWIN.format(name=name, column=column), "t.toml"), version=1)


TWINS = (twin("one", "city"), twin("two", "town"))


@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_platform_is_recognised_among_all_shipped_datasets(platform: str) -> None:
    """With what it is known by."""
    header = next(csv.reader(PLATFORMS[platform](list(pledges(1))).splitlines()))
    best = recognise(header, SHIPPED)
    assert (best.dataset.name, best.platform, best.missing) == ("crowdfunding", platform, ())
    assert best.score > 0.65


def test_customers_are_recognised() -> None:
    """By names that the other datasets have too, but not all they need."""
    best = recognise(["E-Mail Address", "Full name", "City"], SHIPPED)
    assert (best.dataset.name, best.platform, best.score) == ("customers", None, 1.0)


def test_the_better_of_two_is_taken_when_it_is_clearly_better() -> None:
    """And the answer says how sure that is."""
    spec = AutoDataset(datasets=TWINS).spec(["id", "town", "x", "extra"], dialect=Dialect(), parameters={})
    assert (spec.dataset, spec.certainty, spec.version) == ("two", 0.75, 1)
    assert [one.score for one in candidates(["id", "town", "x", "extra"], TWINS)] == [0.75, 0.5]


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (["id", "extra"], "the header fits more than one dataset: name the dataset. Candidates: one 100%, two 100%"),
        (["id", "city", "town"], "fits more than one"),
        (
            ["id", "a", "b", "c"],
            "no dataset fits the header well enough: name the dataset. Candidates: one 25%, two 25%",
        ),
        (
            ["city", "extra"],
            "no dataset fits the header well enough: name the dataset. Candidates: one 100% (does not fit: id), two 50%",
        ),
        (["id", "ID", "city"], "no dataset fits"),
    ],
)
def test_an_unclear_header_is_refused_with_the_candidates(header: list[str], words: str) -> None:
    """In words, and with their scores as facts."""
    with pytest.raises(FileError) as raised:
        AutoDataset(datasets=TWINS).spec(header, dialect=Dialect(), parameters={})
    assert raised.value.code == "E_DATASET_UNSURE"
    assert words in raised.value.detail
    shown = raised.value.facts["candidates"]
    assert isinstance(shown, list)
    assert {one["dataset"] for one in shown} == {"one", "two"}


def test_no_datasets_at_all() -> None:
    """Is an answer too."""
    with pytest.raises(FileError) as raised:
        recognise(["a"], ())
    assert "Candidates: none" in raised.value.detail


def test_a_corrected_file_is_recognised_too() -> None:
    """The columns of rejects do not count as unknown."""
    best = recognise(["email", "_line", "_column", "_code", "_error"], SHIPPED)
    assert best.dataset.name == "customers"


def test_parameters_of_any_dataset_pass_and_the_chosen_one_judges() -> None:
    """Before the header is known, only what nobody takes is refused."""
    auto = AutoDataset(datasets=SHIPPED)
    auto.check_parameters({"shop": "s"})
    with pytest.raises(RequestError) as raised:
        auto.check_parameters({"colour": "red"})
    assert raised.value.facts == {"option": "colour", "parameters": ["project", "shop"]}
    with pytest.raises(RequestError) as wrong:
        auto.spec(["email"], dialect=Dialect(), parameters={"shop": "s"})
    assert wrong.value.facts["option"] == "shop"


def test_the_shipped_files_are_where_they_should_be() -> None:
    """Each with the script of its tables."""
    folder = Path(__file__).parents[3] / "sql" / "datasets"
    assert (
        {path.stem for path in folder.glob("*.toml")}
        == {path.stem for path in folder.glob("*.sql")}
        == {dataset.name for dataset in SHIPPED}
    )
