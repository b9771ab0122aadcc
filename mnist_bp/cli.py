"""The command line: flags made from `RunConfig`, errors as one line, and how a program ends.

Exit codes: 0, 1 (failed), 2 (bad usage), 130 (interrupted).
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import FrameType
from typing import Any, Final, Literal, TypeVar

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    CliApp,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from mnist_bp.config import PRESETS, RunConfig, artifacts_from_environment
from mnist_bp.errors import without_secrets
from mnist_bp.store import Store, open_store

AnyCommand = TypeVar("AnyCommand", bound="Command")

INTERRUPTED: Final = 130
"""Exit code: 128 and the number of SIGINT, as a shell has it."""


class Command(BaseSettings):
    """What all commands share: flags made from the fields, and `--json`."""

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

    json_output: bool = Field(default=False, alias="json")
    """Print one JSON object on stdout and everything else on stderr."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read flags alone: a stray STEPS in the environment is not ours."""
        return (init_settings,)


class StoreCommand(Command):
    """What all commands on published runs share."""

    artifacts: str = Field(default_factory=artifacts_from_environment, min_length=1)
    """Where runs are published: a directory or s3://bucket/prefix; $MNIST_BP_ARTIFACTS, else ./artifacts."""

    @property
    def store(self) -> Store:
        """The place, yet to be contacted."""
        return open_store(self.artifacts)


class TrainCommand(RunConfig, Command):
    """Download, preprocess, train by hand-written backpropagation, evaluate and publish one run."""

    model_config = Command.model_config

    preset: Literal["lab-8-4", "lab-8-4-sum", "smoke"] = "lab-8-4"
    """Named set of defaults for the other flags; a flag given beside it wins."""

    resume: str | None = None
    """Continue the run of this id where it was broken off, with what it was started with."""

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, values: dict[str, Any]) -> dict[str, Any]:
        preset = PRESETS.get(str(values.get("preset")))
        return {**preset.model_dump(exclude_unset=True), **values} if preset else values

    @property
    def config(self) -> RunConfig:
        """The configuration, without what concerns the command line alone."""
        return RunConfig.model_validate(self.model_dump(exclude={"json_output", "preset", "resume"}))

    @property
    def given(self) -> dict[str, Any]:
        """What was asked for by a flag or a preset, as `RunConfig.record` has it."""
        return {name: value for name, value in self.config.record.items() if name in self.model_fields_set}


def parse(command: type[AnyCommand], arguments: Sequence[str] | None = None) -> AnyCommand:
    """Read the flags of a command.

    Args:
        command: Which.
        arguments: Flags and their values; the process's own when None.

    Raises:
        SystemExit: With code 0 after `--help`; with 2 after one line for each unusable flag.
    """
    try:
        return CliApp.run(command, cli_args=list(sys.argv[1:] if arguments is None else arguments))
    except ValidationError as exc:
        for error in exc.errors():
            print_error(_describe(error))
        raise SystemExit(2) from exc
    except SettingsError as exc:
        print_error(f"{str(exc).removeprefix('error parsing CLI: ')}; see --help")
        raise SystemExit(2) from exc


def parse_train(arguments: Sequence[str] | None = None) -> TrainCommand:
    """Read the flags of one training run; see `parse`."""
    return parse(TrainCommand, arguments)


def print_error(message: str) -> None:
    """Say on stderr what went wrong."""
    print(f"error: {message}", file=sys.stderr)


def end_when_interrupted(kept: Callable[[], str], grace: float = 10) -> None:
    """From now on, say at once when Ctrl-C or a plain kill arrives, and see to it that the process ends.

    KeyboardInterrupt is raised, so that everything can wind up; where that takes too long, or on a second signal, the
    process is ended as it is.

    Args:
        kept: Tells what is not lost, for the message.
        grace: Seconds for winding up.
    """

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)
        print_error(f"interrupted; {kept()}")
        last_resort = threading.Timer(grace, os._exit, (INTERRUPTED,))
        last_resort.daemon = True
        last_resort.start()
        raise KeyboardInterrupt

    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, interrupt)


class LastExit:
    """Ends a script's process once every other exit handler has run, without unloading its libraries.

    Unloading torch's reads 110 MB of them into memory, only to leave. To be made before anything else that registers
    an exit handler: they run in reverse.
    """

    def __init__(self) -> None:
        self._code = 1
        atexit.register(self._leave)

    def run(self, main: Callable[[], int]) -> None:
        """Call a script's main, and keep its exit code."""
        try:
            self._code = main()
        except SystemExit as exc:
            self._code = exc.code if isinstance(exc.code, int) else int(exc.code is not None)

    def _leave(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):  # a reader that is gone, or a stream that is closed
                stream.flush()
        os._exit(self._code)


def _describe(error: Mapping[str, Any]) -> str:
    field = "".join(f" --{str(part).replace('_', '-')}" for part in error["loc"]).strip()
    expectation = error["msg"].removeprefix("Value error, ").replace("Input should be", "expected", 1)
    return without_secrets(f"{field} {error['input']!r}: {expectation}; see --help")
