"""`mnist-bp open [RUN]`: open the report of a run in a browser, downloaded first if the store is not a directory."""

from __future__ import annotations

import json
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from pydantic_settings import CliPositionalArg

from mnist_bp.cli.flags import DataCommand, StoreCommand, parse
from mnist_bp.cli.output import say
from mnist_bp.cli.process import print_line
from mnist_bp.cli.unfinished import naming_unfinished
from mnist_bp.errors import DataFormatError
from mnist_bp.layout import LATEST, REPORT, run_key
from mnist_bp.registry.catalog import read_manifest
from mnist_bp.registry.names import resolve_run
from mnist_bp.storage.files import write_bytes
from mnist_bp.storage.interface import Store
from mnist_bp.storage.local import LocalStore
from mnist_bp.training.workspace import list_run_ids


class OpenCommand(StoreCommand, DataCommand, cli_prog_name="mnist-bp open"):
    """Open the report of a run in a browser, after its digest is verified; print its address.

    A report in a bucket is first downloaded to reports/ in the data directory, where it can be deleted at any time.
    """

    run: CliPositionalArg[str] = LATEST
    """Id of the run, the start of an id, latest, champion, champion:DATASET or an alias."""


def main(arguments: Sequence[str]) -> int:
    """Open a report.

    Returns:
        0, also if no browser can be started: the address is printed.
    """
    command = parse(OpenCommand, arguments)
    store = command.store
    run_id = resolve_run(store, command.run, list_run_ids(command.data_dir))
    with naming_unfinished(command.data_dir, command.artifacts, run_id):
        address = local_report(store, run_id, Path(command.data_dir)).absolute().as_uri()
    if not command.json_output:
        say(address)
    opened = webbrowser.open(address)
    if command.json_output:
        say(json.dumps({"run_id": run_id, "report": address, "opened": opened}))
    elif not opened:
        print_line("no browser could be started; open this address in one, or set BROWSER to its command")
    return 0


def local_report(store: Store, run_id: str, data_dir: Path) -> Path:
    """Return the path of an intact report on this machine.

    Args:
        store: Store with the run.
        run_id: Id of the run.
        data_dir: Directory in which to keep a report that is downloaded.

    Raises:
        StoreError: No complete run has this id, or the store or the data directory cannot be used.
        ChecksumError, DataFormatError: The manifest or the report is damaged, or the run has no report.
    """
    manifest, _ = read_manifest(store, run_id)
    key = run_key(run_id, REPORT)
    if (recorded := manifest.files.get(REPORT)) is None:
        raise DataFormatError(f"{store.uri(key)}: the manifest of the run names no such file")
    content = store.get(key, recorded.sha256, recorded.size)
    if isinstance(store, LocalStore):
        return Path(store.uri(key))
    path = data_dir / "reports" / f"{run_id}.html"
    write_bytes(path, content)
    return path
