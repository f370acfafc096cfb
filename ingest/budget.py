"""The error budget of a job: how many records may be rejected before it stops. A pure value."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ingest.errors import RequestError

# A share says nothing about the first few records: it is looked at from so many on, and at the end of the file.
SAMPLE_ROWS = 1000

COUNT = re.compile(r"[0-9]{1,18}", re.ASCII)
PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,4})?) ?%", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """At most `rejects` records, or at most `percent` (0 to 100) of the records read; one of the two is None."""

    rejects: int | None = None
    percent: float | None = None

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read `100` or `5%`. Raises RequestError (E_OPTION)."""
        if COUNT.fullmatch(text):
            return cls(rejects=int(text))
        share = PERCENT.fullmatch(text)
        if share and float(share[1]) <= 100:
            return cls(percent=float(share[1]))
        raise RequestError(
            f"max_rejects must be a count like 100 or a share like 5%, not {text[:50]!r}",
            code="E_OPTION",
            option="max_rejects",
        )
