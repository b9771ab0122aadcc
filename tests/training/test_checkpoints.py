"""Checkpoint files: equal bytes for equal weights, and nothing is parsed before its digest is verified."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from safetensors import safe_open

from mnist_bp.errors import ChecksumError, DataFormatError, StoreError
from mnist_bp.model.parameters import CLASSES, PIXELS, initial_parameters
from mnist_bp.results.common import FileDigest
from mnist_bp.storage.files import write_bytes
from mnist_bp.storage.reading import digest_of
from mnist_bp.training.checkpoints import METADATA_KEY, load_checkpoint, save_checkpoint

PARAMETERS = initial_parameters(1, PIXELS, 5, CLASSES)
METADATA = {"step": 1000, "config": {"seed": 1, "learning_rate": 0.5}}


def test_a_checkpoint_is_read_back_bit_for_bit_with_its_metadata(tmp_path: Path) -> None:
    file = save_checkpoint(tmp_path / "a.safetensors", [PARAMETERS], METADATA)
    (loaded,) = load_checkpoint(file)
    assert all(np.array_equal(a, b) for a, b in zip(loaded, PARAMETERS, strict=True))
    with safe_open(file.path, "numpy") as opened:
        assert json.loads(opened.metadata()[METADATA_KEY]) == METADATA
    assert (digest_of(Path(file.path)), Path(file.path).stat().st_size) == (file.sha256, file.size)


def test_several_models_are_read_back_bit_for_bit(tmp_path: Path) -> None:
    models = [initial_parameters(seed, PIXELS, 5, CLASSES) for seed in (1, 2, 3)]
    file = save_checkpoint(tmp_path / "a.safetensors", models, METADATA)
    for found, expected in zip(load_checkpoint(file), models, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    with safe_open(file.path, "numpy") as opened:
        assert opened.get_slice("W1").get_shape() == [3, PIXELS, 5]


def test_equal_weights_give_equal_files_in_other_processes(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from mnist_bp.training.checkpoints import *\n"
        "from mnist_bp.model.parameters import *\n"
        f"print(save_checkpoint(Path(sys.argv[1]), [initial_parameters(1, PIXELS, 5, CLASSES)], {METADATA!r}).sha256)"
    )
    here = save_checkpoint(tmp_path / "here", [PARAMETERS], METADATA).sha256
    command = [sys.executable, "-c", script, str(tmp_path / "there")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == here


def test_a_flipped_bit_is_found_before_parsing(tmp_path: Path) -> None:
    file = save_checkpoint(tmp_path / "a.safetensors", [PARAMETERS], METADATA)
    content = bytearray(Path(file.path).read_bytes())
    content[-1] ^= 1
    Path(file.path).write_bytes(content)
    with pytest.raises(ChecksumError, match=file.sha256):
        load_checkpoint(file)


def test_a_pickle_in_place_of_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    class Malicious:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (Path(tmp_path / "was-run"),)  # type: ignore[return-value]

    path = tmp_path / "a.safetensors"
    digest = write_bytes(path, pickle.dumps(Malicious()))
    with pytest.raises(DataFormatError, match="not a safetensors file"):
        load_checkpoint(FileDigest(str(path), digest, path.stat().st_size))
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize("hostile", [pickle.dumps(print), (1 << 60).to_bytes(8, "little") + b"{}", b""])
def test_a_file_that_replaces_a_checkpoint_is_refused_and_never_parsed(
    hostile: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = save_checkpoint(tmp_path / "a.safetensors", [PARAMETERS], METADATA)
    Path(file.path).write_bytes(hostile)
    monkeypatch.setattr(safetensors.numpy, "load", lambda content: pytest.fail("it was parsed"))
    with pytest.raises(ChecksumError, match=f"it has {len(hostile)} bytes, expected {file.size:,}"):
        load_checkpoint(file)


def test_a_file_with_other_tensors_is_a_format_error(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    digest = write_bytes(path, safetensors.numpy.save({"W1": np.ones(2)}))
    with pytest.raises(DataFormatError, match="not a checkpoint of this network"):
        load_checkpoint(FileDigest(str(path), digest, path.stat().st_size))


def test_a_missing_file_is_a_store_error(tmp_path: Path) -> None:
    file = save_checkpoint(tmp_path / "a.safetensors", [PARAMETERS], METADATA)
    with pytest.raises(StoreError, match="missing"):
        load_checkpoint(replace(file, path=str(tmp_path / "missing")))
