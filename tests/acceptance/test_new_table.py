"""`new:schema.table`: from a stranger's CSV to a table with fitting columns, in one command."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.acceptance.client import at_once
from tests.acceptance.conftest import Run
from tests.acceptance.tables import digest
from tests.conftest import Psql

HEADER = "Order No,Ordered at,Zip code,Amount,Paid,Remark,Remark\n"
RECORDS = "".join(
    f'{n},2026-01-{n % 28 + 1:02},{n % 1000:05},{n}.50,{"yes" if n % 2 else "no"},"a, {n}",\n' for n in range(1, 3001)
)
COLUMNS = "order_no bigint, ordered_at date, zip_code text, amount numeric, paid boolean, remark text, remark_c7 text"
IS_THERE = "select to_regclass('public.fresh') is not null"
SHAPE = (
    "select string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' order by attnum) from pg_attribute"
    " where attrelid = 'public.fresh'::regclass and attnum > 0"
)

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file."""

    def write_file(text: str) -> Path:
        path = tmp_path / "stranger.csv"
        path.write_text(text)
        return path

    return write_file


def test_a_table_is_made_for_a_file(run: Run, psql: Psql, write: Write) -> None:
    """By whichever of its batches is first; each record is in it once, as it would be in a table made by hand."""
    ended = run("load", write(HEADER + RECORDS), "--into", "new:public.fresh", WORKER_BATCH_SIZE="100")

    assert ended.code == 0, ended
    assert psql(SHAPE) == COLUMNS
    names = (
        COLUMNS.replace(" bigint", "")
        .replace(" date", "")
        .replace(" text", "")
        .replace(" numeric", "")
        .replace(" boolean", "")
    )
    psql(f"create table by_hand ({COLUMNS})")
    psql(
        f"insert into by_hand ({names}) select n, '2026-01-01'::date + n % 28, lpad((n % 1000)::text, 5, '0'), n + 0.50,"
        " n % 2 = 1, 'a, ' || n, null from generate_series(1, 3000) n"
    )
    assert digest(psql, "public.fresh") == digest(psql, "by_hand")
    assert psql("select dataset from ingest.jobs") == "public.fresh"


def test_a_strangers_file_is_read_as_it_is(run: Run, psql: Psql, tmp_path: Path) -> None:
    """A bank's export: titles, semicolons, Windows-1252, decimal commas, a sum at the end."""
    rows = "".join(f'{n};{n % 28 + 1:02}.11.2025;"Müller; Söhne";{n},50\r\n' for n in range(1, 400))
    text = f"Kontoauszug\r\nZeitraum: November\r\n\r\nNr;Buchungstag;Empfänger;Betrag\r\n{rows}\r\nSumme: 79999,50\r\n"
    path = tmp_path / "umsätze.csv"
    path.write_bytes(text.encode("cp1252"))

    ended = run("load", path, "--into", "new:public.fresh")

    assert ended.code == 0, ended
    assert psql(SHAPE) == "nr bigint, buchungstag text, empf_nger text, betrag text"
    assert (
        psql("select count(*), min(buchungstag), min(empf_nger), max(betrag) from fresh")
        == "399|01.11.2025|Müller; Söhne|99,50"
    )


def test_a_table_that_is_there_is_not_touched(run: Run, psql: Psql, write: Write) -> None:
    """It may be somebody's."""
    psql("create table fresh (a int)")
    ended = run("load", write("a\n1\n"), "--into", "new:public.fresh")
    assert (ended.code, "dataset=public.fresh adds to it" in ended.error_line) == (1, True)
    assert psql("select count(*) from fresh") == "0"


def test_what_the_sample_did_not_show_is_rejected_or_text(run: Run, psql: Psql, write: Write) -> None:
    """As the request says; nothing is lost either way."""
    path = write("id,size\n" + "".join(f"{n},{n}\n" for n in range(30_000)) + "30000,XL\n")
    assert run("load", path, "--into", "new:public.fresh").code == 3
    assert psql("select line || ' ' || code from ingest.rejects") == "30002 E_TYPE"
    psql("drop table fresh")
    ended = run("load", path, "--into", "new:public.fresh", "--parameter", "types=text")
    assert ended.code == 0, ended
    assert psql("select id || ' ' || size from fresh order by length(size) desc, size limit 1") == "10000 10000"
    assert psql("select count(*) from fresh where size = 'XL'") == "1"


def test_nothing_is_left_of_a_file_that_is_not_loaded(run: Run, psql: Psql, write: Write) -> None:
    """The table comes with the first batch, or not at all."""
    path = write("a,b\n1,2\n")
    wrong, validated = at_once(
        partial(run, "load", path, "--into", *arguments)
        for arguments in (("new:nowhere.fresh",), ("new:public.fresh", "--mode", "validate"))
    )
    assert (wrong.code, validated.code, psql(IS_THERE)) == (1, 0, "f")
    assert run("load", path, "--into", "new:public.fresh", "--mode", "atomic").code == 0
    assert psql("select a + b from fresh") == "3"
