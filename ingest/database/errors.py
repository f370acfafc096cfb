"""Turn asyncpg's exceptions into the project's, by SQLSTATE: one place decides what is worth which retry.

Classes after PostgreSQL's manual, appendix A; what is transient follows the manual's section 13.5.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from ingest.errors import ConflictError, DatabaseError, IngestError, PermanentError, RowError, UnavailableError

# A syntax error in a statement of ours would show in every test; a value of tsvector or jsonpath can hold one too.
ROW = frozenset({"42601"})
CONFLICT = frozenset({"40001", "40P01", "55P03", "57014"})
UNAVAILABLE = frozenset({"40003", "25P03", "25P04", "25006", "58030"})
CONFLICT_CLASSES = frozenset({"40"})
UNAVAILABLE_CLASSES = frozenset({"08", "53", "57"})
PERMANENT = frozenset({"54011", "54023"})
# is_nobodys_fault in sql/ raises what is in these and the classes above, and takes the rest for the record's fault.
PERMANENT_CLASSES = frozenset(
    {"0A", "0L", "0P", "25", "26", "28", "2B", "34", "3D", "3F", "42", "55", "58", "F0", "XX"}
)


def kind_of(sqlstate: str) -> type[DatabaseError]:
    """Return the error class that a SQLSTATE belongs to; unknown ones (a trigger's own) speak about the record."""
    if sqlstate in ROW:
        return RowError
    if sqlstate in CONFLICT:
        return ConflictError
    if sqlstate in UNAVAILABLE or sqlstate[:2] in UNAVAILABLE_CLASSES:
        return UnavailableError
    if sqlstate[:2] in CONFLICT_CLASSES:
        return ConflictError
    if sqlstate in PERMANENT or sqlstate[:2] in PERMANENT_CLASSES:
        return PermanentError
    return RowError


def from_postgres(error: asyncpg.PostgresError) -> DatabaseError:
    """Return the project's error for one that PostgreSQL sent. Its DETAIL is dropped: it may quote other rows."""
    sqlstate = error.sqlstate or "XX000"
    message = getattr(error, "message", None)
    if message is None and isinstance(error, asyncpg.DataError):
        # Of asyncpg's own making, and its text quotes the value.
        return PermanentError("a value cannot be sent to PostgreSQL", sqlstate=sqlstate)
    return kind_of(sqlstate)(
        str(message or error).splitlines()[0],
        sqlstate=sqlstate,
        column=getattr(error, "column_name", None),
        constraint=getattr(error, "constraint_name", None),
    )


def without_frames(error: asyncpg.PostgresError) -> asyncpg.PostgresError:
    """Return an error about a record without its traceback, which says nothing new; others as they are.

    It and what carried the error out of asyncio hold each other, and with them the batch, until the next collection of
    garbage: where every batch fails, that is more memory than all else.
    """
    return error.with_traceback(None) if kind_of(error.sqlstate or "") is RowError else error


@contextmanager
def mapped() -> Iterator[None]:
    """Raise the project's errors in place of asyncpg's and the network's, the cause kept."""
    try:
        yield
    except IngestError:
        raise
    except asyncpg.PostgresError as error:
        raise from_postgres(error) from without_frames(error)
    except (asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        # asyncpg raises these for a connection that was just lost; used wrongly by us they would show in every test.
        raise UnavailableError(
            f"the database connection was lost ({type(error).__name__})", sqlstate="08006"
        ) from error
    except TimeoutError as error:
        raise UnavailableError("the database did not answer in time", sqlstate="08006") from error
    except OSError as error:
        raise UnavailableError(
            f"the database cannot be reached: {error.strerror or error}", sqlstate="08001"
        ) from error
