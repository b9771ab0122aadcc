"""Published runs in a few words each, for tables of them."""

from __future__ import annotations

from mnist_bp.documents import FrozenModel, Timestamp
from mnist_bp.errors import ChecksumError, DataFormatError
from mnist_bp.registry.catalog import CatalogedRun, RunStatus
from mnist_bp.registry.champion import list_champions, read_champion
from mnist_bp.storage.interface import Store


def find_champions(store: Store) -> tuple[set[str], list[str]]:
    """Return the runs that are champions, and what is wrong with pointers that cannot be believed."""
    champions, problems = set(), []
    for dataset in list_champions(store):
        try:
            pointer = read_champion(store, dataset)
        except (ChecksumError, DataFormatError) as exc:
            problems.append(str(exc))
        else:
            champions |= {pointer.current.run_id} if pointer.current else set()
    return champions, problems


class RunOverview(FrozenModel):
    """One row in a table of runs; what only a manifest states is None for a run that has no intact one.

    Args:
        status: See `CatalogedRun.status`.
        steps, accuracy, loss: Of the last checkpoint.
        champion: Whether the run is the champion of its dataset.
        files, size: Number of files, and their size in bytes.
        damage: Why the manifest cannot be used, or None.
    """

    run_id: str
    status: RunStatus
    created: Timestamp | None
    dataset: str | None
    engine: str | None
    seed: int | None
    steps: int | None
    accuracy: float | None
    loss: float | None
    train_seconds: float | None
    champion: bool
    files: int
    size: int
    damage: str | None


def summarize_run(run: CatalogedRun, champions: set[str]) -> RunOverview:
    """Describe a run in one row."""
    listed, manifest = run.listed, run.manifest
    return RunOverview(
        run_id=listed.run_id,
        status=run.status,
        created=manifest and manifest.created,
        dataset=manifest and manifest.dataset.name,
        engine=manifest and manifest.engine,
        seed=manifest and manifest.seed,
        steps=manifest and manifest.final.step,
        accuracy=manifest and manifest.final.accuracy,
        loss=manifest and manifest.final.loss,
        train_seconds=manifest and manifest.train_seconds,
        champion=listed.run_id in champions,
        files=len(listed.files),
        size=listed.size,
        damage=run.damage,
    )
