"""What a run prints about the decision on it."""

from __future__ import annotations

import numpy as np
import pytest

from mnist_bp.documents.champion import PromotionRecord
from mnist_bp.registry.gate import GateSettings, decide
from mnist_bp.summary import decision, promotion_markdown

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
    ("challenger", "champion", "settings", "line"),
    [
        (
            900,
            900,
            GateSettings(),
            "kept: accuracy 0.9000, champion's 0.9000; p = 1, required at most 0.025 at challenge 1",
        ),
        (910, 900, GateSettings(), "promoted: accuracy 0.9100, champion's 0.9000"),
        (
            910,
            900,
            GateSettings(minimum_gain=0.05, class_floor=0.95),
            "kept: accuracy 0.9100, champion's 0.9000; gain +0.0100, required at least 0.05; worst class 0.9100, "
            "required at least 0.95",
        ),
        (900, None, GateSettings(), "promoted: the first champion of its dataset, with accuracy 0.9000"),
    ],
)
def test_a_decision_is_one_short_line_with_the_conditions_that_are_not_met_and_the_record_keeps_the_reason(
    challenger: int, champion: int | None, settings: GateSettings, line: str
) -> None:
    record = record_of(challenger, champion, settings)
    assert decision(record) == line
    if champion is not None:
        assert "images that only the challenger classifies correctly" in record.reason or "gain" in record.reason


def test_a_refusal_is_printed_with_its_whole_reason() -> None:
    better = record_of(910, 900, GateSettings())
    record = better.model_copy(update={"outcome": "refused", "reason": "the store ignores conditional writes"})
    assert decision(record) == "refused: the store ignores conditional writes"


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
