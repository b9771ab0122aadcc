"""Publishing: a finished run becomes visible to readers as a whole.

    <artifacts>/runs/<run id>/checkpoints/step-0001000.safetensors ...
                             /model.safetensors    the run's model after the last step
                             /history.parquet      one row per checkpoint and seed
                             /report.html          the whole run, for a person
                             /model.onnx           the same model for other tools, if the package onnx is installed
                             /manifest.json        put last: a run with a manifest is complete

No file is overwritten. The manifest and all other files are in the run's directory before the first one is put, so an
interrupted publication is repeated with the same bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from mnist_bp.config import RunConfig
from mnist_bp.documents import encoding
from mnist_bp.documents.manifest import Manifest
from mnist_bp.errors import ConfigError, DataFormatError, MnistBpError, StoreError
from mnist_bp.layout import MANIFEST, MODEL, ONNX_MODEL, REPORT, RUNS
from mnist_bp.model.parameters import Model
from mnist_bp.model.recipe import Activation
from mnist_bp.registry.export import export_model, metadata_of
from mnist_bp.registry.manifest import build_manifest, file_entries, history_parquet
from mnist_bp.registry.report import render_report
from mnist_bp.results.common import FileDigest
from mnist_bp.results.dataset import CachedDataset, RawDataset
from mnist_bp.results.evaluation import Evaluation
from mnist_bp.results.publication import PublishedRun
from mnist_bp.results.training import TrainedRun
from mnist_bp.storage.address import open_store, url_of
from mnist_bp.storage.files import write_bytes
from mnist_bp.storage.interface import Store
from mnist_bp.storage.reading import read_document, read_verified, sha256_of_bytes
from mnist_bp.training.checkpoints import load_checkpoint, save_checkpoint
from mnist_bp.training.run import checkpoint_metadata

logger = logging.getLogger(__name__)

MAX_PARALLEL_UPLOADS: Final = 4


def publish_run(
    config: RunConfig, raw: RawDataset, data: CachedDataset, trained: TrainedRun, evaluation: Evaluation
) -> PublishedRun:
    """Write the remaining files of a run and put all of them into the store, the manifest last. Can be repeated.

    Args:
        config: Configuration of the run; `artifacts` is the store's address.
        raw: The downloaded files.
        data: The dataset after preprocessing.
        trained: The checkpoints.
        evaluation: Their scores.

    Raises:
        ChecksumError: A checkpoint on disk is damaged.
        ConflictError: The store has other bytes under one of the names.
        StoreError: The store refused a file, or a file has disappeared from it.
    """
    store, config = open_store(config.artifacts), config.with_swept(trained.config)
    files = _find_written(config, trained) or _write_files(store, config, raw, data, trained, evaluation)
    prefix = f"{RUNS}{trained.run_id}"
    manifest = files[MANIFEST]
    others = {name: file for name, file in files.items() if name != MANIFEST}
    _put_all(store, prefix, {name: file for name, file in others.items() if name not in _stored(trained)})
    _check_present(store, prefix, others)
    store.put(f"{prefix}/{MANIFEST}", Path(manifest.path), manifest.sha256)
    return PublishedRun(
        run_id=trained.run_id,
        artifacts=store.uri(prefix),
        manifest=store.uri(f"{prefix}/{MANIFEST}"),
        manifest_sha256=manifest.sha256,
        files=len(files),
        size=sum(file.size for file in files.values()),
        report_url=url_of(store, f"{prefix}/{REPORT}"),
    )


def _stored(trained: TrainedRun) -> Mapping[str, FileDigest]:
    """Return the files that the parts of a run have put into the store."""
    return {} if trained.parts is None else trained.parts.files


def _find_written(config: RunConfig, trained: TrainedRun) -> dict[str, FileDigest] | None:
    """Return the files of an earlier publication to the same store, or None if they are not all intact."""
    path = Path(trained.directory) / MANIFEST
    if not path.exists():
        return None
    try:
        content = read_document(path)
        manifest = encoding.parse(Manifest, content, str(path), "it is written again")
        files = {
            name: FileDigest(str(path.parent / name), entry.sha256, entry.size)
            for name, entry in manifest.files.items()
        }
        _verify({name: file for name, file in files.items() if name not in _stored(trained)})
    except MnistBpError:
        return None
    if (manifest.run_id, manifest.config.get("artifacts")) != (trained.run_id, config.record["artifacts"]):
        return None
    return {**files, MANIFEST: FileDigest(str(path), sha256_of_bytes(content), len(content))}


def _write_files(
    store: Store, config: RunConfig, raw: RawDataset, data: CachedDataset, trained: TrainedRun, evaluation: Evaluation
) -> dict[str, FileDigest]:
    """Write the files that a published run has in addition to its checkpoints; the manifest if all are intact."""
    directory = Path(trained.directory)
    last = trained.checkpoints[-1]
    model = load_checkpoint(last.file)[trained.place(evaluation.seed)]
    metadata = checkpoint_metadata(config, data, trained.engine, trained.device, [evaluation.seed], last.step)
    files = {f"checkpoints/{Path(point.file.path).name}": point.file for point in trained.checkpoints}
    files[MODEL] = save_checkpoint(directory / MODEL, [model], metadata)
    files["history.parquet"] = _write(directory / "history.parquet", history_parquet(trained, data.name, evaluation))
    _verify(files)
    files |= _stored(trained)
    manifest = build_manifest(config.record["artifacts"], raw, data, trained, evaluation, files)
    files[REPORT] = _write(directory / REPORT, render_report(store, manifest, data, trained, evaluation))
    onnx = _onnx(model, config.activation, manifest)  # after the report, which is the same without it
    if onnx is not None:
        files[ONNX_MODEL] = _write(directory / ONNX_MODEL, onnx)
    manifest = manifest.model_copy(update={"files": file_entries(files)})
    return {**files, MANIFEST: _write(directory / MANIFEST, encoding.dumps(manifest))}


def _onnx(model: Model, activation: Activation, manifest: Manifest) -> bytes | None:
    """Return the model as an ONNX file, or None: a run is complete without it."""
    try:
        return export_model(model, activation, metadata_of(manifest), "onnx").content
    except ConfigError:  # the package is not installed
        return None
    except DataFormatError as exc:
        logger.warning(f"the run is published without {ONNX_MODEL}: {exc}")
        return None


def _verify(files: Mapping[str, FileDigest]) -> None:
    for file in files.values():
        read_verified(Path(file.path), file.sha256, size=file.size)


def _put_all(store: Store, prefix: str, files: dict[str, FileDigest]) -> None:
    """Put files, a few at a time. After a failure, no other upload starts."""
    with ThreadPoolExecutor(MAX_PARALLEL_UPLOADS) as pool:
        puts = [pool.submit(store.put, f"{prefix}/{name}", Path(f.path), f.sha256) for name, f in files.items()]
        try:
            for put in puts:
                put.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _check_present(store: Store, prefix: str, files: dict[str, FileDigest]) -> None:
    """Check that no file has been removed, before the manifest declares the run complete.

    Raises:
        StoreError: A file has been removed.
    """
    missing = set(files) - {entry.key.removeprefix(f"{prefix}/") for entry in store.list_entries(f"{prefix}/")}
    if missing:
        raise StoreError(
            f"{store.uri(f'{prefix}/{min(missing)}')} is missing although it was put: something removes files there; "
            "stop it, and continue with --resume"
        )


def _write(path: Path, content: bytes) -> FileDigest:
    """Write a file of the run, unless an interrupted attempt has written the same bytes."""
    found = FileDigest(str(path), sha256_of_bytes(content), len(content))
    try:
        read_verified(path, found.sha256, size=found.size)
    except MnistBpError:
        write_bytes(path, content)
    return found
