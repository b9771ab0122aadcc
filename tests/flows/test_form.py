"""The form that Prefect's UI shows for a deployment: its help is the docstrings of the flow and of `RunConfig`."""

from __future__ import annotations

from typing import Any

import pytest
from prefect import Flow
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools import ValidationError as ParametersInvalid
from prefect.utilities.schema_tools import validate
from pydantic import ValidationError

from flows.nightly import nightly
from flows.train import train
from mnist_bp.cli.flags import TrainCommand
from mnist_bp.config import RunConfig
from mnist_bp.data.datasets import DATASETS
from mnist_bp.errors import ConfigError


def described(flow: Flow[..., Any]) -> dict[str, str | None]:
    """Return the help of each parameter, and of each field of `config`, as `prefect deploy` stores it."""
    schema = parameter_schema(flow)
    fields = schema.definitions["RunConfig"]["properties"]
    return {name: entry.get("description") for name, entry in [*schema.properties.items(), *fields.items()]}


def errors_of(**settings: object) -> str:
    """Return why settings are refused for a dataset of 4,000 training examples."""
    with pytest.raises((ValidationError, ConfigError)) as refused:
        RunConfig.model_validate(settings).held_out(4_000)
    return str(refused.value)


@pytest.mark.parametrize(
    ("flow", "parameters"),
    [(train, {"config", "resume"}), (nightly, {"config", "timezone", "night"})],
    ids=["train", "nightly"],
)
def test_each_field_of_a_form_has_help_that_names_no_flag(flow: Flow[..., Any], parameters: set[str]) -> None:
    help_of = described(flow)
    assert set(help_of) == parameters | set(RunConfig.model_fields)
    assert [name for name, text in help_of.items() if not text or "--" in text] == []


@pytest.mark.parametrize("flow", [train, nightly])
def test_the_help_of_a_form_is_that_of_the_flags(flow: Flow[..., Any]) -> None:
    help_of = described(flow)
    for name in RunConfig.model_fields:
        assert help_of[name] == TrainCommand.model_fields[name].description


@pytest.mark.parametrize("flow", [train, nightly])
def test_a_field_of_a_form_that_was_emptied_counts_as_not_given(flow: Flow[..., Any]) -> None:
    optional = ("seeds", "track", "data_dir", "artifacts")
    emptied = dict.fromkeys(optional, "")
    schema = parameter_schema(flow).model_dump_for_openapi()
    validate({"config": emptied}, schema, raise_on_error=True)  # as Prefect's server does
    for empty in (emptied, dict.fromkeys(optional, " ")):
        parameters = flow.validate_parameters({"config": empty})
        assert parameters["config"] == RunConfig(dataset=parameters["config"].dataset)


@pytest.mark.parametrize("flow", [train, nightly])
def test_a_form_offers_the_names_of_datasets_and_takes_an_address(flow: Flow[..., Any]) -> None:
    schema = parameter_schema(flow).model_dump_for_openapi()
    names, address = schema["definitions"]["RunConfig"]["properties"]["dataset"]["anyOf"]
    assert names["enum"] == ["auto", *DATASETS]
    assert address["type"] == "string"
    for dataset in (*DATASETS, "images:/zoo", "parquet:s3://bucket/zoo"):
        validate({"config": {"dataset": dataset}}, schema, raise_on_error=True)  # as Prefect's server does
    with pytest.raises(ParametersInvalid, match="'cifar' is not valid"):
        validate({"config": {"dataset": "cifar"}}, schema, raise_on_error=True)


def test_a_run_to_resume_that_was_emptied_counts_as_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def open_run(config: RunConfig, resume: str | None) -> None:
        asked.append(resume)
        raise ConfigError("asked")

    monkeypatch.setattr("flows.train.open_run", open_run)
    with pytest.raises(ConfigError, match="asked"):
        train.fn(RunConfig(), "")
    assert asked == [None]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"seeds": "5..1"}, "lower seed first"),
        ({"checkpoint_every": 1, "steps": 10**9}, "expected at least 10,000 of 1,000,000,000 steps"),
        ({"artifacts": "ftp://host"}, "expected a directory or s3://bucket/prefix"),
        ({"batch_size": 4_001}, "batch size 4001: expected at most the 4000 training examples"),
        ({"validation_examples": 4_000}, "4000 validation examples: expected at most 3990"),
        ({"seeds": "3", "validation_examples": 0}, "0 validation examples: expected at least 1"),
    ],
)
def test_settings_of_a_form_are_refused_without_naming_a_flag(settings: dict[str, object], expected: str) -> None:
    message = errors_of(**settings)
    assert expected in message
    assert "--" not in message
