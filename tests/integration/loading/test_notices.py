"""What COPY says about the records it skips: read in any language, and never believed when it does not fit."""

from __future__ import annotations

import numpy as np
import pytest
import trio

from ingest.database import CopyResult, Database, Notice, Session
from ingest.errors import RowError
from ingest.loading.direct import GIVES_UP_SINCE
from ingest.loading.skipped import SKIPS_BAD_VALUES_SINCE, _named_records
from tests.conftest import Psql
from tests.integration.build import HEADER_BYTES, spec
from tests.integration.loading.ladder import load

# A line, a column and its value; then how many were skipped. The words are made up after the server's translations,
# what matters is where the numbers stand.
LANGUAGES = {
    "en": (
        'skipping row due to data type incompatibility at line {} for column "{}": "{}"',
        "{} rows were skipped due to data type incompatibility",
    ),
    "de": (
        "überspringe Zeile wegen Datentypinkompatibilität in Zeile {} für Spalte »{}«: »{}«",
        "{} Zeilen wurden wegen Datentypinkompatibilität übersprungen",
    ),
    "ja": (
        '行{}、列"{}"でのデータ型の非互換性により行をスキップします: "{}"',
        "データ型の非互換性により{}行がスキップされました",
    ),
    "ru": (
        'пропускается строка из-за несовместимости типов данных: строка {}, столбец "{}": "{}"',
        "из-за несовместимости типов данных было пропущено строк: {}",
    ),
}
LONG_S = 60.0
LINES = np.array([1, 2, 5, 6, 9], np.int64)  # where five records are: the third and the fifth take several lines


def notices(language: str, *skipped: tuple[int, str, str], count: int | None = None) -> list[Notice]:
    """What the server says about these lines, columns and values."""
    one, all_of_them = LANGUAGES[language]
    said = [one.format(*what) for what in skipped]
    return [Notice(text) for text in (*said, all_of_them.format(len(skipped) if count is None else count))]


@pytest.mark.parametrize("language", LANGUAGES)
def test_lines_are_read_in_any_language(language: str) -> None:
    """The first number that is a record's line; numbers in names and values come after it."""
    assert _named_records(notices(language, (5, "c2", "9")), LINES) == [2]
    assert _named_records(notices(language, (9, "2nd", "x"), (1, "c1", "6")), LINES) == [0, 4]


@pytest.mark.parametrize(
    "said",
    [
        notices("en", (3, "c", "x")),
        notices("en", (5, "c", "x"), (5, "d", "y")),
        notices("en", (5, "c", "x"), count=2),
        notices("en", (5, "c", "x"))[:1],
        [Notice("a trigger speaks of line 5"), *notices("en", (5, "c", "x"))],
        [*notices("en", (5, "c", "x")), Notice("a trigger has the last word")],
        [Notice("a trigger says nothing of it")],
    ],
)
def test_notices_that_do_not_fit_are_not_believed(said: list[Notice]) -> None:
    """A line that is no record's, one twice, another count, somebody else's notices: the batch is isolated instead."""
    with pytest.raises(RowError):
        _named_records(said, LINES)


async def can_skip(database: Database) -> bool:
    """Whether the server of this session skips bad values by itself."""
    return bool(
        await database.value(f"SELECT current_setting('server_version_num')::int >= {SKIPS_BAD_VALUES_SINCE}0000")
    )


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("first", ["1,a", '1,"a\nb"', '1,"a\r\nb\r\nc"', '1,"a\rb"', "x,a", '"x\n",a'])
async def test_named_records_are_found_without_isolating(
    database: Database, psql: Psql, first: str, line_end: str
) -> None:
    """However many lines the records before them take, also the first one, before COPY knows the file's line end."""
    if not await can_skip(database):
        pytest.skip("this PostgreSQL skips no bad values")
    psql("create table t (a integer, b text)")
    text = [first, '2,"x\ny"', "bad 3,z", "4,z", '5,"p\r\nq\rr"', "bad 6,z", '"bad\n7",z', "8,z", "9,z"]
    data = line_end.join([*text, ""]).encode()
    bad = [record for record in text if "bad" in record or record.startswith(("x", '"x'))]
    loaded = await load(database, spec(("a", "integer"), ("b", "text")), data)
    assert loaded.isolated == 0
    assert loaded.totals == (9 - len(bad), 0, len(bad))
    assert [reject["raw"] for reject in loaded.rejects] == bad
    for reject, record in zip(loaded.rejects, bad, strict=True):
        offset = data.index(record.encode())
        assert (reject["byte_offset"], reject["line"]) == (HEADER_BYTES + offset, 2 + data[:offset].count(b"\n"))


