"""PostgreSQL behind a Trio interface: the only package that imports asyncpg, asyncio and trio_asyncio.

errors    asyncpg's exceptions -> the project's, by SQLSTATE
session   one connection inside a unit of work (runs on the asyncio side)
joined    many texts as one parameter
notices   the connection that hands over a COPY's notices
pool      Database: connections, units of work, the one crossing between Trio and asyncio
listener  LISTEN on a connection of its own, as a Trio channel
migrate   sql/NNN_*.sql in order, once
embedded  the PostgreSQL server under .ingest/
"""

from ingest.database.joined import array_of, joined
from ingest.database.listener import Notification, listen
from ingest.database.migrate import migrate, migrate_database
from ingest.database.opening import open_database
from ingest.database.pool import Database, Held
from ingest.database.session import CopyResult, Notice, Record, Session, column_list, quoted

__all__ = [
    "CopyResult",
    "Database",
    "Held",
    "Notice",
    "Notification",
    "Record",
    "Session",
    "array_of",
    "column_list",
    "joined",
    "listen",
    "migrate",
    "migrate_database",
    "open_database",
    "quoted",
]
