"""What a table with one key holds after a file was merged record by record: plain Python, no SQL."""

from __future__ import annotations

import random

from ingest.spec import Column, Field, LoadSpec, Merge, Plan, Target
from tests.integration.build import COMMA

KEPT = "CREATE TABLE kept (id integer PRIMARY KEY, b text CHECK (b <> 'bad'), n integer)"
FIELDS = (("id", "integer"), ("b", "text"), ("n", "integer"))


def kept(merge: Merge, *, trim: bool) -> LoadSpec:
    """The spec for the table; with `trim` its texts need reading, so that they are staged as texts."""
    fields = tuple(
        Field(name=name, type=kind, position=place, trim=trim, required=name == "id")
        for place, (name, kind) in enumerate(FIELDS)
    )
    target = Target(
        schema="public",
        table="kept",
        columns=tuple((name, name) for name, _ in FIELDS),
        merge=merge,
        key=() if merge is Merge.APPEND else ("id",),
        update=("b", "n") if merge is Merge.UPSERT else (),
    )
    return LoadSpec(
        dataset="kept",
        schema="public",
        table="kept",
        dialect=COMMA,
        columns=tuple(Column(name=name, type=kind) for name, kind in FIELDS),
        keyed=True,
        plan=Plan(fields=fields, targets=(target,)),
    )


def random_lines(seed: str, count: int) -> list[str]:
    """Records of few keys, some of them broken in one of several ways."""
    chance = random.Random(seed)
    lines = []
    for _ in range(count):
        key = chance.choice(["x", "", *[str(n) for n in range(60)] * 3])
        text = chance.choice(["a", "b", "", "bad"] if chance.random() < 0.2 else ["a", "b"])
        number = "y" if chance.random() < 0.02 else chance.choice("123")
        lines.append(f"{key},{text},{number},z\n" if chance.random() < 0.01 else f"{key},{text},{number}\n")
    return lines


class Oracle:
    """The table, which lines were refused and what became of the others, since `begin`."""

    def __init__(self, merge: Merge) -> None:
        self.merge = merge
        self.rows: dict[int, tuple[str | None, int | None]] = {}
        self.begin()

    def begin(self) -> None:
        """Begin with another file."""
        self.refused: set[int] = set()
        self.counts = {"inserted": 0, "updated": 0, "unchanged": 0, "skipped": 0}

    def add(self, line: int, record: str) -> None:
        """Merge a record, or refuse it."""
        key, text, number, *more = record.rstrip("\n").split(",")
        if more or not key.isdigit() or not number.isdigit() or text == "bad":
            self.refused.add(line)
            return
        row = (text or None, int(number))
        there = self.rows.get(int(key))
        if there is None:
            outcome = "inserted"
        elif self.merge is Merge.APPEND:
            self.refused.add(line)
            return
        elif self.merge is Merge.SKIP:
            outcome, row = "skipped", there
        else:
            outcome = "unchanged" if there == row else "updated"
        self.rows[int(key)] = row
        self.counts[outcome] += 1
