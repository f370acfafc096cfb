"""What the modules of `ingest.database` give to the rest of the service."""

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
