"""What a store costs: to publish a run, to verify a hundred, to move the champion.

A local directory and, if `artifacts` names one, a bucket take turns; a ratio is taken within a round. Everything is
written below a new prefix, which is emptied at the end.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from bench.data import default_sources
from bench.machine import header
from bench.rounds import Log, check_rounds, empty_table, ratio, rounds, silent, spread
from bench.store_actions import MeasuredStore, RunMaker, clear
from mnist_bp.errors import ConfigError
from mnist_bp.results.dataset import CachedDataset, RawDataset
from mnist_bp.storage.address import open_store

MANY: Final = 100
"""Runs that `verify --all` verifies."""

ACTIONS: Final[Mapping[str, str]] = {
    "publish": "publish a run",
    "put": "upload its files once they exist",
    "verify": "verify --all, {many} runs",
    "swap": "move the champion",
}

LOCAL: Final = "local directory"
"""Ratios are relative to it."""


def measure(
    runs: int,
    artifacts: str = "",
    log: Log = silent,
    *,
    sources: tuple[RawDataset, CachedDataset] | None = None,
    many: int = MANY,
) -> dict[str, Any]:
    """Measure a local directory, and a bucket in turn with it.

    Args:
        runs: Counted rounds; one warm-up round comes before them.
        artifacts: s3://bucket/prefix, with credentials and endpoint from the AWS_* environment; or a directory to
            measure in, instead of the system's temporary one.
        log: Called with a line for each round.
        sources: Dataset that the runs are trained on; None for MNIST, or for the bundled sample if MNIST cannot be
            downloaded.
        many: Runs that `verify --all` verifies.

    Returns:
        JSON-ready: the machine, the size of a run, and one entry for each store: whether it honours conditional writes
        and, for each of `ACTIONS`, the raw seconds.

    Raises:
        ConfigError: `runs` is below 1, or `artifacts` is neither a directory nor a bucket.
        StoreError: A store refused or lost something.
    """
    check_rounds(runs)
    _check_artifacts(artifacts)
    machine = header()
    raw, data = sources or default_sources()
    bucket = artifacts if "://" in artifacts else ""
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(dir=None if bucket else artifacts or None))
        addresses = {LOCAL: f"{directory}/artifacts"}
        if bucket:
            addresses[bucket] = stack.enter_context(_prefix_in(bucket))
        maker = RunMaker(raw, data, directory)
        stores = []
        for name, address in addresses.items():
            log(f"store: {name}: publishing {many} runs")
            stores.append(MeasuredStore(name, address, maker, many))
        seconds = [{store.name: store.measure() for store in stores} for _ in rounds("store", runs, log)][1:]
    return {
        "bench": "store",
        "machine": machine,
        "dataset": data.name,
        "runs": runs,
        "run": stores[0].run_size,
        "verified": {"runs": many, "files": stores[0].run_files},
        "ratio_to": LOCAL,
        "stores": [
            {
                "name": store.name,
                "supports_conditional_writes": store.supports_conditional_writes,
                "actions": _summarize([each[store.name] for each in seconds], [each[LOCAL] for each in seconds]),
            }
            for store in stores
        ],
    }


def _check_artifacts(artifacts: str) -> None:
    """Refuse an address where nothing can be measured, before anything is done."""
    if not artifacts:
        return
    if not artifacts.startswith("s3://") and not Path(artifacts).is_dir():
        raise ConfigError(f"bench: --artifacts {artifacts}: expected an existing directory or s3://bucket/prefix")
    open_store(artifacts, attempts=3).check_writable()


@contextmanager
def _prefix_in(bucket: str) -> Iterator[str]:
    """Give a new prefix in a bucket for the measurement, and empty it afterwards."""
    address = f"{bucket.rstrip('/')}/bench-{secrets.token_hex(8)}"
    try:
        yield address
    finally:
        clear(open_store(address))


def _summarize(own: list[dict[str, float]], local: list[dict[str, float]]) -> list[dict[str, Any]]:
    """Summarize the seconds of all rounds, action by action."""
    return [
        {
            "name": action,
            **spread([each[action] for each in own]),
            "ratio": ratio([each[action] for each in own], [each[action] for each in local]),
        }
        for action in ACTIONS
    ]


def table(result: dict[str, Any]) -> Table:
    """Show one row for each action and store."""
    run, verified = result["run"], result["verified"]
    rows = empty_table(
        f"runs of 10 checkpoints in a store; median of n = {result['runs']} rounds in turn",
        result["machine"],
        ("", "store", "median", "min to max", f"x {result['ratio_to']}"),
        f"{result['dataset']}; a run: {run['files']} files, {run['size']:,} bytes; verified: {verified['files']:,}",
        *(
            f"{store['name']}: conditional writes are ignored, so runs are promoted only with --allow-unsafe-promotion"
            for store in result["stores"]
            if not store["supports_conditional_writes"]
        ),
        text_columns=2,
    )
    for number, title in enumerate(ACTIONS.values()):
        for store in result["stores"]:
            action = store["actions"][number]
            rows.add_row(
                title.format(many=verified["runs"]) if store is result["stores"][0] else "",
                store["name"],
                f"{action['median'] * 1e3:,.1f} ms",
                f"{action['min'] * 1e3:,.1f} to {action['max'] * 1e3:,.1f}",
                f"{action['ratio']:.1f}",
            )
    return rows
