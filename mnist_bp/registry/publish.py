"""Publish: a finished run becomes visible to readers, whole or not at all.

<artifacts>/runs/<run id>/checkpoints/step-0001000.safetensors ...
                         /model.safetensors    the run's model after the last step
                         /history.parquet      one row per checkpoint and seed
                         /report.html          all of it, for a person
                         /manifest.json        with a checksum, and put last: a run with a manifest is complete

Nothing is overwritten. A publication that was broken off is repeated with the very same bytes: they, and the manifest,
are in the run's own directory before the first of them is put.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from mnist_bp import documents
from mnist_bp.config import RunConfig
from mnist_bp.data.parquet import load_split
from mnist_bp.documents import FileEntry, Manifest
from mnist_bp.errors import MnistBpError, StoreError
from mnist_bp.layout import MANIFEST, RUNS
from mnist_bp.registry.manifest import build_manifest, file_entries, history_parquet
from mnist_bp.report.page import report_html
from mnist_bp.results import CachedDataset, Evaluation, FileDigest, PublishedRun, RawDataset, TrainedRun
from mnist_bp.storage.address import open_store
from mnist_bp.storage.files import read_verified, reading_from, sha256_of_bytes, write_bytes
from mnist_bp.storage.interface import Store
from mnist_bp.training.checkpoints import load_checkpoint, save_checkpoint
from mnist_bp.training.run import checkpoint_metadata

UPLOADS_AT_ONCE: Final = 4


def publish_run(
    config: RunConfig, raw: RawDataset, data: CachedDataset, trained: TrainedRun, evaluation: Evaluation
) -> PublishedRun:
    """Complete a run's directory and put all of it where readers look, the manifest last. May be repeated.

    Args:
        config: The run; `artifacts` says where to.
        raw: What was downloaded.
        data: What it was trained on.
        trained: The checkpoints.
        evaluation: Their scores.

    Raises:
        ChecksumError: A checkpoint on disk is not the one that was written.
        ConflictError: The place holds other bytes under one of the names.
        StoreError: The place refused a file, or lost one.
    """
    files = _completed(config, trained) or _complete(config, raw, data, trained, evaluation)
    store = open_store(config.artifacts)
    prefix = f"{RUNS}{trained.run_id}"
    manifest = files[MANIFEST]
    others = {name: file for name, file in files.items() if name != MANIFEST}
    _put_all(store, prefix, others)
    _expect_there(store, prefix, others)
    store.put(f"{prefix}/{MANIFEST}", Path(manifest.path), manifest.sha256)
    return PublishedRun(
        run_id=trained.run_id,
        artifacts=store.uri(prefix),
        manifest=store.uri(f"{prefix}/{MANIFEST}"),
        manifest_sha256=manifest.sha256,
        files=len(files),
        size=sum(file.size for file in files.values()),
    )


def _completed(config: RunConfig, trained: TrainedRun) -> dict[str, FileDigest] | None:
    """Find the files of a publication to the same place that was begun before; None if not all are there, intact."""
    path = Path(trained.directory) / MANIFEST
    if not path.exists():
        return None
    try:
        with reading_from(path):
            content = path.read_bytes()
        manifest = documents.parse(Manifest, content, str(path), "it is written again")
        files = {name: _stored(path.parent / name, entry) for name, entry in manifest.files.items()}
        for file in files.values():
            read_verified(Path(file.path), file.sha256)
    except MnistBpError:
        return None
    if (manifest.run_id, manifest.config["artifacts"]) != (trained.run_id, config.record["artifacts"]):
        return None
    return {**files, MANIFEST: FileDigest(str(path), sha256_of_bytes(content), len(content))}


def _complete(
    config: RunConfig, raw: RawDataset, data: CachedDataset, trained: TrainedRun, evaluation: Evaluation
) -> dict[str, FileDigest]:
    """Make what a published run has beside its checkpoints, and the manifest when all files are proved."""
    directory = Path(trained.directory)
    last = trained.checkpoints[-1]
    model = load_checkpoint(last.file)[trained.seeds.index(evaluation.seed)]
    about = checkpoint_metadata(config, data, trained.engine, trained.device, [evaluation.seed], last.step)
    files = {f"checkpoints/{Path(point.file.path).name}": point.file for point in trained.checkpoints}
    files["model.safetensors"] = save_checkpoint(directory / "model.safetensors", [model], about)
    files["history.parquet"] = _write(directory / "history.parquet", history_parquet(trained, data.name, evaluation))
    for file in files.values():
        read_verified(Path(file.path), file.sha256)
    draft = build_manifest(config.record["artifacts"], raw, data, trained, evaluation, files)
    images, _ = load_split(data.test)
    files["report.html"] = _write(directory / "report.html", report_html(draft, evaluation, model, images))
    manifest = documents.dumps(draft.model_copy(update={"files": file_entries(files)}))
    return {**files, MANIFEST: _write(directory / MANIFEST, manifest)}


def _put_all(store: Store, prefix: str, files: dict[str, FileDigest]) -> None:
    """Put files, a few at a time; when one fails, no further one is begun."""
    with ThreadPoolExecutor(UPLOADS_AT_ONCE) as pool:
        puts = [pool.submit(store.put, f"{prefix}/{name}", Path(f.path), f.sha256) for name, f in files.items()]
        try:
            for put in puts:
                put.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _expect_there(store: Store, prefix: str, files: dict[str, FileDigest]) -> None:
    """Look, before the manifest vouches for them, whether somebody has removed files that were put.

    Raises:
        StoreError: They are gone.
    """
    gone = set(files) - {entry.key.removeprefix(f"{prefix}/") for entry in store.list_entries(f"{prefix}/")}
    if gone:
        what = store.uri(f"{prefix}/{min(gone)}")
        raise StoreError(
            f"{what} is gone, and was put: something removes files there; stop it, and go on with --resume"
        )


def _stored(path: Path, entry: FileEntry) -> FileDigest:
    return FileDigest(str(path), entry.sha256, entry.size)


def _write(path: Path, content: bytes) -> FileDigest:
    return FileDigest(str(path), write_bytes(path, content), len(content))
