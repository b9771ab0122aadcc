"""`mnist-bp predict`: pictures and batches in, bars or JSON out, and one line for what cannot be used."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mnist_bp.cli.main import main
from mnist_bp.data.parquet import load_split
from mnist_bp.data.sample import encode_idx
from mnist_bp.engines.choose import choose_engine
from mnist_bp.layout import MODEL
from mnist_bp.model.parameters import UInt8Array
from mnist_bp.registry.loading import load_model
from mnist_bp.results.dataset import CachedDataset
from mnist_bp.storage.local import LocalStore
from tests.support.drawings import KINDS, png
from tests.support.published_runs import promote, publish, run_id_of
from tests.support.terminal import on_terminal


@pytest.fixture(scope="module")
def digits(sample: CachedDataset) -> tuple[UInt8Array, UInt8Array]:
    """Test images (N, 28, 28), and their labels."""
    images, labels = load_split(sample.test)
    return images.reshape(-1, 28, 28), labels


@pytest.fixture
def store(digits_store: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a store with a champion, which is also that of the environment."""
    monkeypatch.setenv("MNIST_BP_ARTIFACTS", digits_store[0])
    return digits_store[0]


@pytest.fixture
def seven(digits: tuple[UInt8Array, UInt8Array]) -> UInt8Array:
    """The image of a seven, which is also written to seven.png."""
    images, labels = digits
    image: UInt8Array = images[labels == 7][0]
    Path("seven.png").write_bytes(png(image))
    return image


