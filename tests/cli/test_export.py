"""`mnist-bp export`: files that other tools read as docs/export.md says, and bad input."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pytest

from mnist_bp.cli.main import main
from mnist_bp.data.parquet import load_split
from mnist_bp.engines.choose import choose_engine
from mnist_bp.registry.export import Export, export_model
from mnist_bp.registry.loading import load_model
from mnist_bp.results.dataset import CachedDataset, RawDataset
from mnist_bp.results.publication import PublishedRun
from mnist_bp.storage.reading import sha256_of_bytes
from tests.support.published_runs import train_and_evaluate

PAGE: Final = (Path(__file__).parents[2] / "docs/export.md").read_text()
FILES: Final = {"onnx": "model.onnx", "npz": "model.npz", "torch": "network.safetensors"}
HEADINGS: Final = {"onnx": "## ONNX", "npz": "## NumPy", "torch": "## PyTorch"}


@pytest.fixture(scope="module")
def published(sample_raw: RawDataset, sample: CachedDataset, tmp_path_factory: pytest.TempPathFactory) -> PublishedRun:
    """A run of a network with ReLU, published to `artifacts` of a directory."""
    place = tmp_path_factory.mktemp("export")
    recipe = {"activation": "relu", "initial": "scaled", "loss": "cross_entropy", "learning_rate": 0.02}
    return train_and_evaluate(sample_raw, sample, place / "data", **recipe).publish(str(place / "artifacts"))


@pytest.fixture(autouse=True)
def artifacts(published: PublishedRun, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The store of that run, which is the default of the commands."""
    directory = Path(published.artifacts).parents[1]
    monkeypatch.setenv("MNIST_BP_ARTIFACTS", str(directory))
    return directory


def outputs_of(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    model = load_model("latest")
    engine, _ = choose_engine("cpu")
    data = engine.load(images, np.zeros(len(images), np.uint8))
    return data.predict(model.weights, model.activation).astype(np.float32)


@pytest.mark.parametrize("to", FILES)
def test_the_example_of_the_page_classifies_all_test_images_as_the_engine_does(to: str, mnist: CachedDataset) -> None:
    assert main(["export", "latest", "--to", to, "-o", FILES[to]]) == 0
    section = PAGE[PAGE.index(HEADINGS[to]) :].partition("\n## ")[0]
    code = "\n".join(line[4:] for line in section.splitlines() if line.startswith("    ") or not line)
    images, _ = load_split(mnist.test)
    names: dict[str, Any] = {"images": images}
    exec(code, names)
    expected = outputs_of(images)
    assert len(expected) == 10_000
    assert (np.asarray(names["classes"]) == expected.argmax(1)).all()
    assert np.abs(np.asarray(names["outputs"]) - expected).max() < 1e-5


@pytest.mark.parametrize("to", FILES)
def test_json_describes_the_file_and_the_check(
    to: str, published: PublishedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", published.run_id, "--to", to, "--output", FILES[to], "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    content = Path(FILES[to]).read_bytes()
    assert printed.pop("largest_difference") < 1e-6
    assert printed == {
        "run_id": published.run_id,
        "to": to,
        "output": str(Path(FILES[to]).absolute()),
        "sha256": sha256_of_bytes(content),
        "size": len(content),
        "engine": "cpu",
    }


def test_the_exported_onnx_file_is_the_published_one(published: PublishedRun) -> None:
    assert main(["export", "latest", "--to", "onnx", "-o", "model.onnx"]) == 0
    assert Path("model.onnx").read_bytes() == Path(published.artifacts, "model.onnx").read_bytes()


def test_a_file_is_replaced_only_with_force(capsys: pytest.CaptureFixture[str]) -> None:
    Path("m.npz").write_bytes(b"precious")
    export = ["export", "latest", "--to", "npz", "-o", "m.npz"]
    assert main(export) == 1
    assert capsys.readouterr().err == (
        "error: m.npz exists; expected a new name for --output, or --force to replace the file\n"
    )
    assert Path("m.npz").read_bytes() == b"precious"
    assert main([*export, "--force"]) == 0
    assert Path("m.npz").read_bytes().startswith(b"PK")


def test_a_directory_that_cannot_be_written_is_refused_before_the_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = Path("read-only")
    directory.mkdir()
    monkeypatch.setattr("os.access", lambda place, mode: place != directory.absolute())  # root may write anywhere
    for command in (["export", "latest", "--to", "npz", "-o"], ["compare", "a", "b", "--html"], ["runs", "--plot"]):
        name = f"{directory}/m{ {'-o': '.npz', '--html': '.html'}.get(command[-1], '.png') }"
        with pytest.raises(SystemExit) as ended:
            main([*command, name])
        assert ended.value.code == 2
        assert f"in a directory that can be written, and {directory.absolute()} cannot be" in capsys.readouterr().err


def test_a_file_that_appears_during_the_export_is_not_replaced(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def slow(*arguments: Any) -> Export:
        Path("m.npz").write_bytes(b"precious")
        return export_model(*arguments)

    monkeypatch.setattr("mnist_bp.cli.export.export_model", slow)
    assert main(["export", "latest", "--to", "npz", "-o", "m.npz"]) == 1
    assert "m.npz: a file of that name exists, and is not replaced" in capsys.readouterr().err
    assert Path("m.npz").read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("flags", "code", "expected"),
    [
        (["latest", "--to", "tf", "-o", "m.npz"], 2, "--to 'tf': expected 'onnx', 'npz' or 'torch'"),
        (["latest", "--to", "npz"], 2, "--output: required"),
        (["latest", "-o", "m.npz"], 2, "--to: required"),
        (["latest", "--to", "torch", "-o", "m.npz"], 2, "expected a name that ends in .safetensors for --to torch"),
        (["latest", "--to", "npz", "-o", "m.pt"], 2, "--output 'm.pt': expected a name that ends in .onnx or .npz or"),
        (["latest", "--to", "npz", "-o", "none/m.npz"], 2, "expected a file in an existing directory"),
        (["latest", "--to", "npz", "-o", "d.npz", "--force"], 1, "d.npz exists and is not a file"),
        (["xyz", "--to", "npz", "-o", "m.npz"], 1, "no run has the name 'xyz'"),
        (["20200101T000000Z-00000000", "--to", "npz", "-o", "m.npz"], 1, "no such run"),
        (["latest", "--to", "npz", "-o", "m.npz", "--artifacts", "mistyped"], 1, "mistyped"),
    ],
)
def test_what_cannot_be_exported_is_refused_in_one_line(
    flags: list[str], code: int, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("d.npz").mkdir()
    try:
        ended = main(["export", *flags])
    except SystemExit as exc:
        ended = int(str(exc.code))
    assert ended == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert expected in line
    assert [path.name for path in Path().iterdir()] == ["d.npz"]


def test_damaged_weights_are_not_exported(
    published: PublishedRun, artifacts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = artifacts / "runs" / published.run_id / "model.safetensors"
    content = path.read_bytes()
    try:
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert main(["export", "latest", "--to", "npz", "-o", "m.npz"]) == 1
    finally:
        path.write_bytes(content)
    assert "SHA-256" in capsys.readouterr().err
    assert not Path("m.npz").exists()


def test_without_the_package_onnx_the_message_names_it_and_nothing_is_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main(["export", "latest", "--to", "onnx", "-o", "m.onnx"]) == 2
    assert "pip install 'mnist-bp[onnx]'" in capsys.readouterr().err
    assert list(Path().iterdir()) == []
