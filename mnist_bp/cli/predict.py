"""`mnist-bp predict`: classify pictures, or batches of images, with a published model."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from pydantic import Field, model_validator
from pydantic_settings import CliPositionalArg, CliToggleFlag
from rich.cells import cell_len

from mnist_bp.cli.file_names import FileNames
from mnist_bp.cli.flags import StoreCommand, parse
from mnist_bp.cli.output import say
from mnist_bp.cli.process import print_error
from mnist_bp.data.batches import decode_batch
from mnist_bp.data.datasets import DATASETS
from mnist_bp.data.digits import DATASETS as DIGITS
from mnist_bp.data.pictures import Picture, decode_picture, read_picture, scale_picture
from mnist_bp.errors import DataFormatError, MnistBpError, counted, printable
from mnist_bp.model.parameters import FloatArray, UInt8Array
from mnist_bp.registry.loading import TrainedModel, load_from
from mnist_bp.registry.names import CHAMPION_NAME
from mnist_bp.storage.reading import MAX_DOCUMENT_SIZE, read_document

STDIN: Final = "-"

MAX_BAR: Final = 40
"""Characters of the bar of an output of 1."""

MAX_CLASSES: Final = 20
"""Classes whose outputs are shown."""

_HINT: Final = "give the path of a picture or of a batch, or - for stdin"


class PredictCommand(StoreCommand, cli_prog_name="mnist-bp predict"):
    """Classify PNG or JPEG pictures, or batches of images (IDX, .npy); exit code 1 if a file cannot be used."""

    images: CliPositionalArg[FileNames] = Field(min_length=1)
    """Files, or - for stdin. Pictures may have any size, and be dark on light or light on dark."""

    run: str = CHAMPION_NAME
    """Run whose model predicts: an id or the start of one, latest, champion, champion:DATASET or an alias."""

    raw: CliToggleFlag[bool] = False
    """Use pictures of the model's own size, 28 x 28 for MNIST, unchanged; otherwise they are prepared or scaled."""

    @model_validator(mode="after")
    def _read_stdin_once(self) -> Self:
        if self.images.count(STDIN) > 1:
            raise ValueError("IMAGES: expected - at most once, since stdin can be read once")
        return self


@dataclass(frozen=True)
class Input:
    """What is predicted of one file.

    Args:
        name: The file, or `-`.
        images: Pixels in [0, 255], shape (N, h, w) or (N, D).
        batch: Whether it is a batch.
        picture: How the picture was prepared; None for a batch, or if it was not prepared as a digit.
        scaled_from: Width and height of a picture that was scaled, in pixels; None if it was not.
    """

    name: str
    images: UInt8Array
    batch: bool
    picture: Picture | None = None
    scaled_from: tuple[int, int] | None = None

    @property
    def about(self) -> str:
        """One line on the images and their preparation."""
        if self.batch:
            return f"{counted(len(self.images), 'image')}, used unchanged"
        if self.scaled_from is not None:
            (width, height), (_, h, w) = self.scaled_from, self.images.shape
            return f"{width:,} x {height:,} pixels, scaled to {w} x {h}, light and dark as they are"
        if self.picture is None:
            return "used unchanged"
        done = "scaled and centred by mass as MNIST's" if self.picture.prepared else "already in the form of MNIST's"
        return f"{self.picture.width:,} x {self.picture.height:,} pixels, {self.picture.polarity}, {done}"

    def facts(self, index: int) -> dict[str, Any]:
        """The entries of `--json` for one of the images, besides the prediction."""
        facts: dict[str, Any] = {"image": self.name, "index": index if self.batch else None}
        if picture := self.picture:
            about = {"width": picture.width, "height": picture.height, "polarity": picture.polarity}
            facts |= {**about, "prepared": picture.prepared}
        return facts


def main(arguments: Sequence[str]) -> int:
    """Classify images.

    Returns:
        0, or 1 if a file cannot be used; the others are classified.
    """
    command = parse(PredictCommand, arguments)
    model = load_from(command.store, command.run)
    predictions: list[dict[str, Any]] = []
    errors: list[str] = []
    if not command.json_output:
        dataset, accuracy = model.manifest.dataset.name, model.manifest.final.accuracy
        say(f"run {model.run_id}, accuracy {accuracy:.4f} on the test images of {dataset}")
    for name in command.images:
        try:
            given = _read(name, model, raw=command.raw)
        except MnistBpError as exc:
            errors.append(str(exc))
            print_error(str(exc))
            continue
        outputs = model(given.images)
        if command.json_output:
            predictions += (
                {**given.facts(index), **_classified(model, int(a2.argmax())), "outputs": a2.tolist()}
                for index, a2 in enumerate(outputs)
            )
        else:
            _print(given, outputs, model.class_names)
    if command.json_output:
        document = {"run_id": model.run_id, "dataset": model.manifest.dataset.name}
        say(json.dumps({**document, "predictions": predictions, "errors": errors}))
    return 1 if errors else 0