async def test_batches_of_bad_values_are_not_isolated(database: Database, psql: Psql) -> None:
    """Thousands of them in several columns cost a COPY each, no search by halves."""
    if not await can_skip(database):
        pytest.skip("this PostgreSQL skips no bad values")
    psql("create table t (a integer, b date, c numeric(3,1))")
    lines = [b"%d,2020-01-01,1\n" % i if i % 3 else b"x%d,2020-02-30,100\n" % i for i in range(3000)]
    of = spec(("a", "integer"), ("b", "date"), ("c", "numeric(3,1)"))
    loaded = await load(database, of, b"".join(lines))
    assert (loaded.isolated, loaded.totals) == (0, (2000, 0, 1000))
    assert len(loaded.rejects) == 3000
    assert loaded.reasons()[2] == [
        ("E_TYPE", "22P02", "a", "x0"),
        ("E_OUT_OF_RANGE", "22008", "b", "2020-02-30"),
        ("E_OUT_OF_RANGE", "22003", "c", "100"),
    ]


async def test_a_batch_that_is_mostly_bad_is_given_up_early(database: Database, psql: Psql) -> None:
    """A notice for each of many bad values costs more than a second try, with the same outcome."""
    psql("create table t (a integer)")
    version = int(await database.value("SELECT current_setting('server_version_num')::int / 10000"))
    loaded = await load(
        database, spec(), b"".join(b"x%d\n" % i if i % 2 else b"%d\n" % i for i in range(1200)), batch_records=1200
    )
    assert loaded.isolated == (1 if version >= GIVES_UP_SINCE or version < SKIPS_BAD_VALUES_SINCE else 0)
    assert (loaded.totals, len(loaded.rejects)) == ((600, 0, 600), 600)
    assert loaded.reasons()[3] == [("E_TYPE", "22P02", "a", "x1")]


async def test_more_notices_than_a_socket_holds(database: Database, psql: Psql) -> None:
    """A server that waits until they are read takes no more bytes: they are read then, and none is lost."""
    psql("create table t (a integer); create function talk() returns trigger language plpgsql as "
         "$$ begin raise notice '% %', new.a, repeat('x', 1000); return null; end $$; create trigger talk "
         "before insert on t for each row execute function talk()")  # fmt: skip
    records = 5000

    async def copy(session: Session) -> CopyResult:
        # Long records, so that many bytes are still to be sent when the server stops to take them.
        lines = b"".join(b"%d" % n + b" " * 500 + b"\n" for n in range(records))
        return await session.copy("COPY t FROM STDIN (FORMAT csv)", lines)

    with trio.fail_after(LONG_S):
        copied = await database.transact(copy)
    assert [int(notice.message.split(" ")[0]) for notice in copied.notices] == list(range(records))


async def test_a_trigger_that_talks_all_the_time(database: Database, psql: Psql) -> None:
    """Its notices do not confuse anybody, whether or not there is something to skip."""
    psql("create table t (a integer); create function talk() returns trigger language plpgsql as "
         "$$ begin raise notice 'line 2'; return new; end $$; create trigger talk before insert on t "
         "for each row execute function talk()")  # fmt: skip
    assert (await load(database, spec(), b"1\n2\n")).totals == (2, 0, 0)
    loaded = await load(database, spec(), b"1\nx\n3\n")
    assert (loaded.totals, [reject["line"] for reject in loaded.rejects]) == ((2, 0, 1), [3])


@pytest.fixture
def german(psql: Psql) -> None:
    """Let the server speak German in this test's database, where the operating system has the language."""
    name = psql("select current_database()")
    try:
        psql(f"alter database {name} set lc_messages = 'de_DE.UTF-8'")
    except AssertionError:
        pytest.skip("the server has no locale but C")


@pytest.mark.usefixtures("german")
async def test_notices_in_the_servers_language(database: Database, psql: Psql) -> None:
    """The same on a server that speaks German."""
    psql("create table t (a integer)")
    loaded = await load(database, spec(), b"1\nx\n3\n")
    assert (loaded.totals, loaded.isolated) == ((2, 0, 1), 0)
