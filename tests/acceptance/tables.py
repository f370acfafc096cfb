"""Tables that tests load into, and what they hold as one text: equal texts mean equal tables."""

from __future__ import annotations

from tests.conftest import Psql

FLIGHTS = (
    "year int, month int, day int, dep_time int, sched_dep_time int, dep_delay int, arr_time int, sched_arr_time int,"
    " arr_delay int, carrier text, flight int, tailnum text, origin text, dest text, air_time int, distance int,"
    " hour int, minute int, time_hour timestamptz"
)
FLIGHTS_AS_TEXT = ", ".join(f"{column.split()[0]} text" for column in FLIGHTS.split(", "))

LINEITEM = (
    "l_orderkey bigint not null, l_partkey bigint not null, l_suppkey bigint not null, l_linenumber int not null,"
    " l_quantity numeric(15,2) not null, l_extendedprice numeric(15,2) not null, l_discount numeric(15,2) not null,"
    " l_tax numeric(15,2) not null, l_returnflag text not null, l_linestatus text not null, l_shipdate date not null,"
    " l_commitdate date not null, l_receiptdate date not null, l_shipinstruct text not null, l_shipmode text not null,"
    " l_comment text not null"
)


def digest(psql: Psql, table: str) -> str:
    """Return row count, a checksum of the rows and one of each column, in any order of the rows."""
    names = psql(
        f"select attname from pg_attribute where attrelid = '{table}'::regclass and attnum > 0 order by attnum"
    ).splitlines()
    # A NULL must differ from every text, the empty one too.
    columns = ", ".join(f"sum(hashtextextended(coalesce('=' || \"{name}\", 'null'), 0)::numeric)" for name in names)
    return psql(f"select count(*), sum(hashtextextended(t::text, 0)::numeric), {columns} from {table} t")


def count(psql: Psql, what: str) -> int:
    """Return `select count(*) from WHAT`."""
    return int(psql(f"select count(*) from {what}"))
