"""Nights: their dates and seeds, which runs they are, and how they are shown."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_bp.errors import ConfigError
from mnist_bp.registry.nightly import NIGHTS_SHOWN, night_of, night_of_seed, recent_nights, seed_of, zone_of
from mnist_bp.report.nights import Night, nights_headline, nights_markdown, nights_svg
from mnist_bp.report.style import DARK, LIGHT
from mnist_bp.storage.local import LocalStore
from tests.support.published_runs import checkpoint, publish, put_promotion

FIRST = date(2026, 11, 1)
TODAY = date(2026, 11, 24)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "artifacts")


def put(store: LocalStore, number: int, accuracy: float, seed: int, dataset: str = "mnist") -> str:
    """Publish a run that was started on the day of its number."""
    created = datetime(2026, 11, 1, 2, tzinfo=UTC) + timedelta(days=number)
    last = checkpoint(2_000, accuracy, seed).model_dump(mode="json")
    changes = {"created": created.isoformat(), "config": {"seed": seed}, "seed": seed, "checkpoints": [last]}
    return publish(store, number, dataset, changes=changes)


def put_night(store: LocalStore, number: int, accuracy: float = 0.9, dataset: str = "mnist") -> str:
    return put(store, number, accuracy, seed_of(FIRST + timedelta(days=number)), dataset)


def test_nights_are_listed_by_date_with_their_decisions_and_other_runs_are_left_out(store: LocalStore) -> None:
    nights = [put_night(store, number, 0.9 + number / 100) for number in (0, 1, 2)]
    put(store, 3, 0.5, seed=7)
    put_night(store, 4, dataset="kmnist")
    caught_up = put(store, 5, 0.91, seed_of(FIRST - timedelta(days=1)))
    put_promotion(store, nights[1])
    found = recent_nights(store, "mnist", TODAY)
    assert [row.run_id for row in found] == [caught_up, *nights]
    assert [row.decision for row in found] == [None, None, "promoted", None]
    assert [row.day.isoformat() for row in found] == ["2026-10-31", "2026-11-01", "2026-11-02", "2026-11-03"]
    assert nights_headline(found) == "0.9200 on 3 Nov, best of 4: 0.9200"


def test_in_a_store_without_nights_every_run_counts_as_one(store: LocalStore) -> None:
    runs = [put(store, number, 0.9, seed=number) for number in (1, 2)]
    found = recent_nights(store, "mnist", TODAY)
    assert [row.run_id for row in found] == runs
    assert [row.day.isoformat() for row in found] == ["2026-11-02", "2026-11-03"]
    assert recent_nights(store, "kmnist", TODAY) == []


def test_a_damaged_manifest_is_left_out_and_a_damaged_record_is_reported(store: LocalStore, tmp_path: Path) -> None:
    whole, undecided, damaged = (put_night(store, number) for number in range(3))
    for run_id, name in ((undecided, "promotion.json"), (damaged, "manifest.json")):
        put_promotion(store, run_id)
        path = tmp_path / "artifacts" / "runs" / run_id / name
        path.write_bytes(path.read_bytes()[:-9])
    assert [(row.run_id, row.decision) for row in recent_nights(store, "mnist", TODAY)] == [
        (whole, None),
        (undecided, "damaged"),
    ]


def test_only_the_most_recent_nights_are_listed(store: LocalStore) -> None:
    nights = [put_night(store, number) for number in range(NIGHTS_SHOWN + 2)]
    assert [row.run_id for row in recent_nights(store, "mnist", TODAY)] == nights[-NIGHTS_SHOWN:]


def test_other_runs_never_count_as_nights_if_nights_may_lie_further_back(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnist_bp.registry.nightly.RUNS_SEARCHED", 3)
    put_night(store, 0)
    night = put_night(store, 1)
    for number in (2, 3):
        put(store, number, 0.5, seed=number)
    assert [row.run_id for row in recent_nights(store, "mnist", TODAY)] == [night]
    put(store, 4, 0.5, seed=4)
    assert recent_nights(store, "mnist", TODAY) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"checkpoints": []},
        {"checkpoints": [{**checkpoint(1, 0.9).model_dump(mode="json"), "accuracy": None}]},
        {"checkpoints": [{**checkpoint(1, 0.9).model_dump(mode="json"), "accuracy": float("nan")}]},
        {"created": "yesterday"},
        {"created": None},
        {"config": []},
    ],
)
def test_a_run_with_a_wrong_field_in_its_manifest_is_left_out(wrong: dict[str, Any], store: LocalStore) -> None:
    publish(store, 2, changes=wrong)
    assert recent_nights(store, "mnist", TODAY) == []
    night = put_night(store, 1)
    assert [row.run_id for row in recent_nights(store, "mnist", TODAY)] == [night]


def test_a_run_whose_seed_is_not_a_number_is_not_a_night(store: LocalStore) -> None:
    night = put_night(store, 1)
    publish(store, 2, changes={"config": {"seed": "x"}})
    assert [row.run_id for row in recent_nights(store, "mnist", TODAY)] == [night]


@pytest.mark.parametrize("count", [1, 2, NIGHTS_SHOWN])
def test_the_chart_has_a_mark_per_night_filled_for_champions_and_names_each_day_once(
    store: LocalStore, count: int
) -> None:
    nights = [put_night(store, number, 0.9 + number / 1000) for number in range(count)]
    put_promotion(store, nights[-1])
    picture = ET.fromstring(nights_svg(recent_nights(store, "mnist", TODAY)))
    marks = list(picture.iter("{http://www.w3.org/2000/svg}circle"))
    assert [mark.get("class") for mark in marks] == [*["main"] * (count - 1), "promoted main"]
    heights = [float(str(mark.get("cy"))) for mark in marks]
    assert heights == sorted(heights, reverse=True)
    days = [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text") if "Nov" in str(text.text)]
    assert 1 <= len(days) == len(set(days)) <= 8
    assert days[-1] == f"{count} Nov"


def test_the_markdown_contains_the_chart_and_a_table_that_starts_with_the_newest_night(store: LocalStore) -> None:
    first, last = put_night(store, 1, 0.91), put_night(store, 2, 0.92)
    rows = recent_nights(store, "mnist", TODAY)
    text = nights_markdown("mnist", rows)
    assert text.splitlines()[0] == "# mnist: accuracy of each night"  # the artifact's description has the figures
    assert "the best of them owes a part of its lead to chance" in text
    found = re.search(r"!\[.*\]\(data:image/svg\+xml;base64,(.*)\)", text)
    assert found is not None
    assert base64.b64decode(found[1]) == nights_svg(rows)
    assert text.splitlines()[-2:] == [
        f"| 2026-11-03 | `{last}` | 2,000 | 0.9200 |  |",
        f"| 2026-11-02 | `{first}` | 2,000 | 0.9100 |  |",
    ]


SVG = "{http://www.w3.org/2000/svg}"


def night_of_accuracy(number: int, accuracy: float, training: str = "relu-128, 60,000 steps", **about: Any) -> Night:
    return Night(f"run-{number}", FIRST + timedelta(days=number), True, 60_000, accuracy, training, **about)


def drawn(nights: list[Night], style: str) -> list[list[tuple[float, float]]]:
    """Return the lines of a style in the chart, without the sample in the legend, which is last."""
    lines = [line for line in ET.fromstring(nights_svg(nights)).iter(f"{SVG}polyline") if line.get("class") == style]
    points = [[tuple(map(float, point.split(","))) for point in str(line.get("points")).split()] for line in lines]
    return [[(x, y) for x, y in line] for line in points[:-1]]


def test_nights_of_another_length_or_recipe_are_not_joined_by_a_line() -> None:
    trainings = ["lab-8-4, 10,000 steps"] * 2 + ["relu-128, 60,000 steps"] + ["relu-128, 360,000 steps"] * 2
    nights = [night_of_accuracy(number, 0.9 + number / 100, name) for number, name in enumerate(trainings)]
    assert [len(line) for line in drawn(nights, "main")] == [2]
    assert [len(line) for line in drawn(nights, "other")] == [2, 1]
    picture = ET.fromstring(nights_svg(nights))
    marks = list(picture.iter(f"{SVG}circle"))
    assert [mark.get("class") for mark in marks] == ["other"] * 3 + ["main"] * 2
    legend = [text.text for text in picture.iter(f"{SVG}text")][-2:]
    assert legend == ["relu-128, 360,000 steps", "trained otherwise; not joined"]
    assert "| night | run | training | accuracy | decision |" in nights_markdown("mnist", nights)


def test_the_accuracy_of_the_champion_is_a_line_that_rises_where_a_night_became_champion() -> None:
    accuracies = [(0.98, 0.98), (0.975, 0.98), (0.985, 0.985), (0.97, 0.985)]
    nights = [night_of_accuracy(number, mine, champion=best) for number, (mine, best) in enumerate(accuracies)]
    (line,) = drawn(nights, "champion")
    marks = [
        (float(str(m.get("cx"))), float(str(m.get("cy"))))
        for m in ET.fromstring(nights_svg(nights)).iter(f"{SVG}circle")
    ]
    first, third = marks[0][1], marks[2][1]
    assert [y for _, y in line] == [first, first, first, first, third, third, third, third]
    assert [x for x, _ in line] == sorted(x for x, _ in line)
    assert line[3][0] == line[4][0] == marks[2][0]
    assert line[-1][0] >= marks[-1][0]
    assert "champion, 0.9850 now" in nights_svg(nights).decode()


def test_the_champion_after_a_night_is_read_from_the_decision_on_it(store: LocalStore) -> None:
    promoted, kept, undecided = put_night(store, 1, 0.92), put_night(store, 2, 0.91), put_night(store, 3, 0.9)
    put_promotion(store, promoted)
    put_promotion(store, kept, outcome="kept", champion_accuracy=0.92)
    assert [(night.run_id, night.champion) for night in recent_nights(store, "mnist", TODAY)] == [
        (promoted, 0.92),
        (kept, 0.92),
        (undecided, None),
    ]


def test_a_chart_has_its_legend_below_every_point_and_colours_for_light_and_dark() -> None:
    nights = [night_of_accuracy(number, accuracy, champion=0.98) for number, accuracy in enumerate((0.98, 0.1, 0.0))]
    picture = ET.fromstring(nights_svg(nights))
    lowest = max(float(str(mark.get("cy"))) + 4 for mark in picture.iter(f"{SVG}circle"))
    legend = [
        text for text in picture.iter(f"{SVG}text") if text.text in ("relu-128, 60,000 steps", "champion, 0.9800 now")
    ]
    assert len(legend) == 2
    assert all(lowest < float(str(text.get("y"))) < float(str(picture.get("height"))) for text in legend)
    (style,) = picture.iter(f"{SVG}style")
    light, dark = str(style.text).split("prefers-color-scheme: dark")
    assert LIGHT["accent"] in light
    assert DARK["accent"] in dark


def test_a_night_is_linked_where_the_store_has_an_address_for_a_browser(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = put_night(store, 1)
    monkeypatch.setenv("MNIST_BP_ARTIFACTS_URL", "https://web.example/a")
    text = nights_markdown("mnist", recent_nights(store, "mnist", TODAY))
    assert f"| [{run_id}](https://web.example/a/runs/{run_id}/report.html) |" in text


# ---------------------------------------------------------------------------------------------------------------------
# dates and seeds


@pytest.mark.parametrize(
    ("timezone", "night"),
    [("UTC", date(2026, 11, 24)), ("Europe/Zurich", date(2026, 11, 25)), ("America/New_York", date(2026, 11, 24))],
)
def test_the_night_is_the_date_in_the_time_zone_of_the_schedule(timezone: str, night: date) -> None:
    assert night_of(datetime(2026, 11, 24, 23, 30, tzinfo=UTC), timezone) == night


def test_the_seed_reads_as_the_date() -> None:
    assert seed_of(date(2026, 11, 25)) == 20261125


@given(st.dates(date(2000, 1, 1), date(2999, 12, 31)))
def test_the_night_follows_from_the_seed(night: date) -> None:
    assert night_of_seed(seed_of(night)) == night


@pytest.mark.parametrize("seed", [0, 1, 10_101, 20261301, 20260230, 2**53 - 1])
def test_a_seed_that_is_not_a_date_has_no_night(seed: int) -> None:
    assert night_of_seed(seed) is None


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../UTC", "Europe", "a\0b"])
def test_an_unknown_time_zone_is_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigError, match="expected a name such as"):
        zone_of(name)


def test_time_zones_are_known_on_a_system_without_their_data() -> None:
    script = "from mnist_bp.registry.nightly import zone_of; print(zone_of('Europe/Zurich'))"
    environment = {**os.environ, "PYTHONTZPATH": ""}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert done.stdout == "Europe/Zurich\n", done.stderr
