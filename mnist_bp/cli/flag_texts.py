"""What is printed about flags: their lines in `--help`, and one line for each that is wrong."""

from __future__ import annotations

import re
from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any, Final, get_args

from pydantic import BaseModel
from pydantic_settings import CliPositionalArg, SettingsError

from mnist_bp.cli.file_names import quote_name
from mnist_bp.errors import without_secrets
from mnist_bp.layout import LATEST

_POSITIONAL: Final = get_args(CliPositionalArg[str])[1]
"""Marks a field that is given without a flag."""

_PLACEHOLDERS: Final = {
    "int": "N",
    "float": "X",
    "str": None,  # the flag's name in capitals
    "datetime": "TIME",
    "--artifacts": "STORE",
    "--config": "FILE",
    "--data-dir": "DIR",
    "--dataset": "DATASET",
    "--html": "FILE",
    "--image-size": "WxH",
    "--output": "FILE",
    "--plot": "FILE",
    "--preset": "NAME",
    "--resume": "RUN",
    "--track": "mlflow:URL",
}
"""What `--help` shows for a value, by its Python type or by its flag."""

_UNSTATED_DEFAULT: Final = re.compile(r" \(default( factory: .*|: (null|False)?)\)$")
"""Defaults that `--help` omits: the flag's text states them where they matter."""

_EXPECTED: Final = {
    "int_parsing": "expected an integer",
    "int_parsing_size": "expected an integer of fewer digits",
    "int_from_float": "expected an integer",
    "float_parsing": "expected a number",
    "finite_number": "expected a finite number",
    "bool_parsing": "expected true or false",
    "string_too_short": "expected a value that is not empty",
    "greater_than": "expected more than {gt}",
    "greater_than_equal": "expected at least {ge}",
    "less_than": "expected less than {lt}",
    "less_than_equal": "expected at most {le}",
    "literal_error": "expected {expected}",
}
"""What was expected, by the type of pydantic's error; its `ctx` fills the braces."""

_ARGPARSE: Final = {
    r"argument (?P<flag>[^\s/:]+)[^:]*: expected (one|at least one) argument": "{flag}: expected a value",
    r"argument (?P<flag>[^\s/:]+)[^:]*: ignored explicit argument .*": "{flag}: expected no value",
    r"ambiguous option: (?P<flag>[^\s=]+)[^ ]* could match (?P<flags>.*)": "{flag}: expected one of {flags}",
    r"unrecognized arguments: (?P<flag>[^\s=]+).*": "{flag}: no such flag or argument",
}
"""The messages of argparse, and ours. No value is repeated: it may be a secret."""


def add_argument(parser: ArgumentParser, *names: str, **settings: Any) -> None:
    """Add a flag to `--help`, without the Python types and defaults that pydantic-settings would show."""
    if metavar := settings.get("metavar"):
        settings["metavar"] = _PLACEHOLDERS.get(names[0], _PLACEHOLDERS.get(metavar, metavar))
    settings["help"] = _UNSTATED_DEFAULT.sub("", settings["help"])
    if names[0] == "--resume":
        settings |= {"nargs": "?", "const": LATEST}
    if names[0].startswith("--"):
        names = (names[0], *(name for name in names if name[1] != "-"))  # others are names of the field in Python
    elif settings.get("nargs") == "+":
        settings["type"] = quote_name
    parser.add_argument(*names, **settings)


def describe_error(command: type[BaseModel], error: Mapping[str, Any]) -> str:
    """Describe an error of pydantic in one line: the flag, its value, and what was expected.

    Args:
        command: The class whose fields are the flags.
        error: An entry of `ValidationError.errors`.
    """
    expectation = error["msg"].removeprefix("Value error, ")
    if ours := _EXPECTED.get(error["type"]):
        context = error.get("ctx", {})
        expectation = ours.format(**{key: f"{x:g}" if isinstance(x, float) else x for key, x in context.items()})
    if not error["loc"]:
        return without_secrets(f"{expectation}; see --help")
    name = str(error["loc"][0])
    field = command.model_fields.get(name)
    flag = name.upper() if field and _POSITIONAL in field.metadata else f"--{name.replace('_', '-')}"
    if error["type"] == "missing":
        return f"{flag}: required; see --help"
    return without_secrets(f"{flag} {error['input']!r}: {expectation}; see --help")


def describe_usage(error: SettingsError) -> str:
    """Describe an error of argparse in one line, without the value: it may be a secret."""
    problem = str(error).removeprefix("error parsing CLI: ")
    for theirs, ours in _ARGPARSE.items():
        if found := re.fullmatch(theirs, problem, re.DOTALL):
            problem = ours.format(**found.groupdict())
    return f"{problem}; see --help"
