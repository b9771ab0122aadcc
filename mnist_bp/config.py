"""The configuration of a run: one frozen model for the flow's parameter, the command line's flags and the manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from mnist_bp.data.choice import Dataset
from mnist_bp.data.datasets import DATASETS
from mnist_bp.data.own.address import absolute_dataset, check_image_size, dataset_name, is_own
from mnist_bp.errors import ConfigError
from mnist_bp.model.grid import ModelGrid
from mnist_bp.model.recipe import (
    MAX_SHIFT,
    SECOND_FORMS,
    Activation,
    BiasGradient,
    Initial,
    Loss,
    Recipe,
    Schedule,
    recipe_of,
)
from mnist_bp.model.seeds import parse_seeds, seeds_range
from mnist_bp.model.steps import MAX_STEPS, check_checkpoints, held_out
from mnist_bp.model.sweep import SWEEPABLE, count_models, parse_sweep
from mnist_bp.storage.address import absolute_address
from mnist_bp.storage.places import (
    IN_A_FORM,
    Directory,
    StoreAddress,
    TrackAddress,
    artifacts_from_environment,
    data_dir_from_environment,
    or_default,
)

EngineChoice = Literal["auto", "reference", "cpu", "cuda"]
Certify = Literal["once", "always"]
RunnerChoice = Literal["local", "ray"]
Keep = Literal["last", "all"]

DEFAULT_STEPS: Final = 10_000

PLACES: Final = frozenset({"data_dir", "artifacts", "track"})
"""Settings that state where a run is stored and logged; they do not change its results."""


class RunConfig(BaseModel):
    """Everything that decides what a run does. Credentials and endpoints come from the AWS_* environment instead.

    The places, `data_dir`, `artifacts` and `track`, are those of the process that runs, unless they are given. They are
    not dumped, so that the parameters of a deployment do not contain those of the machine that deploys.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,  # an address may hold a secret
        use_attribute_docstrings=True,
        title="mnist-bp run",
    )

    dataset: Dataset = "auto"
    """auto (mnist or mnist-sample), mnist, fashion-mnist, kmnist, mnist-sample, images:PATH, idx:PATH, parquet:URI."""

    image_size: Annotated[str | None, or_default(lambda: None)] = None
    """Size to convert pictures of your own to, WIDTHxHEIGHT in pixels; default: the size that all of them have."""

    skip_unreadable: bool = False
    """Leave out pictures of your own that cannot be read, and record their number, rather than refuse the run."""

    steps: int = Field(default=DEFAULT_STEPS, ge=1, le=MAX_STEPS)
    """Training steps, one batch each; one epoch of MNIST is 6,000 at batch size 10."""

    epochs: int | None = Field(default=None, ge=1, exclude_if=lambda epochs: epochs is None)
    """Training steps, as passes over the training examples (auto counts as mnist); set this or the steps, not both."""

    batch_size: int = Field(default=10, ge=1)
    """Examples per step; an epoch's last partial batch is dropped."""

    learning_rate: float = Field(default=0.5, gt=0, le=3e38, allow_inf_nan=False)
    """Learning rate, representable as float32; it multiplies sums over the batch, so it depends on the batch size."""

    schedule: Schedule = "constant"
    """Learning rate of later steps: constant, or falling linearly to zero after the last step."""

    initial: Initial = "normal"
    """Initial weights: N(0, 1) for weights and biases, as in the lab, or scaled to the number of inputs, biases 0."""

    loss: Loss = "squared_error"
    """What training minimizes: the squared error, as in the lab, or the cross-entropy."""

    activation: Activation = "sigmoid"
    """Activation of the hidden units: sigmoid, as in the lab, or relu, which needs scaled initial weights."""

    shift: int = Field(default=0, ge=0, le=MAX_SHIFT)
    """Move each training image at random, by up to this many pixels along both axes, differently in each epoch."""

    bias_gradient: BiasGradient = "mean"
    """Reduction of the bias gradients over the batch; the lab takes the mean for biases and the sum for weights."""

    hidden: int = Field(default=30, ge=1, le=16_384)
    """Hidden units."""

    seed: int = Field(default=1, ge=0, lt=2**53)
    """Seed of the initial weights and of the order of the examples; below 2**53, so that JSON keeps it exact."""

    seeds: Annotated[str | None, or_default(lambda: None)] = None
    """Train one model per seed and publish the best: 1..64 (a range), 3,5,8 (a list), or 8 (a count, from seed on)."""

    sweep: Annotated[str | None, or_default(lambda: None)] = None
    """Train a model for each combination of these values and the seeds, as in "learning_rate=0.1,0.3 hidden=30,60"."""

    keep: Keep = "last"
    """Weights to keep of a sweep, or of more than 64 seeds: those of the last step, or of all checkpoints."""

    validation_examples: int | None = Field(default=None, ge=0)
    """Last training examples to hold out, to choose the best of several seeds; default: a twelfth, or 0 for one."""

    checkpoint_every: int = Field(default=1_000, ge=1, validate_default=True)
    """Steps between checkpoints; the last step always has one. A run has at most 100,000 checkpoints."""

    engine: EngineChoice = "auto"
    """Engine that computes the steps; auto = cuda from 8 seeds on if there is a GPU, else cpu, else reference."""

    certify: Certify = Field(default="once", exclude=True)
    """Check the engine's gradients once on a machine, and again only after changes, or always before the first step."""

    runner: RunnerChoice = Field(default="local", exclude=True)
    """Where the models of a sweep, or of more than 64 seeds, are trained: local (this machine), or ray (a cluster)."""

    data_dir: Annotated[Directory, or_default(data_dir_from_environment), IN_A_FORM] = Field(
        default_factory=data_dir_from_environment, exclude=True
    )
    """Directory of downloads, caches and runs in progress; default: $MNIST_BP_DATA_DIR, else ./data."""

    artifacts: Annotated[StoreAddress, or_default(artifacts_from_environment), IN_A_FORM] = Field(
        default_factory=artifacts_from_environment, exclude=True
    )
    """Store for finished runs, a directory or s3://bucket/prefix; default: $MNIST_BP_ARTIFACTS, else ./artifacts."""

    track: Annotated[TrackAddress | None, or_default(lambda: None)] = Field(default=None, exclude=True)
    """Log the published run to an MLflow server too: mlflow:http://HOST:PORT; default: $MNIST_BP_TRACK, else none."""

    significance: float = Field(default=0.05, gt=0, le=1, allow_inf_nan=False)
    """Highest chance that equally good runs ever replace a champion: challenge k needs p <= this / (k (k + 1))."""

    minimum_gain: float = Field(default=0.0, ge=0, le=1, allow_inf_nan=False)
    """A run replaces the champion only if it gains at least this in accuracy, as a share of the test images."""

    class_floor: float = Field(default=0.75, ge=0, le=1, allow_inf_nan=False)
    """A run replaces the champion only if its accuracy within every class is at least this."""

    allow_unsafe_promotion: bool = False
    """Promote even if the store ignores conditional writes, so that concurrent promotions can overwrite each other."""

    @field_validator("checkpoint_every")
    @classmethod
    def _check_checkpoint_every(cls, value: int, others: ValidationInfo) -> int:
        check_checkpoints(value, others.data.get("steps", 1))
        return value

    @field_validator("seeds")
    @classmethod
    def _check_seeds(cls, value: str | None, others: ValidationInfo) -> str | None:
        if value is not None:
            parse_seeds(value, others.data.get("seed", 0))
        return value

    @field_validator("sweep")
    @classmethod
    def _check_sweep(cls, value: str | None, others: ValidationInfo) -> str | None:
        if value is None:
            return None
        swept, seeds = parse_sweep(value), others.data.get("seeds")
        count_models(swept, 1 if seeds is None else len(parse_seeds(seeds, 0)))
        for name, texts in swept.items():
            found = [_swept_value(name, text) for text in texts]
            times = Counter(found)
            if repeated := [text for text, each in zip(texts, found, strict=True) if times[each] > 1]:
                raise ValueError(f"{name}={repeated[-1]} is repeated: expected each value once")
        if others.data.get("epochs") is not None and "batch_size" in swept:
            raise ValueError("epochs with a sweep of batch_size: expected steps, the same number for all models")
        return " ".join(f"{name}={','.join(texts)}" for name, texts in swept.items())

    @field_validator("image_size")
    @classmethod
    def _check_image_size(cls, value: str | None) -> str | None:
        return None if value is None else check_image_size(value)

    @model_validator(mode="after")
    def _take_steps_of_epochs(self) -> Self:
        if self.epochs is not None and not is_own(self.dataset):
            examples = DATASETS["mnist" if self.dataset == "auto" else self.dataset].train_examples
            self.__dict__ |= {"steps": self._steps_of_epochs(self.epochs, examples), "epochs": None}
            self.model_fields_set.add("steps")
        return self

    def for_examples(self, examples: int) -> Self:
        """Return the configuration with steps in place of epochs, whose length is known once own images are read.

        Args:
            examples: Rows of the training split.

        Raises:
            ConfigError: Steps are given too, and others; or there are too many, or too many checkpoints.
        """
        if self.epochs is None:
            return self
        try:
            steps = self._steps_of_epochs(self.epochs, examples)
        except ValueError as exc:
            raise ConfigError(str(exc)) from exc
        return self.model_copy(update={"steps": steps, "epochs": None})

    def _steps_of_epochs(self, epochs: int, examples: int) -> int:
        steps = epochs * ((examples - self.held_out(examples)) // self.batch_size)
        if self.steps not in (steps, DEFAULT_STEPS):
            raise ValueError(f"epochs {epochs} are {steps:,} steps, not {self.steps:,}: expected one of the two")
        if steps > MAX_STEPS:
            raise ValueError(f"epochs {epochs} are {steps:,} steps: expected at most {MAX_STEPS:,}")
        check_checkpoints(self.checkpoint_every, steps, f"checkpoint_every {self.checkpoint_every}: ")
        return steps

    @property
    def settings(self) -> RunConfig:
        """The settings alone, without the flags of a command."""
        return RunConfig.model_validate({name: getattr(self, name) for name in RunConfig.model_fields})

    @property
    def dataset_name(self) -> str:
        """Name under which the dataset's runs are kept, or `auto`."""
        return dataset_name(self.dataset)

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seeds to train, at least one."""
        return (self.seed,) if self.seeds is None else parse_seeds(self.seeds, self.seed)

    @property
    def grid(self) -> ModelGrid:
        """The models to train."""
        texts = {} if self.sweep is None else parse_sweep(self.sweep)
        swept = {name: tuple(_swept_value(name, text) for text in each) for name, each in texts.items()}
        return ModelGrid(dict(self), swept, self.seed_list)

    def with_swept(self, values: Mapping[str, Any]) -> Self:
        """Return the configuration with these values of the settings that are swept, such as those of one model."""
        return self.model_copy(update={name: values[name] for name in self.grid.swept})

    @property
    def variants(self) -> list[Self]:
        """One configuration for each set of equations and sizes that the models are trained by; itself for most."""
        return [self.model_copy(update=values) for values in self.grid.equations]

    @property
    def seeds_label(self) -> str:
        """The seeds as a label: `seed1`, `seeds1..64`, or `seeds3,5,8`."""
        return f"seed{'s' if len(self.seed_list) > 1 else ''}{seeds_range(self.seed_list)}"

    def held_out(self, examples: int) -> int:
        """Return how many of the training examples are held out; see `mnist_bp.model.steps.held_out`.

        Raises:
            ConfigError: Too few would be left to train on, or none to choose among several models by.
        """
        grid = self.grid
        return held_out(examples, self.validation_examples, grid.largest.batch_size, several=grid.several)

    @property
    def record(self) -> dict[str, Any]:
        """All settings that enter the manifest, as JSON values that are the same from any working directory."""
        places = {"dataset": absolute_dataset(self.dataset), "artifacts": absolute_address(self.artifacts)}
        return self.model_dump(mode="json") | places

    @property
    def chosen(self) -> dict[str, Any]:
        """The entries of `record` that differ from the defaults, which a form also sends."""
        defaults = RunConfig().record
        return {name: value for name, value in self.record.items() if value != defaults.get(name)}

    @property
    def training_record(self) -> dict[str, Any]:
        """The settings that, with a seed, decide the weights at a step; second forms only where they are used."""
        used = set(SWEEPABLE) - (SECOND_FORMS - self.chosen.keys())
        return self.model_dump(mode="json", include=used | ({"steps"} if self.schedule == "linear" else set()))

    @property
    def recipe(self) -> Recipe:
        """The settings that decide what a training step computes."""
        return recipe_of(dict(self))


@cache
def _type_of(name: str) -> TypeAdapter[Any]:
    field = RunConfig.model_fields[name]
    return TypeAdapter(Annotated[field.annotation, field])  # type: ignore[arg-type]  # built at run time


def _swept_value(name: str, text: str) -> Any:
    """Return a value of a sweep as the setting has it.

    Raises:
        ValueError: The setting cannot have it.
    """
    try:
        return _type_of(name).validate_python(text)
    except ValidationError as exc:
        expected = exc.errors()[0]["msg"].removeprefix("Input should be ")
        raise ValueError(f"{name}={text}: expected {expected}") from exc
