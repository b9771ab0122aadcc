"""Verification: every changed byte is found, and nothing else is reported as damage."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mnist_bp.data.datasets import DATASETS
from mnist_bp.data.preprocess import find_cache, preprocess_dataset
from mnist_bp.data.verify import verify_caches
from mnist_bp.documents.champion import PromotionOutcome
from mnist_bp.errors import MnistBpError, StoreError
from mnist_bp.layout import MANIFEST, PROMOTION, RUNS
from mnist_bp.registry.champion import read_log
from mnist_bp.registry.log_entries import entry_key, log_prefix
from mnist_bp.registry.rollback import roll_back
from mnist_bp.registry.verify import verify
from mnist_bp.results.dataset import CachedDataset, RawDataset
from mnist_bp.storage import checksummed_json
from mnist_bp.storage.file_check import FileCheck
from mnist_bp.storage.interface import PAGE_SIZE, Entry, Store
from mnist_bp.storage.local import LocalStore
from mnist_bp.storage.reading import sha256_of_bytes
from tests.conftest import data_dir_of
from tests.support.memory_store import without_threads
from tests.support.published_runs import champions, promote, publish, put_promotion, run_id_of, train_and_evaluate

NOWHERE = Path("no-data-directory")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "artifacts"


@pytest.fixture
def store(place: Path) -> LocalStore:
    return LocalStore(place)


def found_in(store: Store, run_id: str | None = None, *, all_runs: bool = False) -> list[FileCheck]:
    """Verify, and return the results that are neither `ok` nor `not read`."""
    checks = verify(store, NOWHERE, run_id, all_runs=all_runs)
    return [check for check in checks if check.status not in ("ok", "not read")]


def flip(path: Path, draw: random.Random) -> None:
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


@pytest.fixture(scope="module")
def real_run(
    sample_raw: RawDataset, sample: CachedDataset, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """Train and publish a run, make it champion, and return the store's directory and the run's id."""
    place = tmp_path_factory.mktemp("published")
    run = train_and_evaluate(sample_raw, sample, place / "data", steps=20, checkpoint_every=10)
    run.publish(str(place / "a"))
    store = LocalStore(place / "a")
    put_promotion(store, run.trained.run_id, "mnist-sample")
    assert promote(store, run.trained.run_id, "mnist-sample")
    return place / "a", run.trained.run_id


def test_every_file_of_a_real_run_and_its_caches_is_intact(real_run: tuple[Path, str], sample_raw: RawDataset) -> None:
    place, run_id = real_run
    data_dir = data_dir_of(sample_raw)
    findings = list(verify(LocalStore(place), data_dir, all_runs=True))
    assert {finding.status for finding in findings} == {"ok"}
    files = {path for path in place.rglob("*") if path.is_file() and not path.name.startswith(".")}
    caches = {*(Path(file.path) for file in sample_raw.files), *(data_dir / "parquet").iterdir()}
    assert {Path(finding.uri) for finding in findings} == files | caches
    assert {finding.uri for finding in findings} == {each.uri for each in verify(LocalStore(place), data_dir, run_id)}


def test_each_of_1000_changed_bits_is_found(
    real_run: tuple[Path, str], sample_raw: RawDataset, sample: CachedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, run_id = real_run
    data_dir = data_dir_of(sample_raw)
    store, draw = LocalStore(place), random.Random(1)
    cache = Path(sample.train.path).parent
    stored = sorted(path for path in place.rglob("*") if path.is_file() and not path.name.startswith("."))
    paths = [*stored, *sorted(cache.glob("*.[jp]*"))]
    assert {path.name for path in paths} >= {
        "00000000.json", MANIFEST, "promotion.json", "model.safetensors", "step-0000010.safetensors",
        "history.parquet", "train.parquet", "test.parquet",
    }  # fmt: skip
    without_threads(monkeypatch)
    for number in range(1_000):
        path = paths[number % len(paths)]
        before = path.read_bytes()
        flip(path, draw)
        try:
            if path.parent == cache:
                with pytest.raises(MnistBpError, match=path.name):
                    find_cache(cache)
            else:
                bad = {finding.uri for finding in verify(store, NOWHERE, run_id) if finding.bad}
                assert str(path) in bad, f"flip {number}"
        finally:
            path.write_bytes(before)
    assert not [finding for finding in verify(store, data_dir, all_runs=True) if finding.bad]


def test_a_missing_file_is_named_and_the_others_are_still_verified(store: LocalStore, place: Path) -> None:
    run_id, other = publish(store, 1), publish(store, 2)
    (place / RUNS / run_id / "model.safetensors").unlink()
    flip(place / RUNS / other / "history.parquet", random.Random(1))
    first, second = found_in(store, all_runs=True)
    assert (first.status, first.uri) == ("missing", store.uri(f"{RUNS}{run_id}/model.safetensors"))
    assert (second.status, second.uri) == ("damaged", store.uri(f"{RUNS}{other}/history.parquet"))
    assert "SHA-256 expected" in second.detail


def test_a_file_that_cannot_be_read_is_unreadable_and_not_missing(store: LocalStore, place: Path) -> None:
    run_id = publish(store, 1)
    path = place / RUNS / run_id / "model.safetensors"

    def refuse(key: str, sha256: str | None = None, size: int | None = None) -> bytes:
        if key.endswith("model.safetensors"):
            raise StoreError("the disk says no")
        return LocalStore.get(store, key, sha256, size)

    store.get = refuse  # type: ignore[method-assign]
    (finding,) = found_in(store, run_id)
    assert (finding.status, finding.uri, finding.detail) == ("unreadable", str(path), "the disk says no")
    assert finding.bad


def test_a_run_without_a_manifest_is_incomplete_and_not_damaged(store: LocalStore) -> None:
    run_id = publish(store, 1, manifest=False)
    (finding,) = found_in(store, all_runs=True)
    assert finding.status == "incomplete"
    assert run_id in finding.uri
    assert not finding.bad


def test_a_file_that_no_manifest_lists_is_foreign_and_not_damaged(store: LocalStore) -> None:
    run_id = publish(store, 1)
    put_promotion(store, run_id, outcome="kept")
    store.put(f"{RUNS}{run_id}/notes.txt", b"mine", sha256_of_bytes(b"mine"))
    (finding,) = found_in(store, all_runs=True)
    assert (finding.status, finding.uri) == ("foreign", store.uri(f"{RUNS}{run_id}/notes.txt"))
    assert not finding.bad


def test_by_default_only_the_champions_are_verified(store: LocalStore, place: Path) -> None:
    other, champion = publish(store, 1), publish(store, 2)
    assert promote(store, champion)
    put_promotion(store, champion)
    flip(place / RUNS / other / "model.safetensors", random.Random(1))
    assert found_in(store) == []
    assert [finding.bad for finding in found_in(store, all_runs=True)] == [True]
    flip(place / RUNS / champion / "model.safetensors", random.Random(1))
    assert [finding.uri for finding in found_in(store)] == [store.uri(f"{RUNS}{champion}/model.safetensors")]


def test_a_champion_without_a_run_or_without_a_manifest_is_missing(store: LocalStore, place: Path) -> None:
    run_id = publish(store, 1)
    assert promote(store, run_id)
    (place / RUNS / run_id / MANIFEST).unlink()
    for all_runs in (False, True):
        assert [finding.status for finding in found_in(store, all_runs=all_runs)] == ["missing"]
    for entry in list(store.list_entries(RUNS)):
        store.delete(entry.key)
    for all_runs in (False, True):
        (finding,) = found_in(store, all_runs=all_runs)
        assert (finding.status, finding.uri) == ("missing", store.uri(RUNS + run_id))


def test_a_manifest_that_differs_from_the_promoted_one_is_damaged(store: LocalStore, place: Path) -> None:
    run_id = publish(store, 1)
    assert promote(store, run_id)
    put_promotion(store, run_id)
    (place / RUNS / run_id / MANIFEST).unlink()
    publish(store, 1, changes={"device": "another"})
    (finding,) = found_in(store)
    assert finding.status == "damaged"
    assert "in the champion's log it is" in finding.detail


def test_a_former_champion_that_was_collected_is_not_reported(store: LocalStore) -> None:
    first, second = publish(store, 1), publish(store, 2)
    assert promote(store, first)
    assert promote(store, second)
    put_promotion(store, second)
    for entry in list(store.list_entries(f"{RUNS}{first}/")):
        store.delete(entry.key)
    assert found_in(store, all_runs=True) == []


@pytest.mark.parametrize("named_by", ["promoted", "kept"])
def test_a_lost_entry_that_a_record_names_is_missing(named_by: PromotionOutcome, store: LocalStore) -> None:
    """So an older copy of a log that was put back is found, although it looks intact."""
    other, former, champion = publish(store, 1), publish(store, 2), publish(store, 3)
    assert promote(store, former)
    put_promotion(store, former, entry=read_log(store, "mnist").reference)
    assert promote(store, champion)
    recorded = champion if named_by == "promoted" else other
    put_promotion(store, recorded, outcome=named_by, entry=read_log(store, "mnist").reference)
    assert [finding for finding in found_in(store) if finding.bad] == []
    store.delete(entry_key("mnist", 1))
    for all_runs in (False, True):
        (finding,) = [finding for finding in found_in(store, all_runs=all_runs) if finding.bad]
        assert (finding.status, finding.uri) == ("missing", store.uri(log_prefix("mnist")))
        assert f"the promotion record of {recorded} names" in finding.detail
    assert [finding for finding in found_in(store, champion) if finding.bad] == []
    roll_back(store, champion, restart_log=True)
    assert [finding for finding in found_in(store, all_runs=True) if finding.bad] == []
    assert champions(store) == [champion]


def test_a_missing_promotion_record_is_reported_if_the_log_has_the_promotion(store: LocalStore) -> None:
    promoted, by_hand = publish(store, 1), publish(store, 2)
    assert promote(store, promoted)
    assert promote(store, by_hand, action="rollback")
    for run_id, all_runs in ((None, True), (promoted, False)):
        (finding,) = found_in(store, run_id, all_runs=all_runs)
        assert (finding.status, finding.uri) == ("incomplete", store.uri(f"{RUNS}{promoted}/promotion.json"))
    put_promotion(store, promoted)
    assert found_in(store, all_runs=True) == []


def test_a_promotion_record_of_another_run_is_damaged(store: LocalStore, place: Path) -> None:
    run_id, other = publish(store, 1), publish(store, 2)
    put_promotion(store, other, outcome="kept")
    (place / RUNS / run_id / PROMOTION).write_bytes((place / RUNS / other / PROMOTION).read_bytes())
    (finding,) = found_in(store, all_runs=True)
    assert (finding.status, f"is the record of {other}, expected {run_id}" in finding.detail) == ("damaged", True)


def test_a_lost_manifest_is_missing_if_the_run_has_a_promotion_record(store: LocalStore, place: Path) -> None:
    run_id = publish(store, 1)
    put_promotion(store, run_id, outcome="kept")
    (place / RUNS / run_id / MANIFEST).unlink()
    (finding,) = found_in(store, all_runs=True)
    assert (finding.status, finding.uri) == ("missing", store.uri(f"{RUNS}{run_id}/{MANIFEST}"))


@pytest.mark.parametrize("first", [True, False], ids=["first", "next"])
def test_a_promotion_during_verification_does_not_look_like_a_lost_entry(first: bool, store: LocalStore) -> None:
    run_id, former = publish(store, 1), publish(store, 2)
    if not first:
        before = promote(store, former)
        assert before
        put_promotion(store, former, entry=before.reference)
    listed = store.list_entries

    def promote_after(prefix: str = "", page_size: int = PAGE_SIZE) -> Iterator[Entry]:
        yield from listed(prefix, page_size)
        if prefix == RUNS:
            store.list_entries = listed  # type: ignore[method-assign]
            log = promote(store, run_id)
            assert log
            put_promotion(store, run_id, entry=log.reference)

    store.list_entries = promote_after  # type: ignore[method-assign]
    assert [finding for finding in found_in(store) if finding.bad] == []


def test_a_damaged_log_hides_no_damaged_run(store: LocalStore, place: Path) -> None:
    run_id = publish(store, 1)
    assert promote(store, run_id)
    flip(place / entry_key("mnist", 0), random.Random(1))
    flip(place / RUNS / run_id / "model.safetensors", random.Random(1))
    assert [finding.status for finding in found_in(store, all_runs=True)] == ["damaged", "damaged"]


def test_a_run_trained_on_other_source_files_is_damaged(store: LocalStore) -> None:
    publish(store, 1, changes={"dataset": _other_sources("mnist")})
    (finding,) = found_in(store, all_runs=True)
    assert finding.status == "damaged"
    source = DATASETS["mnist"].files[0]
    assert f"trained on a {source.name} of SHA-256 {'f' * 64}, expected {source.digest} for mnist" in finding.detail


def _other_sources(dataset: str) -> dict[str, object]:
    files = DATASETS[dataset].files
    digests = ["f" * 64, *(file.digest for file in files[1:])]
    sources = {file.name: {"sha256": sha256} for file, sha256 in zip(files, digests, strict=True)}
    return {"name": dataset, "sources": sources}


def test_if_only_the_md5_is_known_the_sha256_comes_from_an_intact_download(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, content = DATASETS["kmnist"], b"images"
    run_id = publish(store, 1, "kmnist")  # it states a SHA-256 of zeros
    path = tmp_path / "raw" / "kmnist" / spec.files[0].name
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    for known, damaged in (b"others", path), (content, store.uri(f"{RUNS}{run_id}/{MANIFEST}")):
        file = replace(spec.files[0], digest=hashlib.md5(known).hexdigest())
        monkeypatch.setitem(DATASETS, "kmnist", replace(spec, files=(file, *spec.files[1:])))
        assert [each.uri for each in verify(store, tmp_path, all_runs=True) if each.bad] == [str(damaged)]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"files": {"a": {}}}, "files.a.sha256 is missing (and 1 more)"),
        ({"files": {"a": 1}}, "files.a is 1, expected an object"),
        ({"dataset": {"sources": None}}, "dataset.sources is null, expected an object"),
        ({"mood": "good"}, "mood is not a known field"),
    ],
)
def test_a_manifest_with_a_wrong_field_is_damaged(change: dict[str, object], problem: str, store: LocalStore) -> None:
    publish(store, 1, changes=change)
    (finding,) = found_in(store, all_runs=True)
    assert (finding.status, f"is not a valid manifest: {problem}; restore" in finding.detail) == ("damaged", True)


def test_a_manifest_of_another_run_is_damaged(store: LocalStore, place: Path) -> None:
    run_id, other = publish(store, 1), publish(store, 2)
    (place / RUNS / run_id / MANIFEST).write_bytes((place / RUNS / other / MANIFEST).read_bytes())
    (finding,) = found_in(store, all_runs=True)
    assert (finding.status, f"is the manifest of {other}" in finding.detail) == ("damaged", True)


def test_the_message_about_an_unknown_run_names_the_nearest(store: LocalStore) -> None:
    publish(store, 1)
    publish(store, 2, manifest=False)
    with pytest.raises(StoreError, match=f"no such run; the nearest are {run_id_of(1)}"):
        found_in(store, run_id_of(3))
    with pytest.raises(StoreError, match="is not complete"):
        found_in(store, run_id_of(2))


@pytest.mark.parametrize("at", ["read", "get"])
def test_a_run_that_is_removed_during_verification_is_not_reported(at: str, store: LocalStore) -> None:
    publish(store, 1)
    stays = publish(store, 2)
    method: Callable[..., object] = getattr(store, at)

    def remove_first(key: str, *rest: object) -> object:
        for entry in sorted(store.list_entries(f"{RUNS}{run_id_of(1)}/"), key=lambda entry: MANIFEST not in entry.key):
            store.delete(entry.key)
        return method(key, *rest)

    setattr(store, at, remove_first)
    findings = list(verify(store, NOWHERE, all_runs=True))
    assert not [finding for finding in findings if finding.bad]
    assert store.uri(f"{RUNS}{stays}/model.safetensors") in [finding.uri for finding in findings]


def test_damaged_downloads_and_caches_are_found(sample_raw: RawDataset, tmp_path: Path) -> None:
    cached = preprocess_dataset(sample_raw, tmp_path)
    raw = tmp_path / "raw" / "mnist-sample" / Path(sample_raw.files[0].path).name
    raw.parent.mkdir(parents=True)
    raw.write_bytes(Path(sample_raw.files[0].path).read_bytes())
    assert [finding.status for finding in verify_caches(tmp_path)[0]] == ["ok", "ok"]
    draw = random.Random(1)
    flip(raw, draw)
    flip(Path(cached.test.path), draw)
    (tmp_path / "parquet" / "mnist-0123456789abcdef").mkdir()
    statuses = {Path(finding.uri).name: finding.status for finding in verify_caches(tmp_path)[0]}
    assert statuses == {
        raw.name: "damaged",
        f"mnist-sample-{cached.key}": "damaged",
        "mnist-0123456789abcdef": "incomplete",
    }


def test_a_document_of_another_kind_with_an_intact_checksum_is_damaged(store: LocalStore, place: Path) -> None:
    publish(store, 1)
    (place / log_prefix("mnist")).mkdir(parents=True)
    (place / entry_key("mnist", 0)).write_bytes(checksummed_json.dumps({"not": "an entry"}))
    (finding,) = found_in(store, all_runs=True)
    assert (finding.status, "it has no entry_version" in finding.detail) == ("damaged", True)


def test_an_entry_of_another_version_is_refused(store: LocalStore, place: Path) -> None:
    assert promote(store, publish(store, 1))
    path = place / entry_key("mnist", 0)
    document = checksummed_json.loads(path.read_bytes(), "", "")
    path.write_bytes(checksummed_json.dumps({**document, "entry_version": 99}))
    (finding,) = found_in(store)
    assert (finding.status, "another version of mnist-bp wrote it" in finding.detail) == ("damaged", True)
