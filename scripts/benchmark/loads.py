"""Loading a file that is there already: clean, with bad values, with taken keys, as an upsert."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from scripts.benchmark import data
from scripts.benchmark.contest import Contender, Race, Target, missing_packages
from scripts.benchmark.measuring import BenchmarkError, Cost, cost, cpu_of, run_programs, touch_memory, watched
from scripts.benchmark.running import Ends, running
from scripts.benchmark.server import Server
from scripts.benchmark.tables import Arena, arena, copy_command
from tests.acceptance.tables import FLIGHTS, LINEITEM

KEY = "alter table lineitem add primary key (l_orderkey, l_linenumber)"
INDEXES = "create index on lineitem (l_partkey, l_suppkey); create index on lineitem (l_shipdate)"
HALF = f"insert into lineitem select * from reference where {data.HALF}; update lineitem set l_comment = 'old'"

PGLOADER = """
LOAD CSV FROM '{path}' INTO {url} TARGET TABLE public.lineitem
  WITH skip header = 1, fields optionally enclosed by '"', fields escaped by double-quote, fields terminated by ',';
"""

SERVICE = "this service"
PSQL = r"psql \copy"
TWO = r"two psql \copy, file split"


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What this service is to load: a file for a dataset, of which so many records are rejected."""

    path: Path
    dataset: str
    rejected: int = 0
    options: tuple[tuple[str, str], ...] = ()
    settings: tuple[tuple[str, str], ...] = ()


def load(server: Server, folder: Path, scale: float) -> list[Race]:
    """Clean files into tables without a key."""
    path = data.lineitem(folder, scale)
    table = arena(server, "lineitem", LINEITEM, path)
    unnest, adbc, loader = "asyncpg, unnest of 1000 rows, 5 at once", "adbc_ingest (Arrow)", "pgloader"
    no_adbc = missing_packages("adbc_driver_postgresql", "pyarrow")
    contenders = [
        Contender(name=SERVICE, turn=partial(service_turn, table, Load(path=path, dataset="public.lineitem"))),
        Contender(name=PSQL, turn=psql_turn(table, copy_command("lineitem", path))),
        Contender(name=TWO, turn=split_turn(table, path)),
        Contender(name=unnest, turn=peer_turn(table, "unnest", path)),
        Contender(
            name=adbc,
            turn=peer_turn(table, "adbc", path),
            missing=no_adbc,
        ),
        Contender(name=loader, turn=pgloader_turn(table, path, folder), missing=_no_program("pgloader")),
    ]
    targets = [
        Target(ours=SERVICE, theirs=PSQL, bound=0.65),
        Target(ours=SERVICE, theirs=TWO, bound=1.12),
        Target(ours=unnest, theirs=SERVICE, bound=8.0, at_least=True),
    ]
    size = path.stat().st_size
    title = "lineitem, clean, from stored chunks"
    lineitem = Race(name="load", title=title, contenders=contenders, targets=targets, rows=table.rows, size=size)
    return [lineitem, _flights(server, folder, scale)]


def _flights(server: Server, folder: Path, scale: float) -> Race:
    path = data.flights(folder, scale)
    table = arena(server, "flights", FLIGHTS, path, options=", null 'NA'")
    given = Load(path=path, dataset="public.flights", options=(("null", "NA"),))
    contenders = [
        Contender(name=SERVICE, turn=partial(service_turn, table, given)),
        Contender(name=PSQL, turn=psql_turn(table, copy_command("flights", path, ", null 'NA'"))),
    ]
    title, size = "flights of 2013, clean, from stored chunks", path.stat().st_size
    return Race(name="load flights", title=title, contenders=contenders, rows=table.rows, size=size)


def dirty(server: Server, folder: Path, scale: float) -> list[Race]:
    """One record in a hundred has a bad value; the service keeps each with its reason, `COPY` drops them."""
    file = data.dirty(data.lineitem(folder, scale))
    table = arena(server, "lineitem", LINEITEM, file.good)
    ignore = rf"{PSQL} ON_ERROR ignore"
    given = Load(path=file.path, dataset="public.lineitem", rejected=file.bad)
    contenders = [
        Contender(name=SERVICE, turn=partial(service_turn, table, given)),
        Contender(name=ignore, turn=psql_turn(table, copy_command("lineitem", file.path, ", on_error ignore"))),
    ]
    return [
        Race(
            name="dirty",
            title="lineitem, 1 % bad values, from stored chunks",
            contenders=contenders,
            targets=[Target(ours=SERVICE, theirs=ignore, bound=0.75)],
            rows=table.rows + file.bad,
            size=file.path.stat().st_size,
        )
    ]


def keyed(server: Server, folder: Path, scale: float) -> list[Race]:
    """A primary key and two indexes; the service is given a file in which 0.1 % of the records come twice."""
    path = data.lineitem(folder, scale)
    doubled, again = data.twice(path)
    table = arena(server, "lineitem", LINEITEM, path, after=f"{KEY}; {INDEXES}")
    clean, by_hand = rf"{PSQL}, clean file", "temp table, ON CONFLICT DO NOTHING"
    given = Load(path=doubled, dataset="public.lineitem", rejected=again)
    contenders = [
        Contender(name=SERVICE, turn=partial(service_turn, table, given)),
        Contender(name=clean, turn=psql_turn(table, copy_command("lineitem", path))),
        Contender(name=by_hand, turn=psql_turn(table, *_by_hand(doubled, "nothing"))),
    ]
    return [
        Race(
            name="keyed",
            title="lineitem, primary key and two indexes, 0.1 % duplicate keys",
            contenders=contenders,
            targets=[Target(ours=SERVICE, theirs=clean, bound=0.80)],
            rows=table.rows + again,
            size=doubled.stat().st_size,
        )
    ]


