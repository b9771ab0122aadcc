"""Files of metrics, as Prometheus reads them."""

from __future__ import annotations

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families


def gauges_of(directory: Path) -> dict[tuple[str, ...], float]:
    """Return the gauges in all files of a directory by name, dataset and, if there is one, stage."""
    found: dict[tuple[str, ...], float] = {}
    for path in directory.glob("*.prom"):
        for family in text_string_to_metric_families(path.read_text()):
            assert family.type == "gauge", family
            for sample in family.samples:
                key = sample.name, sample.labels.pop("dataset"), *sample.labels.values()
                assert key not in found, key
                found[key] = sample.value
    return found
