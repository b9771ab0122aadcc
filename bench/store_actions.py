"""A store that `bench.store` measures, and the actions that it times: those of the pipeline and its commands."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mnist_bp.documents import encoding
from mnist_bp.documents.champion import PromotionRecord
from mnist_bp.documents.manifest import Manifest
from mnist_bp.errors import StoreError
from mnist_bp.layout import MANIFEST, new_run_id, run_key
from mnist_bp.presets import PRESETS
from mnist_bp.registry.catalog import read_manifest
from mnist_bp.registry.champion import append, read_log
from mnist_bp.registry.promotion_record import record_promotion
from mnist_bp.registry.publish import publish_run
from mnist_bp.registry.verify import verify
from mnist_bp.results.dataset import CachedDataset, RawDataset
from mnist_bp.results.publication import PublishedRun
from mnist_bp.storage.address import open_store
from mnist_bp.storage.interface import Store
from mnist_bp.storage.parallel import in_parallel
from mnist_bp.storage.reading import sha256_of_bytes
from mnist_bp.training.evaluation import evaluate_run
from mnist_bp.training.run import train_run


@dataclass(frozen=True)
class RunMaker:
    """Makes runs with the default preset.

    Args:
        raw: The download.
        data: The dataset that the runs are trained on.
        directory: Their data directory.
    """

    raw: RawDataset
    data: CachedDataset
    directory: str

    def make(self, artifacts: str) -> Callable[[], PublishedRun]:
        """Train and evaluate a run, and return a function that publishes it."""
        config = PRESETS["lab-8-4"].model_copy(update={"data_dir": self.directory, "artifacts": artifacts})
        trained = train_run(config, self.data)
        evaluation = evaluate_run(self.data, trained)
        return lambda: publish_run(config, self.raw, self.data, trained, evaluation)


class MeasuredStore:
    """A store that holds `many` runs, which are verified, and below another prefix one run at a time.

    Args:
        name: Row heading of the table.
        address: An empty directory or s3://bucket/prefix.
        maker: Makes the runs.
        many: How many runs it holds.

    Raises:
        StoreError: The store refused something.
    """

    def __init__(self, name: str, address: str, maker: RunMaker, many: int) -> None:
        self.name = name
        self._maker, self._once, self._many = maker, f"{address}/once", open_store(f"{address}/many")
        first = maker.make(f"{address}/many")()
        self.run_size = {"files": first.files, "size": first.size}
        manifest, _ = read_manifest(self._many, first.run_id)
        self._digests = {first.run_id: first.manifest_sha256, **self._put_copies(manifest, many - 1)}
        for run_id in self._digests:
            record_promotion(self._many, _promoted(run_id, maker.data.name))
        self.run_files = many * (first.files + 1)  # with each run's record
        self.supports_conditional_writes = self._many.supports_conditional_writes()

    def measure(self) -> dict[str, float]:
        """Do each action once.

        Returns:
            Seconds of each action by its name.

        Raises:
            StoreError: The store refused or lost something.
        """
        publish, store = self._maker.make(self._once), open_store(self._once)
        seconds = {}
        for action in ("publish", "put"):  # the first also makes the run's report; the second finds it made
            seconds[action] = _seconds_of(publish)
            clear(store)
        seconds["swap"] = _seconds_of(self._move_champion)
        seconds["verify"] = _seconds_of(self._verify)
        return seconds

    def _put_copies(self, manifest: Manifest, copies: int) -> dict[str, str]:
        """Publish a run's files under other run ids, and return the digest of each copy's manifest by run id."""
        first, files = run_key(manifest.run_id), manifest.files
        digests = [file.sha256 for file in files.values()]
        contents = [self._many.get(first + name, sha256) for name, sha256 in zip(files, digests, strict=True)]
        done = {}
        for run_id in [new_run_id() for _ in range(copies)]:
            keys = [run_key(run_id, name) for name in files]
            for _ in in_parallel(self._many.put, keys, contents, digests):
                pass
            content = encoding.dumps(manifest.model_copy(update={"run_id": run_id}))
            done[run_id] = sha256_of_bytes(content)
            self._many.put(run_key(run_id, MANIFEST), content, done[run_id])
        return done

    def _move_champion(self) -> None:
        log = read_log(self._many, self._maker.data.name)
        run_id, sha256 = list(self._digests.items())[(log.sequence + 1) % len(self._digests)]
        if not append(self._many, log.with_champion("promote", run_id, sha256, "for a measurement")):
            raise StoreError(f"bench: another process moved the champion in {self._many.uri('')}; run again")

    def _verify(self) -> None:
        checks = list(verify(self._many, Path(self._maker.directory, "no-caches"), all_runs=True))
        for check in checks:
            if check.status != "ok":
                raise StoreError(f"bench: {check.uri}: {check.status}: {check.detail}; the store lost what was put")
        expected = self.run_files + read_log(self._many, self._maker.data.name).sequence + 1
        if len(checks) != expected:
            raise StoreError(
                f"bench: {len(checks):,} files in {self._many.uri('')} were verified, expected {expected:,}; see "
                "mnist-bp store check"
            )


def _promoted(run_id: str, dataset: str) -> PromotionRecord:
    return PromotionRecord(
        run_id=run_id,
        dataset=dataset,
        outcome="promoted",
        reason="for a measurement",
        champion_before=None,
        champion_after=run_id,
        at=datetime.now(UTC).isoformat(),
    )


def clear(store: Store) -> None:
    """Delete everything in a store."""
    for _ in in_parallel(store.delete, [entry.key for entry in store.list_entries()]):
        pass


def _seconds_of(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started