def upsert(server: Server, folder: Path, scale: float) -> list[Race]:
    """Half of the rows are in the table already, with other comments."""
    path = data.lineitem(folder, scale)
    table = arena(server, "lineitem", LINEITEM, path, after=f"{HALF}; {KEY}; vacuum analyze lineitem")
    definitions = folder / "datasets"
    definitions.mkdir(exist_ok=True)
    for order in ("any", "file"):
        (definitions / f"lineitem_{order}.toml").write_text(definition(order))
    by_hand = "temp table, INSERT ON CONFLICT by hand"
    orders = {order: f"{SERVICE}, order={order}" for order in ("any", "file")}
    settings = (("INGEST_DATASETS", str(definitions)),)
    contenders = [
        Contender(
            name=name,
            turn=partial(service_turn, table, Load(path=path, dataset=f"lineitem_{order}", settings=settings)),
        )
        for order, name in orders.items()
    ]
    contenders.append(Contender(name=by_hand, turn=psql_turn(table, *_by_hand(path, _update()))))
    targets = [
        Target(ours=orders["any"], theirs=by_hand, bound=0.60),
        Target(ours=orders["file"], theirs=by_hand, bound=0.95),
    ]
    title, size = "lineitem, half of the rows are there", path.stat().st_size
    return [Race(name="upsert", title=title, contenders=contenders, targets=targets, rows=table.rows, size=size)]


def service_turn(table: Arena, given: Load) -> Cost:
    """Let this service receive the file, then measure how it loads what it has stored."""
    table.reset()
    with running(table.server.dsn, settings=dict(given.settings)) as service, Ends(table.server.dsn) as ends:
        touch_memory(table.size)
        sent = time.perf_counter()
        job_id = service.put(given.path, given.dataset, **dict(given.options))["id"]
        stored, cpu_s = time.perf_counter(), cpu_of(service.process)
        with watched(table.server.postmaster(), service.process.pid) as use:
            ended = ends.wait(job_id)
        cpu_s = cpu_of(service.process) - cpu_s
        rejected = service.rejects(job_id)
    if rejected != given.rejected:
        raise BenchmarkError(f"{rejected} records were rejected and kept instead of {given.rejected}")
    table.check()
    facts = {"upload_s": stored - sent, "whole_s": ended - sent}
    return replace(cost(use, ended - stored, {service.process.pid: "ingest"}, cpu_s=cpu_s), facts=facts)


def psql_turn(table: Arena, *commands: str) -> Callable[[], Cost]:
    """Return the turn of a psql that runs commands."""
    return partial(_programs_turn, table, [table.server.psql(*commands)])


def split_turn(table: Arena, path: Path) -> Callable[[], Cost]:
    """Return the turn of two psql, each with half of the file: the limit of a machine with two processors."""
    return partial(
        _programs_turn, table, [table.server.psql(copy_command("lineitem", half)) for half in data.halves(path)]
    )


def peer_turn(table: Arena, peer: str, path: Path) -> Callable[[], Cost]:
    """Return the turn of one of our peers in Python."""
    program = [sys.executable, "-m", f"scripts.benchmark.peers.{peer}", table.server.dsn, "lineitem", str(path)]
    return partial(_programs_turn, table, [program])


def pgloader_turn(table: Arena, path: Path, folder: Path) -> Callable[[], Cost]:
    """Return the turn of pgloader."""
    socket = table.server.sql("show unix_socket_directories")
    url = f"postgresql://postgres@unix:{socket}:5432/ingest"
    command = folder / "lineitem.load"
    command.write_text(PGLOADER.format(path=path, url=url))
    return partial(_programs_turn, table, [["pgloader", str(command)]])


def _programs_turn(table: Arena, programs: Sequence[Sequence[str]]) -> Cost:
    table.reset()
    touch_memory(table.size)
    found = run_programs(table.server.postmaster(), *programs)
    table.check()
    return found


def _by_hand(path: Path, action: str) -> tuple[str, ...]:
    return (
        "create temp table incoming (like lineitem)",
        copy_command("incoming", path),
        f"insert into lineitem select * from incoming on conflict (l_orderkey, l_linenumber) do {action}",
    )


def _update() -> str:
    others = [name for name in data.COLUMNS if name not in ("l_orderkey", "l_linenumber")]
    return "update set " + ", ".join(f"{name} = excluded.{name}" for name in others)


def definition(order: str) -> str:
    """Return the dataset of the upsert, as TOML."""
    # As COPY reads them: blanks around a text are part of it.
    columns = [f'[columns.{name}]\ntype = "{sql_type}"\ntrim = false\n' for name, sql_type in data.COLUMNS.items()]
    head = f'name = "lineitem_{order}"\ntable = "public.lineitem"\nkey = ["l_orderkey", "l_linenumber"]\n'
    return f'{head}mode = "upsert"\norder = "{order}"\n{"".join(columns)}'


def _no_program(name: str) -> str | None:
    return None if shutil.which(name) else "not installed"
