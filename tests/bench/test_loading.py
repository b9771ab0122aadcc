"""Every way to load reads the same images, and the figures are put together right."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from bench import loading
from bench.layouts import LAYOUTS, Layout, read_layout, write_layout
from bench.readers import OURS, WAYS, prepare
from mnist_bp.data.parquet import load_split
from mnist_bp.errors import ConfigError
from mnist_bp.results import CachedDataset


def test_every_way_reads_the_same_images_and_labels(sample: CachedDataset, tmp_path: Path) -> None:
    images, labels = load_split(sample.train)
    sources = prepare(sample.train, tmp_path)
    for way in WAYS.values():
        found, found_labels = way.read(sources)
        assert found.dtype == np.uint8, way.title
        assert np.array_equal(found, images), way.title
        assert np.array_equal(found_labels, labels), way.title
        assert all(path.stat().st_size > 0 for path in way.files(sources))


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_every_layout_holds_the_same_images_and_labels(layout: Layout, sample: CachedDataset, tmp_path: Path) -> None:
    images, labels = (array[:1_200] for array in load_split(sample.train))
    write_layout(layout, images, labels, tmp_path / "split.parquet")
    found, found_labels = read_layout(layout.pixels, (tmp_path / "split.parquet").read_bytes())
    assert np.array_equal(found, images)
    assert np.array_equal(found_labels, labels)


def test_ways_take_turns_and_the_first_round_is_not_counted() -> None:
    calls: list[str] = []
    seconds = loading.in_turn(2, {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, lambda _: None)
    assert calls == ["a", "b"] * 3
    assert {name: len(figures) for name, figures in seconds.items()} == {"a": 2, "b": 2}


def test_the_table_has_a_row_for_every_way_and_the_result_is_json(
    sample: CachedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {name: WAYS[name] for name in (OURS, "npy")}
    monkeypatch.setattr(loading, "WAYS", few)
    said: list[str] = []
    result = json.loads(json.dumps(loading.measure(1, said.append, data=sample)))
    assert [way["name"] for way in result["ways"]] == list(few)
    assert (result["ways"][0]["ratio"], result["images"]) == (1.0, 4_000)
    assert result["ways"][0]["size"] == sample.train.size
    assert all(way["first_seconds"] > 0 and way["first_memory_mb"] >= 0 for way in result["ways"])
    assert said
    console = Console(width=200, record=True, quiet=True)
    console.print(loading.table(result))
    assert loading.table(result).row_count == len(few)


def test_the_layout_table_has_a_row_for_every_layout(sample: CachedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "LAYOUTS", LAYOUTS[:2])
    result = json.loads(json.dumps(loading.measure_layouts(1, data=sample)))
    assert [way["name"] for way in result["ways"]] == [layout.name for layout in LAYOUTS[:2]]
    assert loading.layout_table(result).row_count == 2


def test_no_rounds_at_all_are_refused(sample: CachedDataset) -> None:
    with pytest.raises(ConfigError, match="0 rounds: expected at least 1"):
        loading.measure(0, data=sample)
