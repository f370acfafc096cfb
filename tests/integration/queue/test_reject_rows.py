"""Rejects in the database: how many are stored, how they are paged, summed up, exported and resolved."""

from __future__ import annotations

import csv
import io
from contextlib import nullcontext
from functools import partial
from uuid import UUID, uuid4

import pytest
import trio

from ingest.batch import Batch, BatchResult
from ingest.chunk import Chunk
from ingest.database import Database, Session
from ingest.errors import AccountingError, RequestError
from ingest.formula import UNGUARDED_SQL, guard
from ingest.ledger import commit_batch, resolve_rejects
from ingest.loading.storing import close_batch
from ingest.queue import Queue
from ingest.reject import Reject
from ingest.rejects import PIECE_RECORDS, RejectFilter, Rejects
from ingest.statements import statement
from tests.conftest import Psql
from tests.integration.build import cut, interactive, make_job, numbers, spec
from tests.integration.queue.test_endings import view

ANY = RejectFilter()


def reject(line: int, code: str = "E_TYPE", column: str | None = "a", **changes: object) -> Reject:
    """One reason about the record on a line."""
    fields = {
        "line": line, "byte_offset": line * 10, "column": column, "value": f"v{line}", "code": code, "sqlstate": None,
        "message": f"{code} at {column}", "raw": b"v%d,w" % line, **changes,
    }  # fmt: skip
    return Reject(**fields)  # type: ignore[arg-type]


async def store(database: Database, chunk: Chunk, number: int, rejects: list[Reject]) -> None:
    """Commit a batch of a chunk with these rejects, as loading does."""
    extent = list(chunk.ranges())[number]
    batch = Batch(chunk=chunk, range=extent, data=b"")
    rejected = len({r.line for r in rejects})

    async def unit(session: Session) -> BatchResult:
        result = BatchResult(inserted=extent.records - rejected, rejected=rejected, rejects=tuple(rejects))
        return await close_batch(session, batch, result)

    stored = (await database.transact(unit)).rejects
    assert stored == tuple(rejects[: len(stored)])


async def claimed(database: Database, records: int = 30, *, batch_records: int = 10, **options: object) -> Chunk:
    """The one chunk of a new job."""
    of = spec(("a", "integer"), ("b", "text"))
    await make_job(database, [cut(numbers(records), batch_records=batch_records)], of=of, **options)  # type: ignore[arg-type]
    [chunk] = await Queue(database, uuid4()).claim(1)
    return chunk


async def fill(psql: Psql, job_id: UUID, count: int) -> None:
    """Store rejects of as many records at once: two reasons for every tenth."""
    psql(
        "insert into ingest.rejects (job_id, chunk_id, line, byte_offset, column_name, value, code, message, raw) "
        f"select '{job_id}', 1, n + 1, n * 10, case r when 1 then 'a' else 'b' end, n, "
        "case r when 1 then 'E_TYPE' else 'E_CHECK' end, 'why', n || ',x' "
        f"from generate_series(1, {count}) n, generate_series(1, case when n % 10 = 0 then 2 else 1 end) r"
    )


async def read(rejects: Rejects, job_id: UUID, resolved: bool | None = None) -> list[dict[str, str]]:
    """The records of an export."""
    pieces = [piece async for piece in await rejects.export(job_id, resolved=resolved)]
    return list(csv.DictReader(io.StringIO(b"".join(pieces).decode(), newline="")))


async def test_no_more_records_are_stored_than_a_job_may(database: Database) -> None:
    """All reasons of a record or none; all are counted."""
    chunk = await claimed(database, max_stored_rejects=5)
    await store(database, chunk, 0, [reject(2), reject(2, "E_CHECK"), reject(3)])
    await store(database, chunk, 1, [reject(n, code) for n in (12, 13, 14, 15) for code in ("E_TYPE", "E_CHECK")])
    await store(database, chunk, 2, [reject(22)])
    rejects = Rejects(database)
    page = await rejects.page(chunk.job_id, ANY, limit=50)
    assert [(r["line"], r["code"]) for r in page.items] == [
        (2, "E_TYPE"), (2, "E_CHECK"), (3, "E_TYPE"),
        *((n, code) for n in (12, 13, 14) for code in ("E_TYPE", "E_CHECK")),
    ]  # fmt: skip
    assert (page.total, page.stored) == (9, 5)
    assert (await view(database, chunk.job_id)).failed_rows == 7


async def test_none_may_be_stored(database: Database) -> None:
    """And a full store costs the batch nothing but the look."""
    chunk = await claimed(database, max_stored_rejects=0)
    await store(database, chunk, 0, [reject(2)])
    assert (await Rejects(database).page(chunk.job_id, ANY, limit=1)).stored == 0
    assert (await view(database, chunk.job_id)).failed_rows == 1


