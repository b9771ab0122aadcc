"""Parts: cut by the configuration alone, trained to the bits of single runs, resumed, and evaluated where they run."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest

from mnist_bp.config import RunConfig
from mnist_bp.errors import ConfigError, ConflictError, DivergenceError, StoreError
from mnist_bp.layout import part_name, run_key
from mnist_bp.model.parameters import Model
from mnist_bp.model.sweep import MAX_TOGETHER
from mnist_bp.pipeline import open_run
from mnist_bp.results.dataset import CachedDataset
from mnist_bp.results.training import TrainedRun
from mnist_bp.storage.address import open_store
from mnist_bp.training import local_runner
from mnist_bp.training.checkpoints import decode_checkpoint, load_checkpoint
from mnist_bp.training.interrupted import InterruptedRun, find_interrupted_run
from mnist_bp.training.journal import JOURNAL
from mnist_bp.training.local_runner import LocalRunner
from mnist_bp.training.part_evaluation import evaluate_parts
from mnist_bp.training.part_run import train_in_parts
from mnist_bp.training.part_training import load_part_data, train_part
from mnist_bp.training.parts import Part, PartContext, PartResult, cut_into_parts
from mnist_bp.training.run import train_run
from tests.support.waiting import HANG_S

RUN_ID = "20261128T072013Z-1d4ef8bd"
SWEEP = "learning_rate=0.1,0.3 hidden=4,6"


def config_with(**settings: object) -> RunConfig:
    common = {"dataset": "mnist-sample", "steps": 40, "checkpoint_every": 20, "engine": "cpu", "sweep": SWEEP}
    return RunConfig.model_validate({**common, **settings})


def context_of(config: RunConfig, data: CachedDataset) -> PartContext:
    held_out = config.held_out(data.train_examples)
    return PartContext(
        RUN_ID, str(Path("store").absolute()), data.train, data.test, data.shape, held_out, "cpu", "cpu", {}
    )


def stored_models(config: RunConfig, number: int, step: int = 40) -> list[Model]:
    content = open_store(config.artifacts).get(run_key(RUN_ID, part_name(step, number)))
    return decode_checkpoint(content, "part")


def digests(trained: TrainedRun) -> dict[str, str]:
    assert trained.parts is not None
    own = {str(point.step): point.file.sha256 for point in trained.checkpoints}
    return own | {name: file.sha256 for name, file in trained.parts.files.items()}


# ---------------------------------------------------------------------------------------------------------------------
# the cut


def test_every_combination_and_seed_is_in_one_part_with_models_of_its_shape_and_equations() -> None:
    sweep = "learning_rate=0.1,0.3,0.5 hidden=4,6 loss=squared_error,cross_entropy shift=0,1"
    config = config_with(sweep=sweep, seeds="1..11")
    parts = cut_into_parts(config)
    assert [part.number for part in parts] == list(range(len(parts)))
    assert len(parts) == 2 * 2 * 2  # 3 x 2 x 11 models of each shape and loss, in parts of at most 64
    members = [member for part in parts for member in part.members]
    found = {(tuple(member.settings.items()), member.seed) for member in members}
    assert len(found) == len(members) == config.grid.models == 3 * 2 * 2 * 2 * 11
    for part in parts:
        assert len(part.members) <= MAX_TOGETHER
        for name in ("hidden", "batch_size", "loss", "activation", "bias_gradient"):
            assert {member.settings.get(name, getattr(config, name)) for member in part.members} == {part.config[name]}


def test_the_parts_do_not_depend_on_the_value_that_a_swept_setting_has_otherwise() -> None:
    assert cut_into_parts(config_with(learning_rate=0.7, hidden=9)) == cut_into_parts(config_with())
    assert cut_into_parts(config_with(batch_size=20)) != cut_into_parts(config_with())


def test_64_seeds_are_trained_in_one_piece_and_65_or_a_sweep_in_parts() -> None:
    assert not config_with(sweep=None, seeds="64").grid.in_parts
    assert config_with(sweep=None, seeds="65").grid.in_parts
    assert config_with(sweep="hidden=4").grid.in_parts


# ---------------------------------------------------------------------------------------------------------------------
# bits


def test_each_model_of_a_sweep_has_the_bits_of_a_run_that_trains_it_alone(sample: CachedDataset) -> None:
    config = config_with(sweep="learning_rate=0.1,0.3 hidden=4,6 schedule=constant,linear shift=0,1", seeds="2..3")
    train_in_parts(config, sample, RUN_ID)
    held_out = config.held_out(sample.train_examples)
    for part in cut_into_parts(config):
        models = stored_models(config, part.number)
        for place in (0, 7, len(part.members) - 1):
            member = part.members[place]
            alone = config.model_copy(
                update={**member.settings, "sweep": None, "seed": member.seed, "seeds": None}
                | {"validation_examples": held_out}
            )
            (expected,) = load_checkpoint(train_run(alone, sample).checkpoints[-1].file)
            for found, other in zip(models[place], expected, strict=True):
                np.testing.assert_array_equal(found, other)


def test_a_part_puts_the_same_bytes_on_one_core_and_on_two(sample: CachedDataset) -> None:
    config = config_with(keep="all")
    part, context = cut_into_parts(config)[1], context_of(config, sample)
    data = load_part_data(context)
    puts: list[tuple[str, bytes, str]] = []
    for threads in (1, 2):
        train_part(part, data, threads, lambda *put: puts.append(put))
    assert [name for name, _, _ in puts] == 2 * [part_name(step, 1) for step in (20, 40)]
    assert puts[:2] == puts[2:]


@pytest.mark.parametrize(("keep", "steps"), [("last", [40]), ("all", [20, 40])])
def test_keep_decides_whose_weights_are_stored_and_never_which_steps_are_scored(
    keep: str, steps: list[int], sample: CachedDataset
) -> None:
    trained = train_in_parts(config_with(keep=keep), sample, RUN_ID)
    assert trained.parts is not None
    assert set(trained.parts.files) == {part_name(step, number) for step in steps for number in (0, 1)}
    assert [point.step for point in trained.checkpoints] == steps
    models = evaluate_parts(sample, trained).models
    assert models is not None
    assert models.steps == (20, 40)


def test_the_models_are_scored_as_single_runs_are_and_the_best_on_validation_is_the_run_s(
    sample: CachedDataset,
) -> None:
    trained = train_in_parts(config_with(seeds="1..3", steps=300, checkpoint_every=300), sample, RUN_ID)
    evaluation = evaluate_parts(sample, trained)
    models = evaluation.models
    assert models is not None
    assert evaluation.final.validation_accuracy == models.validation[-1].max()
    own = dict(models.settings[models.combination[models.best]])
    assert {name: trained.config[name] for name in own} == own
    assert evaluation.seed == trained.seed == models.seeds[models.best]
    right = sum(row[label] for label, row in enumerate(evaluation.confusion))
    assert right / 1_000 == evaluation.final.accuracy


# ---------------------------------------------------------------------------------------------------------------------
# divergence


def test_a_model_that_diverges_has_no_scores_and_does_not_end_the_sweep(
    sample: CachedDataset, caplog: pytest.LogCaptureFixture
) -> None:
    config = config_with(sweep="learning_rate=0.01,1e38", activation="relu", initial="scaled", seeds="1..2")
    trained = train_in_parts(config, sample, RUN_ID)
    models = evaluate_parts(sample, trained).models
    assert models is not None
    assert (models.diverged, trained.config["learning_rate"]) == (2, 0.01)
    assert np.isnan(models.accuracy[:, 2:]).all()
    assert not np.isnan(models.accuracy[:, :2]).any()
    assert all(not stored.W1.any() for stored in stored_models(config, 0)[2:])
    assert "2 of 4 models diverged" in caplog.text


def test_one_part_is_not_several() -> None:
    run = InterruptedRun(RUN_ID, "", "", "mnist", "cpu", (1,), 0, 40, in_progress=False, parts=1)
    assert run.status == "interrupted, 0 of 1 part is trained"


def test_a_sweep_whose_models_all_diverge_fails_in_one_line(sample: CachedDataset) -> None:
    config = config_with(sweep="learning_rate=1e37,1e38", activation="relu", initial="scaled")
    with pytest.raises(DivergenceError, match="none of the 2 models has finite weights after step 40"):
        train_in_parts(config, sample, RUN_ID)


# ---------------------------------------------------------------------------------------------------------------------
# interruptions


class KilledError(Exception):
    """Stands for a killed process."""


@pytest.fixture
def trained_numbers(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the parts that the local runner was given."""
    numbers: list[int] = []
    run = LocalRunner.run

    def recording(self: LocalRunner, parts: Sequence[Part], context: PartContext) -> object:
        numbers.extend(part.number for part in parts)
        return run(self, parts, context)

    monkeypatch.setattr(LocalRunner, "run", recording)
    return numbers


