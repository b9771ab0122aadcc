"""What a run prints about the decision on it."""

from __future__ import annotations

import re

import numpy as np
import pytest

from mnist_bp.documents.champion import PromotionRecord
from mnist_bp.registry.gate import GateSettings, decide
from mnist_bp.results.evaluation import SeedStatistics
from mnist_bp.summary import (
    CacheUse,
    RunSummary,
    decision,
    markdown,
    promotion_markdown,
    report_uri,
    short_decision,
)

LABELS = np.arange(1_000) % 10


def record_of(challenger_right: int, champion_right: int | None, settings: GateSettings) -> PromotionRecord:
    """Return the record of a decision between models that classify the first images correctly, and no others."""

    def predictions(right: int) -> np.ndarray:
        return np.where(np.arange(len(LABELS)) < right, LABELS, (LABELS + 1) % 10)

    champion = None if champion_right is None else predictions(champion_right)
    decided = decide(LABELS, predictions(challenger_right), champion, settings)
    return PromotionRecord(
        run_id="20261123T181500Z-1a2b3c4d",
        dataset="mnist",
        outcome="promoted" if decided.promoted else "kept",
        reason=decided.reason,
        figures=decided.figures,
        champion_before=None,
        champion_after=None,
        at="2026-11-23T18:15:00+00:00",
    )


@pytest.mark.parametrize(
    ("challenger", "champion", "settings", "line", "short"),
    [
        (
            900,
            900,
            GateSettings(),
            "kept: accuracy 0.9000, champion's 0.9000; p = 1, required at most 0.025 at challenge 1",
            "kept: not better than the champion, which has 0.9000",
        ),
        (
            902,
            900,
            GateSettings(),
            "kept: accuracy 0.9020, champion's 0.9000; p = 0.25, required at most 0.025 at challenge 1",
            "kept: not significantly better than the champion, which has 0.9000",
        ),
        (
            910,
            900,
            GateSettings(),
            "promoted: accuracy 0.9100, champion's 0.9000",
            "promoted: better than the champion before it, which has 0.9000",
        ),
        (
            910,
            900,
            GateSettings(minimum_gain=0.05, class_floor=0.95),
            "kept: accuracy 0.9100, champion's 0.9000; gain +0.0100, required at least 0.05; worst class 0.9100, "
            "required at least 0.95",
            "kept: not enough better than the champion, which has 0.9000",
        ),
        (
            900,
            None,
            GateSettings(),
            "promoted: the first champion of its dataset, with accuracy 0.9000",
            "promoted: the first champion of mnist",
        ),
    ],
)
def test_a_decision_is_one_short_line_with_the_conditions_that_are_not_met_and_the_record_keeps_the_reason(
    challenger: int, champion: int | None, settings: GateSettings, line: str, short: str
) -> None:
    record = record_of(challenger, champion, settings)
    assert decision(record) == line
    assert short_decision(record) == short
    if champion is not None:
        assert "images that only the challenger classifies correctly" in record.reason or "gain" in record.reason


def test_a_class_that_is_too_weak_is_named_in_the_short_decision() -> None:
    record = record_of(910, 900, GateSettings(class_floor=0.95))
    assert short_decision(record) == "kept: only 0.9100 of its worst class is right"


def test_a_refusal_is_printed_with_its_whole_reason() -> None:
    better = record_of(910, 900, GateSettings())
    record = better.model_copy(update={"outcome": "refused", "reason": "the store ignores conditional writes"})
    assert decision(record) == "refused: the store ignores conditional writes"
    assert short_decision(record) == "refused: mnist-bp show 20261123T181500Z-1a2b3c4d states why"
    assert promotion_markdown(record).endswith("\n\nthe store ignores conditional writes\n")


