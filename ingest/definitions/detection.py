"""`dataset=auto`: which definition a header belongs to, how sure that is, and what else it could be. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ingest.definitions.defined import DefinedDataset
from ingest.definitions.matching import REJECT_COLUMNS, Reading
from ingest.dialect import Dialect
from ingest.errors import FileError, RequestError
from ingest.spec import LoadSpec

AUTO = "auto"

# A dataset is taken when at least so much speaks for it, and the next best is at least so far behind.
SURE = 0.5
AHEAD = 0.15

# What the marks of a platform are worth: they are names that only its files have.
MARKED = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A dataset that a header may belong to; `score` is 0 to 1. It cannot be the one if columns are `missing`."""

    dataset: DefinedDataset
    platform: str | None
    score: float
    missing: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the candidate as problems and previews show it."""
        shown = {"dataset": self.dataset.name, "platform": self.platform, "score": round(self.score, 2)}
        return {**shown, "missing": list(self.missing)}


def candidates(header: Sequence[str], datasets: Sequence[DefinedDataset]) -> list[Candidate]:
    """Return all datasets as candidates for a header, the likeliest first."""
    found = [_candidate(header, dataset) for dataset in datasets]
    return sorted(found, key=lambda candidate: (bool(candidate.missing), -candidate.score, candidate.dataset.name))


def recognise(header: Sequence[str], datasets: Sequence[DefinedDataset]) -> Candidate:
    """Return the dataset a header belongs to. Raises FileError (E_DATASET_UNSURE) that names the candidates."""
    found = candidates(header, datasets)
    fitting = [candidate for candidate in found if not candidate.missing]
    best, second = [*fitting, None, None][:2]
    if best is None or best.score < SURE:
        raise _unsure("no dataset fits the header well enough", found)
    if second is not None and best.score - second.score < AHEAD:
        raise _unsure("the header fits more than one dataset", found)
    return best


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoDataset:
    """Stands for whichever of the definitions a header belongs to."""

    datasets: tuple[DefinedDataset, ...]
    name: str = AUTO

    def check_parameters(self, parameters: Mapping[str, str]) -> None:
        """Let everything pass that some definition takes; the one that is recognised judges the rest.

        Raises RequestError (E_OPTION) for a name that none of them knows.
        """
        known = sorted({name for dataset in self.datasets for name in dataset.definition.parameters})
        for name in parameters:
            if name not in known:
                text = f"{name!r} is not an option of this request, nor a parameter of any dataset"
                raise RequestError(text, code="E_OPTION", option=name, parameters=known)

    def spec(
        self, names: Sequence[str], *, dialect: Dialect, parameters: Mapping[str, str], resubmission: bool = False
    ) -> LoadSpec:
        """Return how the dataset that fits loads the file, and how sure it is.

        Raises FileError (E_DATASET_UNSURE, E_HEADER_MISMATCH), RequestError (E_OPTION).
        """
        best = recognise(names, self.datasets)
        spec = best.dataset.spec(names, dialect=dialect, parameters=parameters, resubmission=resubmission)
        return replace(spec, certainty=round(best.score, 2))

    def names_known(self) -> frozenset[str]:
        """Return all names that a column of a file may have for one of the definitions, squeezed."""
        return frozenset().union(*(dataset.names_known() for dataset in self.datasets))

    def own_names(self) -> list[str]:
        """Return nothing: without a header nobody knows which dataset it is."""
        return []

    def read_header(self, names: Sequence[str]) -> Reading:
        """Return how the dataset that fits reads the header. Raises FileError (E_DATASET_UNSURE)."""
        best = recognise(names, self.datasets)
        return replace(best.dataset.read_header(names), certainty=round(best.score, 2))

    def to_json(self) -> dict[str, Any]:
        """Return what this stands for."""
        return {"name": self.name, "datasets": [dataset.name for dataset in self.datasets]}


def _candidate(header: Sequence[str], dataset: DefinedDataset) -> Candidate:
    reading = dataset.read_header(header)
    matches = reading.matches
    wrong = [*reading.missing, *matches.duplicate, *(() if reading.ignores_unknown else matches.unknown[:5])]
    recognised = len({match.header for match in matches.columns if match.column is not None})
    share = recognised / max(1, len({*header} - {*REJECT_COLUMNS}))
    score = share * (1 - MARKED) + MARKED if reading.platform else share
    return Candidate(dataset=dataset, platform=reading.platform, score=score, missing=tuple(wrong))


def _unsure(why: str, found: Sequence[Candidate]) -> FileError:
    shown = [candidate.to_json() for candidate in found[:10]]
    words = ", ".join(f"{one['dataset']} {one['score']:.0%}{_lack(one['missing'])}" for one in shown[:5]) or "none"
    return FileError(f"{why}: name the dataset. Candidates: {words}", code="E_DATASET_UNSURE", candidates=shown)


def _lack(missing: Sequence[str]) -> str:
    return f" (does not fit: {', '.join(name[:60] for name in missing[:3])})" if missing else ""