async def test_pages_follow_each_other(database: Database, psql: Psql) -> None:
    """By cursor and by number alike, nothing left out and nothing twice, also between two reasons of one record."""
    chunk = await claimed(database)
    await fill(psql, chunk.job_id, 35)
    rejects, after, seen = Rejects(database), (0, 0), []
    for number in range(1, 100):
        page = await rejects.page(chunk.job_id, ANY, limit=11, after=after)
        assert page.items == (await rejects.page(chunk.job_id, ANY, limit=11, page=number)).items
        assert (page.total, page.stored) == (38, 35)
        seen += [(r["line"], r["column"]) for r in page.items]
        if page.after is None:
            break
        after = page.after
    assert seen == [(n + 1, c) for n in range(1, 36) for c in ("ab" if n % 10 == 0 else "a")]


async def test_filters(database: Database, psql: Psql) -> None:
    """Each, and together; the total is that of the filter."""
    chunk = await claimed(database)
    await fill(psql, chunk.job_id, 35)
    await database.execute(statement("resolve_rejects"), chunk.job_id, uuid4(), [11])
    for wanted, lines in (
        (RejectFilter(code="E_CHECK"), [11, 21, 31]),
        (RejectFilter(column="b"), [11, 21, 31]),
        (RejectFilter(line=21), [21, 21]),
        (RejectFilter(line=21, code="E_TYPE"), [21]),
        (RejectFilter(code="E_CHECK", column="a"), []),
        (RejectFilter(resolved=True), [11, 11]),
        (RejectFilter(resolved=False, column="b"), [21, 31]),
    ):
        page = await Rejects(database).page(chunk.job_id, wanted, limit=10)
        assert ([r["line"] for r in page.items], page.total) == (lines, len(lines)), wanted


async def test_the_summary_groups_by_column_and_code(database: Database, psql: Psql) -> None:
    """Most frequent first, with the first three examples by line, and how many are resolved."""
    chunk = await claimed(database)
    await store(database, chunk, 0, [reject(9, "E_COLUMNS", None), reject(5, "E_COLUMNS", None)])
    await fill(psql, chunk.job_id, 35)
    await database.execute(statement("resolve_rejects"), chunk.job_id, uuid4(), [11, 12])
    summary = await Rejects(database).summary(chunk.job_id)
    assert summary["stored"] == 35
    assert [(g["column"], g["code"], g["count"], g["resolved"]) for g in summary["groups"]] == [
        ("a", "E_TYPE", 35, 2), ("b", "E_CHECK", 3, 1), (None, "E_COLUMNS", 2, 0)
    ]  # fmt: skip
    assert [e["line"] for e in summary["groups"][0]["examples"]] == [2, 3, 4]
    assert summary["groups"][2]["examples"] == [
        {"line": 5, "value": "v5", "message": "E_COLUMNS at None"}, {"line": 9, "value": "v9", "message": "E_COLUMNS at None"}
    ]  # fmt: skip
    assert (await Rejects(database).summary(uuid4())) == {"stored": 0, "groups": []}


@pytest.mark.parametrize("count", [0, 1, PIECE_RECORDS, 2 * PIECE_RECORDS + 1])
async def test_an_export_has_every_record_once(database: Database, psql: Psql, count: int) -> None:
    """Sorted by line, reasons joined; and it is read in pieces."""
    chunk = await claimed(database)
    await fill(psql, chunk.job_id, count)
    found = await read(Rejects(database), chunk.job_id)
    assert [int(r["_line"]) for r in found] == [n + 1 for n in range(1, count + 1)]
    assert [r["a"] for r in found] == [str(n) for n in range(1, count + 1)]
    if count > 10:
        assert list(found[9].values()) == ["10", "x", "11", "a; b", "E_TYPE; E_CHECK", "why; why"]
    file = await Rejects(database).export(chunk.job_id, resolved=None)
    assert (await anext(file)).count(b"\n") == 1 + min(count, PIECE_RECORDS)


async def test_an_export_holds_nothing_between_two_pieces(database: Database, psql: Psql) -> None:
    """A reader that never comes back costs no connection and no transaction."""
    chunk = await claimed(database)
    await fill(psql, chunk.job_id, 2 * PIECE_RECORDS)
    files = [await Rejects(database).export(chunk.job_id, resolved=None) for _ in range(20)]
    for file in files:
        await anext(file)
    assert (
        psql("select count(*) from pg_stat_activity where state like 'idle in%' and datname = current_database()")
        == "0"
    )
    assert database.statistics().idle == database.statistics().open
    assert (await anext(files[0])).startswith(b"501,x,502,")


async def test_a_record_with_very_many_reasons_takes_a_bounded_place(database: Database) -> None:
    """Hundreds of wrong columns, each with a long message: 500 such records are one piece, and it must be held."""
    chunk = await claimed(database)
    await store(database, chunk, 0, [reject(2, column=f"c{n}", message="m" * 1000) for n in range(800)])
    [record] = await read(Rejects(database), chunk.job_id)
    assert [len(record[name]) for name in ("_column", "_code", "_error")] == [4000, 4000, 4000]


