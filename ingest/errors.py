"""The errors of the project, sorted by who can do something about them.

One base, and under it one class for each party: the file, the client, the database, the storage, the settings.
`code` is stable and documented (README, "Error codes"); `detail` is one sentence for a person and holds no cell
values, SQL, credentials or tracebacks; `facts` are extra fields for the API's problem body and for the logs.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator


class IngestError(Exception):
    """Base of every error the service raises on purpose."""

    code = "E_INTERNAL"

    def __init__(self, detail: str, *, code: str | None = None, **facts: object) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or type(self).code
        self.facts = facts

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"


def leaves(group: BaseExceptionGroup[IngestError]) -> Iterator[IngestError]:
    """Yield the errors in a group, and in the groups inside it."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from leaves(error)
        else:
            yield error


class SettingsError(IngestError):
    """A setting has a value the service cannot work with; raised before anything is started."""

    code = "E_SETTING"


class FileError(IngestError):
    """The file cannot be loaded as it is: its header, its encoding or its quoting is at fault."""

    code = "E_FILE"


class RequestError(IngestError):
    """The client asked for something that cannot be done; the web maps the code to a 4xx status."""

    code = "E_REQUEST"


class StorageError(IngestError):
    """An object could not be written or read; worth another try unless the object itself has gone."""

    code = "E_STORAGE"


class SourceChanged(StorageError):
    """The bytes of a file or object are not the bytes that were received; never worth another try."""

    code = "E_SOURCE_CHANGED"


class Interrupted(IngestError):
    """A signal ended the load; `number` says which one."""

    code = "E_INTERRUPTED"

    def __init__(self, number: int, advice: str) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}{advice}")
        self.number = number


class LeaseLost(IngestError):
    """Another worker owns the chunk now; this one must stop touching it."""

    code = "E_LEASE_LOST"


class AccountingError(IngestError):
    """Records read and records accounted for differ: a bug, raised so that it is never called success."""

    code = "E_ACCOUNTING"


class DatabaseError(IngestError):
    """PostgreSQL refused a statement; `sqlstate` says why (PostgreSQL manual, appendix A)."""

    code = "E_DATABASE"

    def __init__(
        self,
        detail: str,
        *,
        sqlstate: str = "",
        column: str | None = None,
        constraint: str | None = None,
        code: str | None = None,
        **facts: object,
    ) -> None:
        super().__init__(detail, code=code, **facts)
        self.sqlstate = sqlstate
        self.column = column
        self.constraint = constraint


class RowError(DatabaseError):
    """A record's values were refused (SQLSTATE classes 22 and 23 and the like): isolate the record, keep the rest."""

    code = "E_ROW"


class ConflictError(DatabaseError):
    """Deadlock, serialization failure or lock timeout: the same batch is worth an immediate retry."""

    code = "E_CONFLICT"


class UnavailableError(DatabaseError):
    """The connection or the server has gone, or has no resources left: back off, reconnect, try again."""

    code = "E_DATABASE_UNAVAILABLE"


class PermanentError(DatabaseError):
    """No retry can help: a missing table or column, no permission, a statement that is wrong."""

    code = "E_DATABASE_REFUSED"
