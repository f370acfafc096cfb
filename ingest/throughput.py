"""What writers did for some time, and what a number of writers is worth beside another one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Trouble = Literal["conflict", "lock", "unavailable", "memory"]

# What a writer costs (connections, memory, the others' latency), as an exponent: twice the writers must bring 7 %.
PRICE = 0.1
# And so much more, or measurements that are a few percent off would carry the number up where all are alike.
MARGIN = 1.03


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What the writers did for some seconds. Batches are those that both began and ended at the number in force.

    `busy_s` are the seconds of all writers at the database together, `batch_s` those that the batches took.
    """

    seconds: float = 0.0
    busy_s: float = 0.0
    batches: int = 0
    loaded_bytes: int = 0
    batch_s: float = 0.0
    trouble: Trouble | None = None

    def __add__(self, other: Sample) -> Sample:
        """Return both together."""
        return Sample(
            seconds=self.seconds + other.seconds,
            busy_s=self.busy_s + other.busy_s,
            batches=self.batches + other.batches,
            loaded_bytes=self.loaded_bytes + other.loaded_bytes,
            batch_s=self.batch_s + other.batch_s,
            trouble=other.trouble or self.trouble,
        )

    @property
    def busy(self) -> float:
        """Writers at the database, on the average."""
        return self.busy_s / self.seconds if self.seconds else 0.0

    @property
    def rate(self) -> float:
        """Bytes a second, by Little's law: so batches that are half done at either end of the time do not blur it."""
        return self.busy * self.loaded_bytes / self.batch_s if self.batch_s else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A number of writers, and the bytes a second that they loaded."""

    writers: int
    rate: float

    def worth(self, other: Level) -> float:
        """Return what this number is worth beside the other one: from 1 on it is better.

        More writers have to bring their price. Fewer have to bring as much: what they spare is no reason to be slower.
        """
        price: float = MARGIN * (self.writers / other.writers) ** PRICE if self.writers > other.writers else 1.0
        return self.rate / (other.rate * price) if other.rate else 1.0
