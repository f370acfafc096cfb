"""`dataset=auto` from upload to job: the job is the recognised dataset's, and says how sure that was."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingest.database import Database
from ingest.datasets import Datasets
from ingest.dialect import Dialect
from ingest.errors import FileError, RequestError
from ingest.job import JobView
from ingest.jobs import Jobs
from ingest.receiving import Receiving, UploadOptions
from ingest.settings import Settings
from ingest.storage import LocalStorage
from tests.conftest import Psql
from tests.exports import kickstarter, pledges


async def send(database: Database, folder: Path, data: bytes, **parameters: str) -> JobView:
    """Upload a file for `auto`."""
    datasets = Datasets(database, frozenset({"public"}))
    receiving = Receiving(
        Settings.from_environment({}, data_dir=folder), LocalStorage(folder), Jobs(database), datasets
    )
    options = UploadOptions(
        dataset="auto", filename="f.csv", dialect=Dialect(), priority=5, bytes_total=None, parameters=parameters
    )
    async with receiving.upload(options) as upload:
        await upload.feed(data)
        return await upload.finish()


async def test_a_job_is_of_the_dataset_that_was_recognised(database: Database, psql: Psql, tmp_path: Path) -> None:
    """Its spec pins dataset, version, platform and certainty; the tables are there."""
    view = await send(database, tmp_path, kickstarter(list(pledges(3))).encode(), shop="s", project="p")
    assert view.dataset == "crowdfunding"
    pinned = "select spec ->> 'dataset', spec ->> 'platform', spec ->> 'version', (spec ->> 'certainty')::float > 0.7 from ingest.jobs"
    assert psql(pinned) == "crowdfunding|kickstarter|1|t"
    assert psql("select count(*) from backers") == "0"


async def test_a_header_of_nothing_we_know_is_refused(database: Database, psql: Psql, tmp_path: Path) -> None:
    """A table that would fit is not considered, and no job is made."""
    psql("create table fits (a int, b int)")
    with pytest.raises(FileError) as raised:
        await send(database, tmp_path, b"a,b\n1,2\n")
    assert raised.value.code == "E_DATASET_UNSURE"
    assert psql("select count(*) from ingest.jobs") == "0"


@pytest.mark.parametrize("parameters", [{"shop": "s"}, {"shop": "s", "project": "p", "colour": "red"}])
async def test_its_parameters_are_checked(database: Database, tmp_path: Path, parameters: dict[str, str]) -> None:
    """Those that are missing when the dataset is known, those that nobody takes at once."""
    with pytest.raises(RequestError) as raised:
        await send(database, tmp_path, kickstarter(list(pledges(3))).encode(), **parameters)
    assert raised.value.code == "E_OPTION"
