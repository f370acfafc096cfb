"""PostgreSQL behind a Trio interface: the only package that imports asyncpg, asyncio and trio_asyncio.

errors    asyncpg's exceptions -> the project's, by SQLSTATE
session   one connection inside a unit of work (runs on the asyncio side)
joined    many texts as one parameter
notices   the connection that hands over a COPY's notices
pool      Database: connections, units of work, the one crossing between Trio and asyncio
listener  LISTEN on a connection of its own, as a Trio channel
migrate   sql/NNN_*.sql in order, once
embedded  the PostgreSQL server under .ingest/
turns     the loop between them, made to cost less
names     what all of these give to the rest of the service

The names are imported when the first of them is asked for: the embedded server needs none, and starts meanwhile.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ingest.database.names import *  # noqa: F403  # for mypy; they are listed there


def __getattr__(name: str) -> Any:
    """Return one of the names; all of them are here then, some in the place of a module of that name."""
    if name.startswith("__"):
        raise AttributeError(name)
    names = import_module("ingest.database.names")
    globals().update({each: getattr(names, each) for each in names.__all__})
    try:
        return globals()[name]
    except KeyError:
        raise AttributeError(f"ingest.database gives no {name}") from None
