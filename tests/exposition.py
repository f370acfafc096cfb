"""What `/metrics` says, read by Prometheus' own parser."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families


class Exposition:
    """One answer of `/metrics`."""

    def __init__(self, text: str) -> None:
        families = list(text_string_to_metric_families(text))
        self.types = {family.name: family.type for family in families}
        assert len(families) == len(self.types), "a metric is there twice"
        self.help = {family.name: family.documentation for family in families}
        self.samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        for family in families:
            for sample in family.samples:
                key = (sample.name, frozenset(sample.labels.items()))
                assert key not in self.samples, f"{key} is there twice"
                self.samples[key] = sample.value

    def value(self, name: str, **labels: str) -> float:
        """Return the sum of the samples with these labels, whatever further ones they have; 0 without any."""
        wanted = set(labels.items())
        return sum(value for (found, given), value in self.samples.items() if found == name and wanted <= given)

    def by(self, name: str, label: str, **labels: str) -> Mapping[str, float]:
        """Return those sums by the values of one label, without zeros."""
        found = {dict(given)[label] for (sample, given) in self.samples if sample == name}
        sums = {value: self.value(name, **labels, **{label: value}) for value in found}
        return {value: total for value, total in sums.items() if total}

    def labels(self, name: str) -> set[frozenset[str]]:
        """Return the sets of label names that samples of a name have."""
        return {frozenset(name for name, _ in given) for (sample, given) in self.samples if sample == name}
