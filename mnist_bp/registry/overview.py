"""Published runs in a few words each, for tables of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mnist_bp.errors import ChecksumError, DataFormatError
from mnist_bp.registry.catalog import CatalogedRun
from mnist_bp.registry.champion import list_champions, read_champion
from mnist_bp.storage.interface import Store

_TOLD: Final = ("created", "dataset", "engine", "seed", "steps", "accuracy", "loss", "train_seconds")
"""What `summarize_run` takes from a manifest."""


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


def summarize_run(run: CatalogedRun, champions: set[str]) -> dict[str, Any]:
    """Describe a run in a few words; all but its id and its status are None where no manifest tells."""
    run_id = run.listed.run_id
    about: dict[str, Any] = dict.fromkeys(_TOLD)
    damage = run.damage
    if run.manifest is not None:
        try:
            about = _about(run.manifest)
        except (KeyError, IndexError, TypeError) as exc:
            damage = f"the manifest of {run_id} lacks what every manifest has ({exc!r})"
    status = "damaged" if damage else "complete" if run.listed.complete else "incomplete"
    return {
        "run_id": run_id,
        "status": status,
        **about,
        "champion": run_id in champions,
        "files": len(run.listed.files),
        "size": run.listed.size,
        "damage": damage,
    }


def _about(manifest: Mapping[str, Any]) -> dict[str, Any]:
    last = manifest["checkpoints"][-1]
    return {
        "created": manifest["created"],
        "dataset": manifest["dataset"]["name"],
        "engine": manifest["engine"],
        "seed": manifest["seed"],
        "steps": last["step"],
        "accuracy": last["accuracy"],
        "loss": last["loss"],
        "train_seconds": manifest["train_seconds"],
    }
