"""A place that runs are published to, as `bench.store` measures it: what is there, and what is done there in turn.

Everything goes through what the pipeline and its commands call themselves.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mnist_bp import documents
from mnist_bp.config import PRESETS
from mnist_bp.documents import Manifest, PromotionRecord
from mnist_bp.errors import StoreError
from mnist_bp.layout import MANIFEST, RUNS, new_run_id
from mnist_bp.registry.catalog import read_manifest
from mnist_bp.registry.champion import read_champion, swap_champion
from mnist_bp.registry.promotion_record import record_promotion
from mnist_bp.registry.publish import publish_run
from mnist_bp.registry.verify import verify
from mnist_bp.results import CachedDataset, PublishedRun, RawDataset
from mnist_bp.storage.address import open_store
from mnist_bp.storage.files import sha256_of_bytes
from mnist_bp.storage.interface import Store
from mnist_bp.storage.parallel import in_parallel
from mnist_bp.training.evaluation import evaluate_run
from mnist_bp.training.run import train_run


@dataclass(frozen=True)
class Maker:
    """Makes runs as the default preset has them.

    Args:
        raw: What was downloaded.
        data: What they are trained on.
        directory: Where they are made.
    """

    raw: RawDataset
    data: CachedDataset
    directory: str

    def make(self, artifacts: str) -> Callable[[], PublishedRun]:
        """Train and evaluate a run, and return what publishes it."""
        place = {"data_dir": self.directory, "artifacts": artifacts}
        config = PRESETS["lab-8-4"].model_copy(update=place)
        trained = train_run(config, self.data)
        evaluation = evaluate_run(self.data, trained)
        return lambda: publish_run(config, self.raw, self.data, trained, evaluation)


class Place:
    """Where runs are published: `many` that stay and are verified, and one at a time that is removed again.

    Args:
        name: For the table.
        address: A directory or s3://bucket/prefix with nothing in it.
        maker: Makes the runs.
        many: How many stay.

    Raises:
        StoreError: The place refuses something.
    """

    def __init__(self, name: str, address: str, maker: Maker, many: int) -> None:
        self.name = name
        self._maker, self._once, self._many = maker, f"{address}/once", open_store(f"{address}/many")
        first = maker.make(f"{address}/many")()
        self.size = {"files": first.files, "size": first.size}
        manifest, _ = read_manifest(self._many, first.run_id)
        self._digests = {first.run_id: first.manifest_sha256, **self._put_again(manifest, many - 1)}
        for run_id in self._digests:
            record_promotion(self._many, _promoted(run_id, maker.data.name))
        self.files_verified = many * (first.files + 1) + 1  # with each run's record, and the champion's pointer
        self.supports_conditional_writes = self._many.supports_conditional_writes()

    def measure(self) -> dict[str, float]:
        """Do everything once.

        Returns:
            The seconds that each took, by its name.

        Raises:
            StoreError: The place refused something, or something was lost.
        """
        publish, store = self._maker.make(self._once), open_store(self._once)
        seconds = {}
        for action in ("publish", "put"):  # the files that the first of them makes are there for the second
            seconds[action] = seconds_of(publish)
            clear(store)
        seconds["swap"] = seconds_of(self._move_champion)
        seconds["verify"] = seconds_of(self._verify)
        return seconds

    def _put_again(self, manifest: Manifest, times: int) -> dict[str, str]:
        """Publish a run's files under other names, and return the digest of each one's manifest by run id."""
        first, files = f"{RUNS}{manifest.run_id}/", manifest.files
        digests = [file.sha256 for file in files.values()]
        contents = [self._many.get(first + name, sha256) for name, sha256 in zip(files, digests, strict=True)]
        done = {}
        for run_id in [new_run_id() for _ in range(times)]:
            keys = [f"{RUNS}{run_id}/{name}" for name in files]
            for _ in in_parallel(self._many.put, keys, contents, digests):
                pass
            content = documents.dumps(manifest.model_copy(update={"run_id": run_id}))
            done[run_id] = sha256_of_bytes(content)
            self._many.put(f"{RUNS}{run_id}/{MANIFEST}", content, done[run_id])
        return done

    def _move_champion(self) -> None:
        champion = read_champion(self._many, self._maker.data.name)
        run_id, sha256 = list(self._digests.items())[len(champion.history) % len(self._digests)]
        if not swap_champion(self._many, champion.changed("promote", run_id, sha256, "for a measurement")):
            raise StoreError(f"bench: the champion below {self._many.uri('')} was moved by somebody else")

    def _verify(self) -> None:
        findings = list(verify(self._many, Path(self._maker.directory, "no-caches"), all_runs=True))
        for finding in findings:
            if finding.status != "ok":
                raise StoreError(f"bench: {finding.uri}: {finding.status}: {finding.detail}; what was put is lost")
        if len(findings) != self.files_verified:
            raise StoreError(
                f"bench: {len(findings):,} files below {self._many.uri('')} were proved, expected "
                f"{self.files_verified:,}; see mnist-bp store check"
            )


def _promoted(run_id: str, dataset: str) -> PromotionRecord:
    """Record what every one of the runs is to have become."""
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
    """Delete everything that is there."""
    for _ in in_parallel(store.delete, [entry.key for entry in store.list_entries()]):
        pass


def seconds_of(action: Callable[[], object]) -> float:
    """Time a call."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started