def _classified(model: TrainedModel, label: int) -> dict[str, Any]:
    """Return the class as `--json` has it: its name as well, where that is not its number."""
    name = model.class_names[label]
    return {"class": label} if name == str(label) else {"class": label, "class_name": name}


def _read(name: str, model: TrainedModel, *, raw: bool) -> Input:
    """Read a file, and prepare a picture unless it must be used as it is.

    Raises:
        DataFormatError: It is neither a picture nor a batch, or not one that the model can be given.
        StoreError: It is missing or cannot be read.
    """
    content = _read_stdin() if name == STDIN else read_document(Path(name), _HINT, unusable=_HINT)
    what, (height, width) = "stdin" if name == STDIN else name, model.image_shape
    if (images := decode_batch(content, what)) is not None:
        if images.shape[1:] not in ((height, width), (height * width,)):
            raise DataFormatError(
                f"{what} has images of shape {images.shape[1:]}, expected ({height}, {width}) or ({height * width},); "
                "give pictures of other sizes as PNG files, which are scaled"
            )
        return Input(name, images, batch=True)
    if raw:
        grey = decode_picture(content, what)
        if grey.shape != model.image_shape:
            raise DataFormatError(
                f"{what} has {grey.shape[1]:,} x {grey.shape[0]:,} pixels, expected {width} x {height} with --raw; "
                "without it, a digit of any size is scaled and centred"
            )
        return Input(name, grey[np.newaxis], batch=False)
    if (dataset := model.manifest.dataset.name) not in DIGITS and dataset in DATASETS:
        raise DataFormatError(
            f"{what} cannot be prepared as the images of {dataset} were: {model.run_id} was trained on them, and not "
            f"on digits; give a picture of {width} x {height} pixels, light on black, with --raw"
        )
    if dataset not in DATASETS:  # the user's own, which are converted to one size, as this picture is
        grey = decode_picture(content, what)
        size = None if grey.shape == model.image_shape else (grey.shape[1], grey.shape[0])
        return Input(name, scale_picture(grey, (width, height))[np.newaxis], batch=False, scaled_from=size)
    picture = read_picture(content, what)
    return Input(name, picture.image[np.newaxis], batch=False, picture=picture)


def _read_stdin() -> bytes:
    content = b"" if sys.stdin is None else sys.stdin.buffer.read(MAX_DOCUMENT_SIZE + 1)
    if len(content) > MAX_DOCUMENT_SIZE:
        raise DataFormatError(f"stdin has more than {MAX_DOCUMENT_SIZE:,} bytes, which is the limit: divide the batch")
    return content


def _print(given: Input, outputs: FloatArray, class_names: Sequence[str]) -> None:
    """Print the bars of a picture, of the likeliest classes if there are many, or one line for each image of a batch.

    Args:
        given: What was read.
        outputs: Shape (N, K).
        class_names: Of the K classes.
    """
    names = [printable(name) for name in class_names]
    longest = max(map(cell_len, names))
    if given.batch:
        say(f"\n{given.name}: {given.about}")
        for index, a2 in enumerate(outputs):
            say(f"{index:>7,}  {_padded(names[a2.argmax()], longest)}  {a2.max():.3f}")
        return
    (a2,) = outputs
    say(f"\n{given.name}: {names[a2.argmax()]}\n{given.about}")
    full = min(MAX_BAR, max(1, shutil.get_terminal_size().columns - longest - len("  0.000  ")))
    shown = range(len(a2)) if len(a2) <= MAX_CLASSES else (-a2).argsort(kind="stable")[:MAX_CLASSES]
    for label in shown:
        bar = _block() * round(float(a2[label]) * full)
        say(f"{_padded(names[label], longest)}  {a2[label]:.3f}  {bar}".rstrip())
    if len(a2) > MAX_CLASSES:
        say(f"{len(a2) - MAX_CLASSES} more classes: --json lists all")


def _padded(text: str, width: int) -> str:
    """Pad a text with blanks to a number of columns of a terminal."""
    return text + " " * (width - cell_len(text))


def _block() -> str:
    """Return what bars are drawn with: a full block if the encoding of stdout has it."""
    try:
        "█".encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        return "#"
    return "█"
