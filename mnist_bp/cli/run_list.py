"""The runs that `mnist-bp runs` lists: published ones, and interrupted ones of this machine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from mnist_bp.documents.fields import Timestamp
from mnist_bp.layout import earliest_run_id
from mnist_bp.registry.catalog import CatalogedRun, RunStatus, catalog_runs, list_runs
from mnist_bp.registry.champion import read_logs
from mnist_bp.registry.champion_state import aliases_by_run
from mnist_bp.storage.address import absolute_address
from mnist_bp.storage.interface import Store
from mnist_bp.storage.schema import FrozenModel
from mnist_bp.training.interrupted import InterruptedRun, list_interrupted_runs


class RunRow(FrozenModel):
    """One row in a table of runs. Facts that only a manifest states are None without an intact one.

    Args:
        seed: Of the run's own model.
        models: Number of models that the run's own is the best of.
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
    aliases: tuple[str, ...]
    files: int
    size: int
    damage: str | None
    models: int | None


@dataclass(frozen=True)
class RunList:
    """What is listed.

    Args:
        listed: Published runs.
        interrupted: Runs on this machine that were started for the store and are not published.
        champions: Ids of all champions.
        aliases: The aliases of each run that has one.
        problems: A message about everything that is damaged.
    """

    listed: list[CatalogedRun]
    interrupted: list[InterruptedRun]
    champions: set[str]
    aliases: dict[str, list[str]]
    problems: list[str]


def find_runs(
    store: Store, artifacts: str, data_dir: str, dataset: str | None, since: datetime | None, top: int | None
) -> RunList:
    """List the runs that are published in a store, and those on this machine that were started for it.

    Args:
        store: The store.
        artifacts: Its address.
        data_dir: Data directory.
        dataset: Only complete and interrupted runs on this dataset; None for every dataset.
        since: Only runs that were started at or after this time; None for all.
        top: Only so many complete runs of each dataset, see `best_runs`; None for all.
    """
    logs, problems = read_logs(store)
    start = earliest_run_id(since) if since else ""
    every = catalog_runs(store, [run for run in list_runs(store) if run.run_id >= start])
    problems += [run.damage for run in every if run.damage]
    listed = [run for run in every if dataset in (None, run.dataset)]
    published = {run.listed.run_id for run in every if run.status != "incomplete"}
    unfinished, unreadable = list_interrupted_runs(data_dir, absolute_address(artifacts), published)
    return RunList(
        listed=listed if top is None else best_runs(listed, top),
        interrupted=[
            run for run in (unfinished if top is None else ()) if dataset in (None, run.dataset) and run.run_id >= start
        ],
        champions={log.current.run_id for log in logs if log.current},
        aliases=aliases_by_run(logs),
        problems=[*problems, *unreadable],
    )


def best_runs(runs: Iterable[CatalogedRun], top: int) -> list[CatalogedRun]:
    """Choose the complete runs of each dataset with the highest accuracy, best first; of equal ones, the older first.

    Args:
        runs: The runs, oldest first.
        top: Number of runs of each dataset.
    """
    of_dataset: dict[str, list[tuple[float, CatalogedRun]]] = {}
    for run in runs:
        if run.manifest is not None:
            of_dataset.setdefault(run.manifest.dataset.name, []).append((run.manifest.final.accuracy, run))
    ranked = [sorted(of_dataset[name], key=lambda each: -each[0])[:top] for name in sorted(of_dataset)]
    return [run for best in ranked for _, run in best]


def row_of(run: CatalogedRun, found: RunList) -> RunRow:
    """Return the row of a run."""
    listed, manifest = run.listed, run.manifest
    return RunRow(
        run_id=listed.run_id,
        status=run.status,
        created=manifest and manifest.created,
        dataset=run.dataset,
        engine=manifest and manifest.engine,
        seed=manifest and manifest.seed,
        steps=manifest and manifest.final.step,
        accuracy=manifest and manifest.final.accuracy,
        loss=manifest and manifest.final.loss,
        train_seconds=manifest and manifest.train_seconds,
        champion=listed.run_id in found.champions,
        aliases=tuple(found.aliases.get(listed.run_id, ())),
        files=len(listed.files),
        size=listed.size,
        damage=run.damage,
        models=manifest and manifest.models,
    )