def test_a_refusal_that_is_not_recorded_points_to_what_finds_its_cause() -> None:
    record = record_of(910, 900, GateSettings())
    refused = record.model_copy(update={"outcome": "refused", "figures": None, "error": "ChecksumError"})
    assert short_decision(refused) == (
        "refused: the champion of mnist cannot be read; repair it (see mnist-bp verify), then decide with --resume "
        "20261123T181500Z-1a2b3c4d"
    )
    other = refused.model_copy(update={"error": "ConfigError"})  # nothing is damaged
    assert short_decision(other) == (
        "refused: the champion of mnist has images of another size, or other classes; name the directory of your "
        "images differently, or publish under another --artifacts"
    )


def test_a_record_from_before_challenges_were_counted_is_printed_with_its_significance() -> None:
    record = record_of(900, 900, GateSettings())
    assert record.figures is not None
    old = record.model_copy(
        update={"figures": record.figures.model_copy(update={"challenge": None, "allowed_p": None})}
    )
    assert decision(old) == "kept: accuracy 0.9000, champion's 0.9000; p = 1, required at most 0.05"


def test_the_ui_states_the_number_of_the_challenge_and_what_the_accuracy_of_a_champion_means() -> None:
    text = promotion_markdown(record_of(910, 900, GateSettings()))
    assert "One-sided exact McNemar p = 0.00098, required at most 0.025 at challenge 1." in text
    assert "expect it to be a little less accurate on new images" in text
    assert "new images" not in promotion_markdown(record_of(900, None, GateSettings()))


@pytest.mark.parametrize(("challenger", "champion"), [(910, 900), (902, 900), (880, 900), (900, None)])
def test_the_ui_states_no_figure_of_a_decision_twice(challenger: int, champion: int | None) -> None:
    text = promotion_markdown(record_of(challenger, champion, GateSettings(minimum_gain=0.007)))
    figures = re.findall(r"\d+\.\d+(?:e-\d+)?", text)
    assert sorted(figures) == sorted(set(figures)), text


def summary_of(report_url: str | None) -> RunSummary:
    return RunSummary(
        run_id="20261123T181500Z-1a2b3c4d",
        dataset="mnist",
        notice=None,
        engine="cpu",
        device="cpu",
        seed=1,
        seeds=(1,),
        models=1,
        sweep=None,
        settings={},
        seed_statistics=SeedStatistics(0.91, 0.91, 0.0, 0.91, 0.91, 0.0),
        certificate={},
        recipe="lab",
        steps=10_000,
        accuracy=0.91,
        validation_accuracy=None,
        lab_correct_of_1000=887,
        loss=0.0738,
        train_seconds=0.08,
        steps_per_second=125_000,
        cache=CacheUse(download="hit", preprocess="hit"),
        run_directory="/data/runs/20261123T181500Z-1a2b3c4d",
        artifacts="s3://bucket/runs/20261123T181500Z-1a2b3c4d",
        manifest="s3://bucket/runs/20261123T181500Z-1a2b3c4d/manifest.json",
        report="s3://bucket/runs/20261123T181500Z-1a2b3c4d/report.html",
        report_url=report_url,
        published_bytes=1,
        promotion=record_of(910, 900, GateSettings()),
        checkpoints=(),
    )


@pytest.mark.parametrize("url", [None, "https://host/bucket/runs/20261123T181500Z-1a2b3c4d/report.html"])
def test_the_summary_of_the_ui_links_the_report_where_it_has_an_address_and_states_each_fact_once(
    url: str | None,
) -> None:
    text = markdown(summary_of(url))
    report = "`s3://bucket/runs/20261123T181500Z-1a2b3c4d/report.html`" if url is None else f"[report.html]({url})"
    assert f"| report | {report} |\n" in text
    assert text.count("0.9100") == 1
    assert text.count("manifest.json") == 0
    assert text.count("| run |") == 1


@pytest.mark.parametrize(
    ("manifest", "report"),
    [
        ("s3://bucket/runs/a/manifest.json", "s3://bucket/runs/a/report.html"),
        ("/a b/runs/c/manifest.json", "file:///a%20b/runs/c/report.html"),
    ],
)
def test_a_local_report_has_an_address_that_a_browser_opens(manifest: str, report: str) -> None:
    assert report_uri(manifest) == report
