"""Training one part: it is trained, scored at each checkpoint, and its files are put straight into the store.

Needs neither Prefect nor the configuration, so that it runs on a machine of a cluster as it does here.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from mnist_bp.data.parquet import load_split
from mnist_bp.engines.choose import same_engine
from mnist_bp.engines.interface import Engine
from mnist_bp.engines.parallel import at_most_cores, on_every_core
from mnist_bp.errors import MnistBpError
from mnist_bp.layout import part_name, run_key
from mnist_bp.model.parameters import Model, Parameters, UInt8Array, all_finite, initial_parameters
from mnist_bp.model.recipe import Recipe
from mnist_bp.results.evaluation import CheckpointScore, ScoreColumns
from mnist_bp.storage.address import open_store
from mnist_bp.storage.reading import sha256_of_bytes
from mnist_bp.training.checkpoints import METADATA_KEY
from mnist_bp.training.evaluation import Evaluator
from mnist_bp.training.loop import CHUNK_EXAMPLES, CHUNK_STEPS, ExampleOrder
from mnist_bp.training.parts import Member, Part, PartContext, PartFile, PartResult
from mnist_bp.training.shifts import Shifts

Put = Callable[[str, bytes, str], None]
"""Puts a file into the run's store: its name below the run's prefix, its bytes, and their SHA-256."""

MAX_CHUNK_EXAMPLES: Final = 1_000_000
"""Largest number of examples that all models of a part are given in one call, 12 bytes each."""


class PartStoppedError(MnistBpError):
    """A part was stopped, since its run has failed or was interrupted."""


class PartData:
    """A dataset as an engine has loaded it, once for all parts that a process trains.

    Args:
        engine: Engine that trains and predicts.
        images, labels: The training split, pixels in [0, 255], shape (N, D), and classes in [0, K), shape (N,). They
            may be read-only; they are kept, to move the images.
        test_images, test_labels: The test split.
        context: Of the run.
    """

    def __init__(
        self,
        engine: Engine,
        images: UInt8Array,
        labels: UInt8Array,
        test_images: UInt8Array,
        test_labels: UInt8Array,
        context: PartContext,
    ) -> None:
        self.context: Final = context
        self.images: Final = images[: -context.held_out]
        classes, held_out = context.shape.classes, slice(-context.held_out, None)
        self.resident: Final = engine.load(self.images, labels[: -context.held_out], classes)
        lab = context.shape.has_lab_figure(len(test_images))
        self.test: Final = Evaluator(engine, test_images, test_labels, Recipe(), classes, lab=lab)
        self.validation: Final = Evaluator(engine, images[held_out], labels[held_out], Recipe(), classes, lab=False)
        self._shifts: dict[int, Shifts] = {}

    def shifts(self, reach: int) -> Shifts | None:
        """Return how the training images are moved by up to `reach` pixels; None for 0."""
        if not reach:
            return None
        if reach not in self._shifts:
            self._shifts[reach] = Shifts(self.images, self.context.shape.width, reach)
        return self._shifts[reach]


def load_part_data(context: PartContext) -> PartData:
    """Read the dataset from the Parquet cache, and load it into the engine of the run.

    Raises:
        ChecksumError, DataFormatError, StoreError: A file of the cache is damaged or missing.
        ConfigError: The engine cannot run on this machine.
    """
    engine = same_engine(context.engine, context.device, shape=context.shape)
    return PartData(engine, *load_split(context.train), *load_split(context.test), context)


def put_into_store(context: PartContext) -> Put:
    """Return a function that puts files of a run into its store."""
    store = open_store(context.artifacts)
    return lambda name, content, sha256: store.put(run_key(context.run_id, name), content, sha256)


def train_part(
    part: Part, data: PartData, threads: int, put: Put, stopped: Callable[[], bool] = lambda: False
) -> PartResult:
    """Train the models of a part, score them at each checkpoint, and put the weights that are kept.

    A model that diverges does not end its part: its weights are zeros from then on, and it has no more scores.

    Args:
        part: The part.
        data: The dataset of the run.
        threads: Number of cores to use, at least 1.
        put: Puts a file; it is called with the same names and bytes whenever the same part is trained.
        stopped: Returns whether the part is no longer wanted; called every few steps.

    Raises:
        ConfigError: The images cannot be moved as a recipe says.
        PartStoppedError: The part is no longer wanted.
        MnistBpError: As `put` does.
    """
    with at_most_cores(threads):
        return _PartRun(part, data, put, stopped).result()


@dataclass
class _PartRun:
    part: Part
    data: PartData
    put: Put
    stopped: Callable[[], bool]
    seconds: float = 0.0
    evaluation_seconds: float = 0.0
    store_seconds: float = 0.0
    files: list[PartFile] = field(default_factory=list)

    def result(self) -> PartResult:
        """Train the part from its first step."""
        started = time.perf_counter()
        recipes = [self.part.recipe(member) for member in self.part.members]
        models = on_every_core(self._initial_model, self.part.members, recipes)
        orders = list(map(self._order, self.part.members, recipes))
        diverged = np.zeros(len(models), np.bool_)
        self.seconds = time.perf_counter() - started
        scores, step = [], 0
        for checkpoint in self.part.checkpoint_steps:
            models = self._advance(models, orders, diverged, step, checkpoint)
            step = checkpoint
            scores.append(self._score(models, diverged, recipes[0], step))
            if step in self.part.kept_steps:
                self._put_weights(models, step)
        return PartResult(
            number=self.part.number,
            files=tuple(self.files),
            scores=_stacked(scores),
            seconds=self.seconds,
            evaluation_seconds=self.evaluation_seconds,
            store_seconds=self.store_seconds,
            node=platform.node(),
        )

    def _initial_model(self, member: Member, recipe: Recipe) -> Model:
        shape = self.data.context.shape
        return initial_parameters(member.seed, shape.inputs, self.part.config["hidden"], shape.classes, recipe.gain)

    def _order(self, member: Member, recipe: Recipe) -> ExampleOrder:
        shifts = self.data.shifts(recipe.shift)
        return ExampleOrder(member.seed, len(self.data.images), self.part.config["batch_size"], recipe, shifts)

    def _advance(
        self,
        models: Sequence[Model],
        orders: Sequence[ExampleOrder],
        diverged: npt.NDArray[np.bool_],
        start: int,
        end: int,
    ) -> list[Model]:
        """Train all models that have not diverged from one checkpoint to the next, and mark those that do."""
        started, models = time.perf_counter(), list(models)
        batch_size, recipe = self.part.config["batch_size"], self.part.recipe(self.part.members[0])
        chunk = max(1, min(CHUNK_STEPS, CHUNK_EXAMPLES // batch_size, MAX_CHUNK_EXAMPLES // batch_size // len(models)))
        for step in range(start, end, chunk):
            active = [index for index in range(len(models)) if not diverged[index]]
            if not active:
                break
            if self.stopped():
                raise PartStoppedError(f"part {self.part.number} was stopped at step {step:,}")
            stop = min(step + chunk, end)
            batches = on_every_core(lambda index, at=step, to=stop: orders[index].batches(at, to), active)
            advanced = self.data.resident.advance([models[index] for index in active], batches, recipe)
            for index, after in zip(active, advanced, strict=True):
                diverged[index] = not all_finite(after)
                models[index] = after.map(np.zeros_like) if diverged[index] else after
        self.seconds += time.perf_counter() - started
        return models

    def _score(
        self, models: Sequence[Model], diverged: npt.NDArray[np.bool_], recipe: Recipe, step: int
    ) -> list[_Score | None]:
        started = time.perf_counter()
        test, validation = self.data.test.with_recipe(recipe), self.data.validation.with_recipe(recipe)

        def score(model: Model, failed: bool) -> _Score | None:
            return None if failed else (test.score(0, step, model), validation.accuracy(model))

        scores = on_every_core(score, models, diverged.tolist())
        self.evaluation_seconds += time.perf_counter() - started
        return scores

    def _put_weights(self, models: Sequence[Model], step: int) -> None:
        started, part = time.perf_counter(), self.part
        about = {
            **self.data.context.about,
            "config": dict(part.config),
            "members": [dict(member.settings) for member in part.members],
            "part": part.number,
            "seeds": [member.seed for member in part.members],
            "step": step,
        }
        stacked: Model = Parameters(*map(np.stack, zip(*models, strict=True)))
        content = safetensors.numpy.save(stacked._asdict(), {METADATA_KEY: json.dumps(about, sort_keys=True)})
        file = PartFile(part_name(step, part.number), sha256_of_bytes(content), len(content))
        self.put(file.name, content, file.sha256)
        self.files.append(file)
        self.store_seconds += time.perf_counter() - started


_Score = tuple[CheckpointScore, float]
"""Of a model, on the test images, and its accuracy on the held-out images."""


def _stacked(scores: Sequence[Sequence[_Score | None]]) -> ScoreColumns:
    """Stack the scores of S checkpoints of M models."""
    classes = next((len(one[0].accuracy_per_class) for step in scores for one in step if one), 0)
    columns = np.full((len(scores), len(scores[0]), 4 + classes), np.nan)
    for step, models in enumerate(scores):
        for index, one in enumerate(models):
            if one is not None:
                score, validation = one
                lab = np.nan if score.lab_correct_of_1000 is None else score.lab_correct_of_1000
                columns[step, index] = (score.accuracy, score.loss, lab, validation, *score.accuracy_per_class)
    accuracy, loss, lab, validation = np.moveaxis(columns[..., :4], -1, 0)
    return ScoreColumns(accuracy, loss, lab, validation, columns[..., 4:])
