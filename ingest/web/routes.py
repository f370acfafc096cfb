"""Which route a path belongs to, as the label of a metric: one of the templates of the API, or `other`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ingest.metrics import OTHER

PARAMETER = re.compile(r"\\\{\w+\\\}")


class Routes:
    """The templates of the API; paths without parameters win over those with."""

    def __init__(self, templates: Iterable[str]) -> None:
        known = list(templates)
        self._plain = frozenset(template for template in known if "{" not in template)
        self._patterns = [(_pattern(template), template) for template in known if "{" in template]

    def label(self, path: str) -> str:
        """Return the template of a decoded path."""
        if path in self._plain:
            return path
        return next((template for pattern, template in self._patterns if pattern.fullmatch(path)), OTHER)


def _pattern(template: str) -> re.Pattern[str]:
    # A file name at the end of an upload's path may hold slashes that were escaped.
    inner = ".+" if template.endswith("{filename}") else "[^/]+"
    return re.compile(PARAMETER.sub(inner, re.escape(template)), re.DOTALL)
