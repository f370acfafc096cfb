"""What a client says about a file that it sends. Pure values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self
from uuid import UUID

from ingest.budget import Budget
from ingest.caller import ANYBODY, Caller
from ingest.compression import Compression
from ingest.dialect import Dialect
from ingest.digests import Digest
from ingest.job import JobMode, Load, RequestPart

# What is not kept with an upload of many requests.
OF_ONE_REQUEST = ("compression", "digests", "part")


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadOptions:
    """What the client said about a file. `bytes_total` is None when it did not say how long the file is.

    `parameters` are the values of the dataset's parameters; `parent_id` is the job whose rejects the file corrects.
    `told` are the options that `dialect` was made of, as text: what they leave out is detected; None: nothing is.
    `compression` is what the request says about the body; else the file's name and first bytes tell. `digests` are
    checked at the end, over the bytes as sent. `part` is set for a request with an Idempotency-Key.
    """

    dataset: str
    filename: str
    dialect: Dialect
    priority: int
    bytes_total: int | None
    mode: JobMode = JobMode.BATCHES
    budget: Budget | None = None
    parent_id: UUID | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    told: Mapping[str, str] | None = None
    caller: Caller = ANYBODY
    load: Load = Load.AFTER_UPLOAD
    refuse_duplicate: bool = False
    compression: Compression | None = None
    digests: tuple[Digest, ...] = ()
    part: RequestPart | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the options as they are kept with an upload that may take days; what a single request says is not."""
        plain = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in OF_ONE_REQUEST}
        parent = None if self.parent_id is None else str(self.parent_id)
        budget = None if self.budget is None else asdict(self.budget)
        own = {
            "dialect": self.dialect.to_json(),
            "budget": budget,
            "parent_id": parent,
            "caller": self.caller.to_json(),
        }
        told = None if self.told is None else dict(self.told)
        return {**plain, **own, "parameters": dict(self.parameters), "told": told}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read back what `to_json` wrote."""
        rest = dict(data)
        dialect, budget, parent = Dialect(**rest.pop("dialect")), rest.pop("budget"), rest.pop("parent_id")
        return cls(
            dialect=dialect,
            budget=None if budget is None else Budget(**budget),
            parent_id=None if parent is None else UUID(parent),
            mode=JobMode(rest.pop("mode")),
            caller=Caller.from_json(rest.pop("caller")),
            load=Load(rest.pop("load")),
            **rest,
        )
