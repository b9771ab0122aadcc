"""Parts: a sweep, or a run of many seeds, cut into groups of models that are trained in one call of an engine.

    models of a run  ->  parts of at most 64 models of one shape  ->  files and scores of each part

The cut is a function of the configuration alone, never of the machine, so that every machine computes the same files. A
part is trained where a runner puts it: `train_part` in `mnist_bp.training.part_training` needs neither the driver's
files nor its memory, and a part that is trained twice puts the same bytes twice, which a store accepts.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from mnist_bp.model.recipe import Recipe, recipe_of
from mnist_bp.model.steps import checkpoint_steps
from mnist_bp.model.sweep import MAX_TOGETHER, SWEEPABLE
from mnist_bp.results.common import FileDigest
from mnist_bp.results.dataset import DatasetShape
from mnist_bp.results.evaluation import ScoreColumns

if TYPE_CHECKING:
    from mnist_bp.config import RunConfig

SHARED: Final = ("hidden", "batch_size", "loss", "activation", "bias_gradient")
"""Settings that all models of a call of an engine share; see `mnist_bp.engines.interface.ResidentData.advance`."""

PART_SETTINGS: Final = (*SWEEPABLE, "steps", "checkpoint_every", "keep")
"""The settings of a run that a part is trained by."""


class Member(NamedTuple):
    """A model of a run.

    Args:
        settings: The settings that are swept, with the values of this model; the others are the run's.
        seed: Its seed.
    """

    settings: Mapping[str, Any]
    seed: int


@dataclass(frozen=True)
class Part:
    """Models that are trained in one call of an engine.

    Args:
        number: Of the part within its run, from 0.
        config: The run's `PART_SETTINGS`, as JSON values, without those that differ between these models.
        members: At least one model, at most `MAX_TOGETHER`.
    """

    number: int
    config: Mapping[str, Any]
    members: tuple[Member, ...]

    def recipe(self, member: Member) -> Recipe:
        """Return the recipe of one of the models."""
        return recipe_of({**self.config, **member.settings})

    @property
    def checkpoint_steps(self) -> tuple[int, ...]:
        """The steps after which the models are scored."""
        return checkpoint_steps(self.config["checkpoint_every"], self.config["steps"])

    @property
    def kept_steps(self) -> tuple[int, ...]:
        """The steps whose weights are kept."""
        return self.checkpoint_steps if self.config["keep"] == "all" else self.checkpoint_steps[-1:]


def cut_into_parts(config: RunConfig) -> tuple[Part, ...]:
    """Cut the models of a run into parts. The result depends on the configuration alone.

    Models of one shape and one set of equations go together, in the order in which the sweep lists them.
    """
    record, grid = config.model_dump(mode="json"), config.grid
    common = {name: record[name] for name in PART_SETTINGS if name not in grid.swept}
    groups: dict[tuple[Any, ...], list[Member]] = {}
    for settings in grid.combinations:
        shared = {**common, **settings}
        group = groups.setdefault(tuple(shared[name] for name in SHARED), [])
        group.extend(Member(settings, seed) for seed in grid.seeds)
    parts: list[Part] = []
    for values, members in groups.items():
        shared = {**common, **dict(zip(SHARED, values, strict=True))}
        for few in _batched(members, MAX_TOGETHER):
            parts.append(Part(len(parts), shared, few))
    return tuple(parts)


def _batched(members: Iterable[Member], size: int) -> Iterator[tuple[Member, ...]]:
    rest = iter(members)
    while few := tuple(islice(rest, size)):
        yield few


# ---------------------------------------------------------------------------------------------------------------------
# results


class PartFile(NamedTuple):
    """A file that a part has put into the store.

    Args:
        name: Below the run's prefix, such as `checkpoints/step-0010000/part-00012.safetensors`.
        sha256: Digest of its bytes, 64 hex digits.
        size: In bytes.
    """

    name: str
    sha256: str
    size: int


@dataclass(frozen=True)
class PartResult:
    """A part that is trained and scored, and whose files are in the store.

    Args:
        number: Number of the part.
        files: One for each of `Part.kept_steps`.
        scores: Of its models, in their order.
        seconds: Time spent in training steps.
        evaluation_seconds: Time spent on scores.
        store_seconds: Time spent on making the files and putting them.
        node: Where it was trained: the name of the machine.
    """

    number: int
    files: tuple[PartFile, ...]
    scores: ScoreColumns
    seconds: float
    evaluation_seconds: float
    store_seconds: float
    node: str


# ---------------------------------------------------------------------------------------------------------------------
# runners


@dataclass(frozen=True)
class PartContext:
    """What all parts of a run have in common, except for their settings.

    Args:
        run_id: Id of the run.
        artifacts: Absolute address of the store.
        train, test: The Parquet files of the dataset.
        shape: Of its images.
        held_out: Number of images at the end of the training split that the models are chosen by, at least 1.
        engine, device: Name and device of the engine.
        about: What the metadata of every file says of dataset and engine; JSON values.
    """

    run_id: str
    artifacts: str
    train: FileDigest
    test: FileDigest
    shape: DatasetShape
    held_out: int
    engine: str
    device: str
    about: Mapping[str, Any]


class Runner(Protocol):
    """Trains parts somewhere."""

    def run(self, parts: Sequence[Part], context: PartContext) -> Generator[PartResult, None, None]:
        """Train parts, each by `mnist_bp.training.part_training.train_part`.

        Closing the iterator, or an error, ends the work that has not begun. Before an error is raised, the results of
        the parts that are done are yielded.

        Args:
            parts: Those that are still to be trained.
            context: Of the run.

        Yields:
            Results as they become available, in any order.

        Raises:
            MnistBpError: A part failed; a message of several lines is logged whole.
        """
        ...
