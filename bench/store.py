"""What a store costs: to publish a run, to prove a hundred, to move the champion.

    measure(runs, artifacts) and table(result)

A local directory and, where `artifacts` names one, a bucket take turns; a ratio is taken within a round. What is
written lies below a prefix of the measurement's own, and is removed at its end.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from bench.data import default_sources
from bench.machine import describe, header
from bench.places import Maker, Place, clear
from bench.rounds import check_rounds, ratio, spread
from mnist_bp.errors import ConfigError
from mnist_bp.results import CachedDataset, RawDataset
from mnist_bp.storage.address import open_store

MANY: Final = 100
"""Runs that `verify --all` proves."""

ACTIONS: Final[Mapping[str, str]] = {
    "publish": "publish a run",
    "put": "put its files, once made",
    "verify": "verify --all, {many} runs",
    "swap": "move the champion",
}

LOCAL: Final = "local directory"
"""What ratios are taken to."""

Progress = Callable[[str], None]


def measure(
    runs: int,
    artifacts: str = "",
    on_progress: Progress | None = None,
    *,
    sources: tuple[RawDataset, CachedDataset] | None = None,
    many: int = MANY,
) -> dict[str, Any]:
    """Measure a local directory, and a bucket in turn with it.

    Args:
        runs: Counted rounds; one more comes before them.
        artifacts: s3://bucket/prefix, with credentials and endpoint from the AWS_* environment; or a directory in which
            to measure, instead of the system's temporary one.
        on_progress: Told in one line what is going on.
        sources: What the runs are trained on; None for MNIST, or the bundled sample where it cannot be had.
        many: How many runs `verify --all` proves.

    Returns:
        JSON-ready: the machine, the size of a run, and one entry for each place: whether it honours conditional writes
        and, for each of `ACTIONS`, the raw seconds.

    Raises:
        ConfigError: `runs` is below 1, or `artifacts` is neither a directory nor a bucket.
        StoreError: A place refused something, or lost something.
    """
    check_rounds(runs)
    _check(artifacts)
    say, machine = on_progress or (lambda _: None), header()
    raw, data = sources or default_sources()
    bucket = artifacts if "://" in artifacts else ""
    with ExitStack() as held:
        directory = held.enter_context(tempfile.TemporaryDirectory(dir=None if bucket else artifacts or None))
        addresses = {LOCAL: f"{directory}/artifacts"}
        if bucket:
            addresses[bucket] = held.enter_context(_below(bucket))
        maker = Maker(raw, data, directory)
        places = []
        for name, address in addresses.items():
            say(f"store: {name}: publishing {many} runs")
            places.append(Place(name, address, maker, many))
        rounds: list[dict[str, dict[str, float]]] = []
        for number in range(runs + 1):
            say(f"store: round {number} of {runs}" if number else "store: warming up")
            rounds.append({place.name: place.measure() for place in places})
    return {
        "bench": "store",
        "machine": machine,
        "dataset": data.name,
        "runs": runs,
        "run": places[0].size,
        "verified": {"runs": many, "files": places[0].files_verified},
        "ratio_to": LOCAL,
        "places": [
            {
                "name": place.name,
                "supports_conditional_writes": place.supports_conditional_writes,
                "actions": _summarize([each[place.name] for each in rounds[1:]], [each[LOCAL] for each in rounds[1:]]),
            }
            for place in places
        ],
    }


def _check(artifacts: str) -> None:
    """Refuse an address where nothing can be measured, before anything is done."""
    if not artifacts:
        return
    if not artifacts.startswith("s3://") and not Path(artifacts).is_dir():
        raise ConfigError(f"bench: --artifacts {artifacts}: expected a directory or s3://bucket/prefix that is there")
    open_store(artifacts, attempts=3).check_writable()


@contextmanager
def _below(bucket: str) -> Iterator[str]:
    """Make an address below a bucket's for the measurement alone, and leave nothing there."""
    address = f"{bucket.rstrip('/')}/bench-{secrets.token_hex(8)}"
    try:
        yield address
    finally:
        clear(open_store(address))


def _summarize(own: list[dict[str, float]], local: list[dict[str, float]]) -> list[dict[str, Any]]:
    """Put the seconds of all rounds together, action by action."""
    return [
        {
            "name": action,
            **spread([each[action] for each in own]),
            "ratio": ratio([each[action] for each in own], [each[action] for each in local]),
        }
        for action in ACTIONS
    ]


def table(result: dict[str, Any]) -> Table:
    """Lay out what `measure` found: for each action, one row for each place."""
    run, verified = result["run"], result["verified"]
    about = [
        f"{result['dataset']}; a run: {run['files']} files, {run['size']:,} bytes; to verify: {verified['files']:,}",
        *(
            f"{place['name']}: conditional writes are ignored, so nothing is promoted there unless told to"
            for place in result["places"]
            if not place["supports_conditional_writes"]
        ),
    ]
    rows = Table(
        "", "where", "median", "min to max", f"x {result['ratio_to']}",
        title=f"runs of 10 checkpoints in a store; median of n = {result['runs']} rounds in turn",
        caption="\n".join([describe(result["machine"]), *about]), caption_justify="left",
    )  # fmt: skip
    for column in rows.columns[2:]:
        column.justify, column.no_wrap = "right", True
    for number, (action, title) in enumerate(ACTIONS.items()):
        for place in result["places"]:
            found = place["actions"][number]
            assert found["name"] == action
            rows.add_row(
                title.format(many=verified["runs"]) if place is result["places"][0] else "",
                place["name"],
                f"{found['median'] * 1e3:,.1f} ms",
                f"{found['min'] * 1e3:,.1f} to {found['max'] * 1e3:,.1f}",
                f"{found['ratio']:.1f}",
            )
    return rows
