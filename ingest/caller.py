"""Who asks: the owner behind an API key and what the key allows, as a value that travels with the request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self
from uuid import UUID


class Scope(StrEnum):
    """What a key allows; ingest.keys has a CHECK with the same words."""

    UPLOAD = "upload"  # send files
    READ = "read"  # look at one's own jobs and their rejects
    CONTROL = "control"  # cancel, pause, retry, delete one's own jobs
    METRICS = "metrics"  # figures of the whole service: /metrics, /stats and the details of /health
    ADMIN = "admin"  # everything, and everybody's jobs


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who a request comes from. Without a key `key_id` and `owner` are None."""

    key_id: UUID | None = None
    owner: str | None = None
    scopes: frozenset[Scope] = frozenset()

    @property
    def is_admin(self) -> bool:
        """Whether everybody's jobs are the caller's business."""
        return Scope.ADMIN in self.scopes

    @property
    def only_owner(self) -> str | None:
        """The owner whose jobs alone the caller may see, None when it may see all of them."""
        return None if self.is_admin else self.owner or ""  # no job belongs to ""

    def may(self, any_of: frozenset[Scope]) -> bool:
        """Whether one of these scopes is the caller's."""
        return self.is_admin or bool(self.scopes & any_of)

    def sees(self, owner: str | None) -> bool:
        """Whether the caller may know of something that belongs to `owner`; what has no owner is for admins."""
        return self.is_admin or (owner is not None and owner == self.owner)

    def to_json(self) -> dict[str, Any]:
        """Return the caller as it is kept with an upload that other requests go on with."""
        key_id = None if self.key_id is None else str(self.key_id)
        return {"key_id": key_id, "owner": self.owner, "scopes": sorted(self.scopes)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read back what `to_json` wrote."""
        key_id = None if data["key_id"] is None else UUID(data["key_id"])
        return cls(key_id=key_id, owner=data["owner"], scopes=frozenset(map(Scope, data["scopes"])))


# Somebody where no keys are asked for: whoever reaches the service may do everything.
ANYBODY = Caller(scopes=frozenset({Scope.ADMIN}))
# Somebody without a key where keys are asked for.
NOBODY = Caller()