def test_a_sweep_interrupted_after_any_part_is_resumed_with_the_others_to_the_same_digests(
    sample: CachedDataset, trained_numbers: list[int]
) -> None:
    config = config_with(sweep="hidden=3,4,5")
    whole = digests(train_in_parts(config, sample, RUN_ID))

    def interrupt(completed: float, total: float | None, note: str) -> None:
        raise KilledError

    other = config.model_copy(update={"data_dir": "other", "artifacts": "others"})
    for _ in range(2):
        trained_numbers.clear()
        with pytest.raises(KilledError):
            train_in_parts(other, sample, RUN_ID, on_progress=interrupt)
    unfinished = find_interrupted_run("other", RUN_ID)
    assert unfinished is not None
    assert unfinished.status == "interrupted, 2 of 3 parts are trained"
    trained_numbers.clear()
    assert digests(train_in_parts(other, sample, RUN_ID)) == whole
    assert len(trained_numbers) == 1
    finished = find_interrupted_run("other", RUN_ID)
    assert finished is not None
    assert finished.status == "trained, all 40 steps"


@pytest.mark.parametrize("lost", ["line", "scores", "file"])
def test_a_part_without_its_line_its_scores_or_its_file_is_trained_again(
    lost: str, sample: CachedDataset, trained_numbers: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    config = config_with()
    whole = train_in_parts(config, sample, RUN_ID)
    directory = Path(whole.directory)
    journal, numbers = directory / JOURNAL, {"line": None, "scores": 1, "file": 1}
    if lost == "line":
        *others, last = journal.read_bytes().splitlines(keepends=True)
        numbers["line"] = json.loads(last)["number"]
        journal.write_bytes(b"".join(others) + last[:40])
    elif lost == "scores":
        (directory / "scores/part-00001.safetensors").write_bytes(b"damaged")
    else:
        (Path("artifacts") / run_key(RUN_ID, part_name(40, 1))).unlink()
    trained_numbers.clear()
    assert digests(train_in_parts(config, sample, RUN_ID)) == digests(whole)
    assert trained_numbers == [numbers[lost]]
    assert caplog.text.count("WARNING") == 1
    trained_numbers.clear()
    train_in_parts(config, sample, RUN_ID)
    assert trained_numbers == []


def test_a_file_of_a_part_that_another_program_changed_is_named_and_once_deleted_its_part_is_trained_again(
    sample: CachedDataset, trained_numbers: list[int]
) -> None:
    config = config_with()
    whole = digests(train_in_parts(config, sample, RUN_ID))
    file = Path("artifacts") / run_key(RUN_ID, part_name(40, 1))
    file.write_bytes(b"cut")
    trained_numbers.clear()
    with pytest.raises(
        ConflictError, match=r"part-00001\.safetensors has 3 bytes, and was put with .*; delete it, then"
    ):
        train_in_parts(config, sample, RUN_ID)
    assert trained_numbers == []
    file.unlink()
    assert digests(train_in_parts(config, sample, RUN_ID)) == whole
    assert trained_numbers == [1]


def test_a_part_that_fails_ends_the_run_with_its_error_and_those_that_are_done_are_kept(
    sample: CachedDataset, trained_numbers: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, both_trained = config_with(), Barrier(2)

    def fail_one(part: Part, *rest: Any) -> PartResult:
        result = train_part(part, *rest)
        both_trained.wait(HANG_S)
        if part.number == 0:
            raise StoreError("the store is full; free some space")
        return result

    with monkeypatch.context() as patch:
        patch.setattr(local_runner, "train_part", fail_one)
        patch.setattr(local_runner, "usable_cores", lambda: 2)
        with pytest.raises(StoreError, match="the store is full"):
            train_in_parts(config, sample, RUN_ID)
    trained_numbers.clear()
    assert train_in_parts(config, sample, RUN_ID).models == 4
    assert trained_numbers == [0]


def test_a_runner_for_parts_is_refused_for_a_run_that_has_none() -> None:
    with pytest.raises(ConfigError, match="runner ray: expected a sweep, or more than 64 seeds"):
        open_run(config_with(sweep=None, runner="ray"))