async def test_an_unknown_job_has_no_export(database: Database) -> None:
    """It is said before anything is sent."""
    with pytest.raises(RequestError) as caught:
        await Rejects(database).export(uuid4(), resolved=None)
    assert caught.value.code == "E_NOT_FOUND"


async def test_bytes_that_are_no_text_are_exported_as_escapes(database: Database) -> None:
    """A NUL too; the formula guard applies."""
    chunk = await claimed(database)
    raws = [b"caf\xe9,=1+1", b"a\0,-5", b"1,2,3"]
    await store(database, chunk, 0, [reject(n, raw=raw) for n, raw in enumerate(raws, 2)])
    found = await read(Rejects(database), chunk.job_id)
    assert [(r["a"], r["b"]) for r in found] == [("caf\\xe9", "'=1+1"), ("a\\x00", "-5"), ("1", "2,3")]


async def test_a_record_is_resolved_once(database: Database, psql: Psql) -> None:
    """By the first job that loads it; the parent counts records, and its export leaves them out."""
    chunk = await claimed(database)
    await store(database, chunk, 0, [reject(2), reject(2, "E_CHECK"), reject(3), reject(4)])
    first, second, rejects = uuid4(), uuid4(), Rejects(database)
    assert (await view(database, chunk.job_id)).resolved_rows == 0
    await database.execute(statement("resolve_rejects"), chunk.job_id, first, [2, 3, 99])
    await database.execute(statement("resolve_rejects"), chunk.job_id, second, [3, 2])
    assert (await view(database, chunk.job_id)).resolved_rows == 2
    items = (await rejects.page(chunk.job_id, ANY, limit=9)).items
    assert [r["resolved_by"] for r in items] == [first] * 3 + [None]
    for resolved, lines in ((False, ["4"]), (True, ["2", "3"]), (None, ["2", "3", "4"])):
        assert [r["_line"] for r in await read(rejects, chunk.job_id, resolved)] == lines


async def test_a_batch_resolves_rejects_of_its_parent(database: Database) -> None:
    """With its rows or not at all; a batch of a file that corrects no other touches nothing."""
    parent = await claimed(database)
    await store(database, parent, 0, [reject(2), reject(3)])
    other, child = await claimed(database), await claimed(database, parent_id=parent.job_id)
    for chunk, lines, kept, expected in ((other, [2], True, 0), (child, [2], False, 0), (child, [2, 3], True, 2)):
        batch = Batch(chunk=chunk, range=next(iter(chunk.ranges())), data=b"")

        async def unit(session: Session, batch: Batch = batch, lines: list[int] = lines, kept: bool = kept) -> None:
            await resolve_rejects(session, batch, lines)
            await commit_batch(session, batch, BatchResult(inserted=10 if kept else 9))

        with nullcontext() if kept else pytest.raises(AccountingError):
            await database.transact(unit)
        assert (await view(database, parent.job_id)).resolved_rows == expected
    assert (await view(database, child.job_id)).parent_id == parent.job_id


async def test_two_children_resolve_the_same_records_at_once(database: Database, psql: Psql) -> None:
    """In opposite order: no deadlock, and the first one has them."""
    chunk = await claimed(database)
    await fill(psql, chunk.job_id, 50)
    first, second = uuid4(), uuid4()
    up, down = list(range(2, 52)), list(range(51, 1, -1))
    async with interactive(database) as other, trio.open_nursery() as nursery:
        await other.execute("BEGIN")
        await other.execute(statement("resolve_rejects"), chunk.job_id, first, up[:40])
        nursery.start_soon(partial(database.execute, statement("resolve_rejects"), chunk.job_id, second, down))
        with trio.fail_after(60):
            while not await database.value("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
                pass
        await other.execute("COMMIT")
    assert psql(f"select resolved_by = '{first}', count(distinct line) from ingest.rejects group by 1 order by 1") == (
        "f|10\nt|40"
    )


@pytest.mark.parametrize(
    "cell", ["=1", "'=1", "''-x", "-5", "'-5", "\t", "'\rx", "x'=", "'", "", "+1\n=2", "'%1$s", None]
)
async def test_sql_undoes_the_guard(database: Database, cell: str | None) -> None:
    """As `unguard` does."""
    sql = f"SELECT {UNGUARDED_SQL.format(text='$1::text')}"
    assert await database.value(sql, None if cell is None else guard(cell)) == cell


async def test_a_job_that_is_deleted_while_its_rejects_are_read(database: Database, psql: Psql) -> None:
    """The file breaks off with an error: a part of it would look like all there is."""
    chunk = await claimed(database)
    await fill(psql, chunk.job_id, PIECE_RECORDS + 10)
    file = await Rejects(database).export(chunk.job_id, resolved=None)
    assert b"E_TYPE" in await anext(file)
    psql(
        f"delete from ingest.rejects where job_id = '{chunk.job_id}'; delete from ingest.jobs where id = '{chunk.job_id}'"
    )
    with pytest.raises(RequestError) as refusal:
        await anext(file)
    assert refusal.value.code == "E_NOT_FOUND"
