"""The flags of all commands: declared as pydantic fields, parsed by pydantic-settings, refused in one line each."""

from __future__ import annotations

import sys
from argparse import HelpFormatter
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    CliApp,
    CliSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from mnist_bp.cli.flag_texts import add_argument, describe_error, describe_usage
from mnist_bp.cli.process import print_error
from mnist_bp.config import RunConfig
from mnist_bp.errors import ConfigError, StoreError
from mnist_bp.model.sweep import parse_sweep
from mnist_bp.presets import MNIST_LIMITS, PRESETS, PresetName
from mnist_bp.storage.address import absolute_address, open_existing_store, open_store
from mnist_bp.storage.interface import Store
from mnist_bp.storage.places import Directory, StoreAddress, artifacts_from_environment, data_dir_from_environment
from mnist_bp.training.interrupted import list_interrupted_runs

AnyCommand = TypeVar("AnyCommand", bound="Flags")


class Flags(BaseSettings):
    """What all commands share: flags from fields."""

    model_config = SettingsConfigDict(
        cli_kebab_case=True,
        cli_hide_none_type=True,
        cli_implicit_flags="toggle",  # --flag, not --flag true
        cli_exit_on_error=False,
        populate_by_name=True,
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read flags only, so that an unrelated STEPS in the environment has no effect."""
        return (init_settings,)

    @field_validator(
        "data_dir",
        "artifacts",
        "track",
        "seeds",
        "sweep",
        "resume",
        "config",
        "remove",
        mode="before",
        check_fields=False,
    )
    @classmethod
    def _refuse_empty(cls, value: object) -> object:
        """Refuse what a form may send, but what is an unset variable in a shell."""
        if isinstance(value, str) and not value.strip():
            raise ValueError("expected a value that is not empty")
        return value


class Command(Flags):
    """A command that prints a result."""

    json_output: bool = Field(default=False, alias="json")
    """Print the result as one JSON object on stdout, and everything else on stderr."""


class StoreCommand(Command):
    """A command that reads or changes published runs."""

    artifacts: StoreAddress = Field(default_factory=artifacts_from_environment, validate_default=True)
    """Store of published runs, a directory or s3://bucket/prefix; default: $MNIST_BP_ARTIFACTS, else ./artifacts."""

    @property
    def store(self) -> Store:
        """The store.

        Raises:
            StoreError: It does not exist, or nothing was ever published there.
        """
        return open_existing_store(self.artifacts)


class DataCommand(Command):
    """A command that uses the local data directory."""

    data_dir: Directory = Field(default_factory=data_dir_from_environment, validate_default=True)
    """Directory of downloads, caches and runs in progress; default: $MNIST_BP_DATA_DIR, else ./data."""


class AnyRunCommand(StoreCommand, DataCommand):
    """A command about runs, published or on this machine alone."""

    @property
    def store(self) -> Store:
        """The store; one for which a run was started may have no published run yet.

        Raises:
            StoreError: It does not exist, and no run on this machine was started for it.
        """
        try:
            return super().store
        except StoreError:
            if not list_interrupted_runs(self.data_dir, absolute_address(self.artifacts), ())[0]:
                raise
            return open_store(self.artifacts)


class RunCommand(RunConfig, Command):
    """A command that configures runs."""

    model_config = Command.model_config

    preset: PresetName = "lab-8-4"
    """Named set of values for the other flags, which override it: lab-8-4 (whose values are the defaults shown),
    lab-8-4-sum, lab-8-4-scaled, relu-30, relu-128 or smoke."""

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, values: dict[str, Any]) -> dict[str, Any]:
        return cls.with_preset(values)

    @classmethod
    def with_preset(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Return the values of the flags that are given, and those of the preset, on this dataset, for the others."""
        if "epochs" in values and "steps" in values:
            raise ValueError("--epochs and --steps: expected one of the two")
        preset = PRESETS.get(str(values.get("preset")))
        if preset is None:
            return values
        unset = {"steps"} if "epochs" in values else set()
        if values.get("dataset", "auto") not in ("auto", "mnist"):
            unset |= MNIST_LIMITS
        return {**preset.model_dump(exclude_unset=True, exclude=unset), **values}


class TrainCommand(RunCommand):
    """Run the pipeline: download, preprocess, train by hand-written backpropagation, evaluate, publish, promote."""

    config: str | None = None
    """YAML file of settings, as mnist-bp show RUN --config prints them; the other flags override it."""

    resume: str | None = None
    """Resume this interrupted run (its id, or at least 6 characters of its start), or without a value the newest one of
    --data-dir, whatever its store is, with the settings it was started with; other settings are refused."""

    @classmethod
    def with_preset(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Return the values of the flags that are given, those of the file for the others, then those of a preset."""
        file: dict[str, str] = {}
        if path := values.get("config"):
            if "preset" in values:
                raise ValueError("--config and --preset: expected one of the two")
            length = {"steps", "epochs"} if {"steps", "epochs"} & values.keys() else set()
            file = {name: value for name, value in _settings_in(path).items() if name not in length}
        _refuse_swept(values, values.get("sweep", file.get("sweep")))
        return super().with_preset({**file, **values})

    @property
    def given(self) -> dict[str, Any]:
        """The entries of `RunConfig.record` that a flag or the preset set."""
        return {name: value for name, value in self.settings.record.items() if name in self.model_fields_set}


def parse(command: type[AnyCommand], arguments: Sequence[str] | None = None) -> AnyCommand:
    """Read the flags of a command.

    Args:
        command: The class whose fields are the flags.
        arguments: Flags and their values; those of this process when None.

    Raises:
        SystemExit: With code 0 after `--help`; with code 2 after one line per invalid flag.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    flags: CliSettingsSource[Any] = CliSettingsSource(
        command, add_argument_method=add_argument, formatter_class=HelpFormatter
    )
    try:
        return CliApp.run(command, cli_args=given, cli_settings_source=flags)
    except ValidationError as exc:
        for error in exc.errors():
            print_error(describe_error(command, error))
        raise SystemExit(2) from exc
    except ConfigError as exc:  # of a file of settings
        print_error(str(exc))
        raise SystemExit(2) from exc
    except SettingsError as exc:
        print_error(describe_usage(exc))
        raise SystemExit(2) from exc


def _refuse_swept(values: Mapping[str, Any], sweep: str | None) -> None:
    """Refuse a flag for a setting that the sweep varies: it would have no effect.

    Raises:
        ValueError: There is one. A sweep that cannot be read is refused elsewhere, with its flag.
    """
    try:
        swept = parse_sweep(sweep or "")
    except ValueError:
        return
    if both := swept.keys() & values.keys():
        name = min(both)
        flag = f"--{name.replace('_', '-')}"
        raise ValueError(f"{flag} and a sweep of {name}: expected one of the two; leave {flag} out")


def _settings_in(path: str) -> dict[str, str]:
    """Read a file of settings, and check it.

    Raises:
        ConfigError: It cannot be read, or a setting cannot work.
    """
    from mnist_bp.cli.settings_file import read_settings  # YAML, which other commands do not need

    settings = read_settings(path)
    try:
        RunCommand.model_validate(settings)
    except ValidationError as exc:
        raise ConfigError(f"--config {path}: {describe_error(RunCommand, exc.errors()[0])}") from exc
    return settings
