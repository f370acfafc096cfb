"""The shipped dataset "crowdfunding": its tables, and how the header of each platform's export is read."""

from __future__ import annotations

import csv

import pytest
import trio

from ingest.database import Database
from ingest.datasets import Datasets
from ingest.dialect import Dialect
from ingest.errors import FileError, RequestError
from ingest.spec import LoadSpec
from tests.conftest import Psql
from tests.exports import PLATFORMS, pledges

NONE: frozenset[str] = frozenset()
JOB = {"shop": "my-shop", "project": "my-game"}
TABLES = ["backers", "products", "pledges", "surveys", "inventory"]


async def planned(database: Database, *header: str) -> LoadSpec:
    """The spec of a file with this header, whose tables are made."""
    datasets = Datasets(database, NONE)
    spec = (await datasets.find("crowdfunding")).spec(header, dialect=Dialect(), parameters=JOB)
    await datasets.ready(spec)
    return spec


def header_of(platform: str) -> list[str]:
    """The header of a platform's export."""
    return next(csv.reader(PLATFORMS[platform](list(pledges(1))).splitlines()))


def filled(spec: LoadSpec) -> dict[str, str]:
    """Which column of the file fills which column of the dataset."""
    assert spec.plan is not None
    return {field.name: spec.header[field.position] for field in spec.plan.fields if field.position is not None}


@pytest.mark.parametrize("platform", PLATFORMS)
async def test_the_export_of_a_platform_is_recognised(database: Database, psql: Psql, platform: str) -> None:
    """By its header: the five tables are made, and their keys are there."""
    spec = await planned(database, *header_of(platform))
    assert (spec.platform, spec.keyed) == (platform, True)
    assert spec.plan is not None
    assert [target.table for target in spec.plan.targets] == [
        t for t in TABLES if (platform, t) != ("indiegogo", "surveys")
    ]
    assert psql(
        "select string_agg(tablename, ' ' order by tablename) from pg_tables where schemaname = 'public'"
    ) == " ".join(sorted(TABLES))
    fields = {field.name: field for field in spec.plan.fields}
    assert (fields["shop"].constant, fields["project"].constant) == ("my-shop", "my-game")
    assert {"email", "pledge_id", "amount", "product", "backer_name", "city", "country"} <= filled(spec).keys()


async def test_the_names_of_kickstarter(database: Database) -> None:
    """The billing country is not the country; the survey's time is when it was answered."""
    spec = await planned(database, *header_of("kickstarter"))
    assert spec.plan is not None
    names = filled(spec)
    assert (names["country"], names["pledge_id"], names["price"]) == (
        "Shipping Country",
        "Backer Number",
        "Reward Minimum",
    )
    assert names["survey_answered_at"] == "Survey Response"
    fields = {field.name: field for field in spec.plan.fields}
    assert (fields["pledged_at"].format, fields["amount"].format) == ("YYYY/MM/DD, HH:MI", "$1,200.50")
    assert not fields["survey_status"].given


async def test_columns_that_repeat_are_left_out(database: Database) -> None:
    """Indiegogo's item columns stand for nothing, so they cannot be in each other's way."""
    header = header_of("indiegogo")
    spec = await planned(database, *header)
    assert [column.name for column in spec.columns] == header
    assert not {"Item Name", "Item SKU", "Option 1"} & set(filled(spec).values())


async def test_a_report_before_surveys_were_sent(database: Database) -> None:
    """Has no survey columns, and fills no surveys."""
    header = header_of("kickstarter")
    spec = await planned(database, *header[: header.index("Survey Response")])
    assert spec.plan is not None
    assert [target.table for target in spec.plan.targets] == ["backers", "products", "pledges", "inventory"]


async def test_a_file_of_no_platform(database: Database) -> None:
    """Is read by the dataset's own names."""
    spec = await planned(database, "E-Mail", "order id", "total", "Product")
    assert spec.platform is None
    assert filled(spec) == {"email": "E-Mail", "pledge_id": "order id", "amount": "total", "product": "Product"}


async def test_what_is_missing_is_named(database: Database) -> None:
    """Columns of the file, and parameters of the job."""
    with pytest.raises(FileError) as mismatch:
        await planned(database, "Name", "Colour")
    assert mismatch.value.facts["missing"] == ["email", "pledge_id", "amount"]
    dataset = await Datasets(database, NONE).find("crowdfunding")
    with pytest.raises(RequestError) as missing:
        dataset.check_parameters({"shop": "s"})
    assert missing.value.facts["option"] == "project"


async def test_words_of_surveys(database: Database) -> None:
    """All of them end in a state that the table allows."""
    spec = await planned(database, *header_of("backerkit"))
    assert spec.plan is not None
    [status] = [field for field in spec.plan.fields if field.name == "survey_status"]
    assert {state for _, state in status.words} <= {"not_sent", "sent", "incomplete", "completed"}
    assert dict(status.words)["not answered"] == "sent"


async def test_tables_are_made_once_by_many_at_once(database: Database, psql: Psql) -> None:
    """No upload fails because another one was first."""
    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(planned, database, *header_of("gamefound"))
    assert psql("select count(*) from pg_tables where schemaname = 'public'") == "5"
