"""Documents: equal ones give equal bytes, and whatever is wrong with one is described in one line."""

from __future__ import annotations

from typing import Any

import pytest

from mnist_bp.documents import encoding
from mnist_bp.documents.champion import LogEntry, PromotionRecord
from mnist_bp.documents.manifest import Manifest
from mnist_bp.errors import ChecksumError, DataFormatError
from mnist_bp.results.training import ResumePoint
from mnist_bp.storage import checksummed_json
from mnist_bp.storage.schema import MAX_SHOWN
from tests.support.published_runs import manifest_of, merged

MANIFEST = manifest_of("a", "mnist", [1_000], {"model.safetensors": b"weights"})


def refusal(changes: dict[str, Any], without: str | None = None) -> str:
    """Return the message about a manifest with some entries changed, and one removed."""
    document = merged(MANIFEST.model_dump(mode="json"), changes)
    if without is not None:
        del document[without]
    with pytest.raises(DataFormatError) as caught:
        encoding.parse(Manifest, checksummed_json.dumps(document), "x/manifest.json", "restore it")
    message = str(caught.value)
    assert message.startswith("x/manifest.json ")
    assert "\n" not in message
    return message.removeprefix("x/manifest.json ")


def test_a_document_is_read_as_it_was_written_and_equal_ones_give_equal_bytes() -> None:
    resumed = MANIFEST.model_copy(update={"resumed": (ResumePoint(10, None, "2026-11-23T18:15:00+00:00"),)})
    for manifest in (MANIFEST, resumed):
        content = encoding.dumps(manifest)
        assert encoding.parse(Manifest, content, "", "") == manifest
        assert encoding.dumps(encoding.parse(Manifest, content, "", "")) == content


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"seed": "x"}, 'seed is "x", expected a valid integer, unable to parse string as an integer'),
        ({"seed": None}, "seed is null, expected a valid integer"),
        ({"checkpoints": []}, "checkpoints is []"),
        ({"dataset": {"sources": []}}, "dataset.sources is [], expected an object"),
        ({"dataset": {"parquet": {"test": 7}}}, "dataset.parquet.test is 7, expected an object"),
        ({"files": {"model.safetensors": {"size": -1}}}, "files.model.safetensors.size is -1, expected greater than"),
        ({"files": {"model.safetensors": {"sha256": "abc"}}}, 'files.model.safetensors.sha256 is "abc"'),
        ({"seeds": "1..3"}, 'seeds is "1..3", expected a list'),
        ({"seed_statistics": {"mean": None}}, "seed_statistics.mean is null, expected a valid number"),
        ({"resumed": [{"step": 1, "sha256": None, "at": "", "by": "me"}]}, "resumed.0.by is not a known field"),
        ({"mood": "good", "weather": "fair"}, "mood is not a known field (and 1 more)"),
    ],
)
def test_a_wrong_field_is_named_with_its_value_and_the_expected_one(changes: dict[str, Any], expected: str) -> None:
    message = refusal(changes)
    assert message.startswith(f"is not a valid manifest: {expected}")
    assert message.endswith("; restore it")


def test_a_missing_field_is_named() -> None:
    assert refusal({}, without="seeds") == "is not a valid manifest: seeds is missing; restore it"


def test_another_version_is_refused_by_its_version_whatever_else_has_changed() -> None:
    for version in (1, 3):
        assert refusal({"manifest_version": version, "seed": "x", "mood": "good"}) == (
            f"has manifest_version {version}, expected 2: another version of mnist-bp wrote it; "
            "read it with that version"
        )
    assert refusal({}, without="manifest_version") == "is not a manifest: it has no manifest_version; restore it"


@pytest.mark.parametrize("model", [LogEntry, PromotionRecord])
def test_one_kind_of_document_is_not_read_as_another(model: Any) -> None:
    with pytest.raises(DataFormatError, match=r"it has no (entry|promotion)_version"):
        encoding.parse(model, encoding.dumps(MANIFEST), "", "")


def test_a_changed_byte_is_found_before_anything_is_read() -> None:
    content = encoding.dumps(MANIFEST).replace(b'"manifest_version": 2', b'"manifest_version": 3')
    with pytest.raises(ChecksumError, match="x is damaged"):
        encoding.parse(Manifest, content, "x", "")


def test_a_wrong_value_is_cut_short_and_its_secrets_are_not_repeated() -> None:
    assert len(refusal({"seed": "9" * 10_000})) < MAX_SHOWN + 200
    address = f"https://user:{'canary' * MAX_SHOWN}@host/bucket"
    for seed in (address, [address]):
        assert "canary" not in refusal({"seed": seed})