def predicted(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    assert main(["predict", *arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_pictures_of_test_images_are_classified_as_by_the_engine(
    store: str, digits: tuple[UInt8Array, UInt8Array], capsys: pytest.CaptureFixture[str]
) -> None:
    images = digits[0][:100]
    names = [f"{number}.png" for number in range(100)]
    for name, image in zip(names, images, strict=True):
        Path(name).write_bytes(png(image))
    model = load_model("champion", store)
    data = choose_engine("cpu")[0].load(images.reshape(-1, 784), digits[1][:100])
    expected = data.predict(model.weights, model.activation)
    for flags in ((), ("--raw",)):
        found = predicted(capsys, *names, *flags)["predictions"]
        assert [each["image"] for each in found] == names
        assert [each["class"] for each in found] == expected.argmax(1).tolist()
        assert np.abs(np.array([each["outputs"] for each in found]) - expected).max() <= 1e-5


def test_at_least_17_of_20_drawn_and_photographed_digits_are_read(
    store: str, digits: tuple[UInt8Array, UInt8Array], capsys: pytest.CaptureFixture[str]
) -> None:
    images, labels = digits
    names = []
    for number in range(20):
        kind, make = list(KINDS.items())[number % len(KINDS)]
        names.append(f"{number}-{kind}")
        Path(names[-1]).write_bytes(make(images[number], np.random.default_rng(number)))
    found = predicted(capsys, *names)["predictions"]
    wrong = [each["image"] for each, label in zip(found, labels, strict=False) if each["class"] != label]
    assert len(found) == 20
    assert len(wrong) <= 3, wrong


def test_json_states_the_run_and_how_each_picture_was_prepared(
    store: str, digits_store: tuple[str, str], seven: UInt8Array, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("drawn.png").write_bytes(png(np.pad(255 - seven, 30, constant_values=255)))
    report = predicted(capsys, "seven.png", "drawn.png")
    first, second = report.pop("predictions")
    assert report == {"run_id": digits_store[1], "dataset": "mnist-sample", "errors": []}
    assert len(first.pop("outputs")) == len(second.pop("outputs")) == 10
    same = {"index": None, "class": 7}
    assert first == {
        **same, "image": "seven.png", "width": 28, "height": 28, "polarity": "light on dark", "prepared": False
    }  # fmt: skip
    assert second == {
        **same, "image": "drawn.png", "width": 88, "height": 88, "polarity": "dark on light", "prepared": True
    }  # fmt: skip


def test_a_picture_is_answered_with_ten_bars(store: str, seven: UInt8Array, capsys: pytest.CaptureFixture[str]) -> None:
    Path("drawn.png").write_bytes(png(255 - seven))
    assert main(["predict", "drawn.png"]) == 0
    run, empty, digit, about, *bars = capsys.readouterr().out.splitlines()
    assert run.startswith("run ")
    assert run.endswith(" on the test images of mnist-sample")
    assert (empty, digit) == ("", "drawn.png: 7")
    assert about == "28 x 28 pixels, dark on light, already in the form of MNIST's"
    assert [line[0] for line in bars] == list("0123456789")
    outputs = load_model("champion", store)(seven[np.newaxis])[0]
    assert [line.split()[1] for line in bars] == [f"{output:.3f}" for output in outputs]
    assert [line.count("█") for line in bars] == [round(float(output) * 40) for output in outputs]


@pytest.mark.parametrize("columns", [20, 80])
def test_bars_fit_the_terminal(store: str, seven: UInt8Array, columns: int) -> None:
    printed = on_terminal("-m", "mnist_bp", "predict", "seven.png", "--artifacts", store, columns=columns)
    bars = printed.splitlines()[-10:]
    assert [line.split()[0] for line in bars] == list("0123456789")
    assert max(map(len, bars)) <= columns
    assert max(line.count("█") for line in bars) >= columns // 3


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_bars_are_drawn_in_the_encoding_of_stdout(
    store: str, seven: UInt8Array, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", out)
    assert main(["predict", "seven.png"]) == 0
    out.seek(0)
    (bar,) = [line for line in out.read().splitlines() if line.startswith("7  ")]
    assert bar.count("#") >= 36


@pytest.mark.parametrize("suffix", ["npy", "idx3-ubyte"])
def test_a_batch_is_classified_image_by_image(
    store: str, digits: tuple[UInt8Array, UInt8Array], suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    images = digits[0][:30]
    name = f"batch.{suffix}"
    if suffix == "npy":
        np.save(name, images.reshape(-1, 784))
    else:
        Path(name).write_bytes(encode_idx(images))
    classes = load_model("champion", store)(images).argmax(1).tolist()
    found = predicted(capsys, name)["predictions"]
    assert [(each["image"], each["index"]) for each in found] == [(name, index) for index in range(30)]
    assert [each["class"] for each in found] == classes
    assert main(["predict", name]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == f"{name}: 30 images, used unchanged"
    assert [line.split()[:2] for line in lines[3:]] == [[str(i), str(each)] for i, each in enumerate(classes)]


def test_stdin_is_read_where_a_file_is_named_by_a_dash(
    store: str, seven: UInt8Array, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(png(seven))))
    (found,) = predicted(capsys, "-")["predictions"]
    assert (found["image"], found["class"]) == ("-", 7)
    monkeypatch.setattr(sys, "stdin", None)  # closed
    assert predicted(capsys, "-", code=1)["errors"] == [
        "stdin is empty, expected a PNG or JPEG picture, or a batch: IDX or .npy"
    ]


@pytest.mark.parametrize("name", ["a,b.png", "[1].png", '"q".png', "null", "100%.png", " a.png", "ü.png", "\udcff.png"])
def test_any_name_of_a_file_is_taken_as_it_is(
    store: str, seven: UInt8Array, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(name).write_bytes(png(seven))
    (found,) = predicted(capsys, name)["predictions"]
    assert (found["image"], found["class"]) == (name, 7)


def test_the_run_is_named_as_in_other_commands(
    store: str, digits_store: tuple[str, str], seven: UInt8Array, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("champion:mnist-sample", "latest", digits_store[1]):
        assert predicted(capsys, "seven.png", "--run", name)["run_id"] == digits_store[1]
    assert main(["predict", "seven.png", "--run", "champion:kmnist"]) == 1
    assert "there is no champion of kmnist yet: " in capsys.readouterr().err


def test_a_store_without_a_champion_is_answered_with_how_to_get_one(
    seven: UInt8Array, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(LocalStore(Path("artifacts")), 1)
    assert main(["predict", "seven.png"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "there is no champion yet: the first run on a dataset becomes its champion; run mnist-bp train" in line


def test_a_picture_that_cannot_be_used_does_not_stop_the_others(
    store: str, seven: UInt8Array, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("text.png").write_text("no picture")
    assert main(["predict", "missing.png", "text.png", "seven.png", ".", "/dev/null"]) == 1
    printed = capsys.readouterr()
    assert "\nseven.png: 7\n" in printed.out
    hint = "give the path of a picture or of a batch, or - for stdin"
    assert printed.err.splitlines() == [
        f"error: cannot read missing.png: No such file or directory; {hint}",
        "error: text.png is 10 bytes of another kind, expected a PNG or JPEG picture, or a batch: IDX or .npy",
        f"error: cannot read .: Is a directory; {hint}",
        f"error: /dev/null is a device, expected a regular file; {hint}",
    ]
    report = predicted(capsys, "missing.png", "seven.png", code=1)
    assert report["errors"] == [f"cannot read missing.png: No such file or directory; {hint}"]
    assert [each["class"] for each in report["predictions"]] == [7]


def cmyk() -> bytes:
    file = io.BytesIO()
    Image.new("CMYK", (50, 50)).save(file, "JPEG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "flags", "expected"),
    [
        (b"", [], "is empty, expected a PNG or JPEG picture"),
        (png(np.zeros((60, 60), np.uint8)), [], "shows nothing: "),
        (cmyk(), [], "shows nothing: "),
        (png(np.zeros((60, 40), np.uint8)), ["--raw"], "has 40 x 60 pixels, expected 28 x 28 with --raw; "),
        (encode_idx(np.zeros((2, 10, 10), np.uint8)), [], "has images of shape (10, 10), expected (28, 28) or (784,)"),
        (encode_idx(np.zeros(9, np.uint8)), [], "has the shape (9,), expected uint8 images"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_1(
    store: str, content: bytes, flags: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("input").write_bytes(content)
    assert main(["predict", "input", *flags]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: input ")
    assert expected in line


def test_the_preparation_of_digits_is_refused_for_other_datasets(
    digits_store: tuple[str, str], seven: UInt8Array, capsys: pytest.CaptureFixture[str]
) -> None:
    source, run_id = digits_store
    weights = Path(source, "runs", run_id, MODEL).read_bytes()
    store = LocalStore(Path("artifacts"))
    assert promote(store, publish(store, 1, "kmnist", contents={MODEL: weights}), "kmnist")
    assert main(["predict", "seven.png"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"cannot be prepared as the images of kmnist were: {run_id_of(1)} was trained on them" in line
    assert predicted(capsys, "seven.png", "--raw")["dataset"] == "kmnist"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "the following arguments are required: IMAGES; see --help"),
        (["-", "-"], "IMAGES: expected - at most once, since stdin can be read once; see --help"),
        (["a.png", "--engine", "cpu"], "--engine: no such flag or argument; see --help"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["predict", *arguments])
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"error: {line}\n"


def test_stdin_is_not_read_beyond_the_limit(
    store: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mnist_bp.cli.predict.MAX_DOCUMENT_SIZE", 1_000)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(bytes(1_001))))
    assert main(["predict", "-"]) == 1
    assert "stdin has more than 1,000 bytes, which is the limit" in capsys.readouterr().err
