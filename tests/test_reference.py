"""docs/reference.md: its tables have every environment variable and every exit code, and its completion works."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from mnist_bp.cli.main import COMMANDS
from mnist_bp.cli.process import INTERRUPTED
from tests.test_docs import FLAG

REPOSITORY: Final = Path(__file__).parents[1]
PAGE: Final = (REPOSITORY / "docs/reference.md").read_text()
PRODUCT: Final = [
    path for package in ("mnist_bp", "flows", "tasks", "deployments") for path in (REPOSITORY / package).rglob("*.py")
]

PREFIXES: Final = ("MNIST_BP_", "AWS_", "PREFECT_", "MLFLOW_", "NUMBA_", "RAY_", "SSL_", "XDG_")
"""Beginnings of strings in the code that are names of variables; a string of another form is one if it is read."""

READ_BY_LIBRARIES: Final = {
    "AWS_CA_BUNDLE", "AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION",
    "BROWSER", "COLUMNS", "NO_COLOR", "TERM", "TMPDIR",
}  # fmt: skip
"""Variables in the table whose names are not in the code."""


def column_of_table(heading: str) -> list[str]:
    """Return the first cells of the table below a heading."""
    section = PAGE[PAGE.index(f"## {heading}\n") :]
    rows = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("|")]
    return [row.split("|")[1].strip() for row in rows[2:]]


def documented_variables() -> list[str]:
    return re.findall(r"`(\w+)`", " ".join(column_of_table("Environment variables")))


def variables_in(source: str) -> Iterator[str]:
    """Yield the names of environment variables in code."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Constant(value=str(name)) if re.fullmatch(r"[A-Z0-9_]+[A-Z0-9]", name):
                if name.startswith(PREFIXES) or name.endswith("_PROXY"):
                    yield name
            case (
                ast.Subscript(value=ast.Attribute(attr="environ"), slice=ast.Constant(value=str(name)))
                | ast.Call(
                    func=ast.Attribute(value=ast.Attribute(attr="environ")), args=[ast.Constant(value=str(name)), *_]
                )
            ):
                yield name.upper()


def all_variables() -> set[str]:
    found = {name for path in PRODUCT for name in variables_in(path.read_text())}
    for name in ("compose.yaml", "Dockerfile", "prefect.yaml"):
        found |= set(re.findall(r"\$\{?([A-Z]\w+)", (REPOSITORY / "deployments" / name).read_text()))
    return found


def test_the_table_has_every_environment_variable_once_and_no_other() -> None:
    documented = documented_variables()
    assert sorted(set(documented)) == sorted(documented)
    assert all_variables() - set(documented) == set()
    assert set(documented) - all_variables() == READ_BY_LIBRARIES


@pytest.mark.parametrize(
    "source",
    ['os.environ["NEW"]', 'os.environ.get("NEW", "")', 'environ = os.environ.setdefault("new", "1")', 'X = "AWS_NEW"'],
)
def test_a_variable_that_is_read_is_found(source: str) -> None:
    assert [name.removeprefix("AWS_") for name in variables_in(source)] == ["NEW"]


def exit_codes_in(source: str) -> Iterator[int]:
    """Yield the exit codes that code returns from a function `main` or a command, or exits with."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.FunctionDef(returns=ast.Name(id="int")):
                for returned in (each.value for each in ast.walk(node) if isinstance(each, ast.Return)):
                    yield from codes(returned)
            case ast.Call(func=ast.Name(id="SystemExit") | ast.Attribute(attr="_exit" | "exit"), args=[code]):
                yield from codes(code)


def codes(value: ast.expr | None) -> Iterator[int]:
    match value:
        case ast.Constant(value=int(code)):
            yield code
        case ast.Name(id="INTERRUPTED"):
            yield INTERRUPTED
        case ast.IfExp(body=one, orelse=other):
            yield from codes(one)
            yield from codes(other)


def test_the_table_has_every_exit_code_and_no_other() -> None:
    ends = [*(REPOSITORY / "mnist_bp/cli").glob("*.py"), *(REPOSITORY / "flows/runtime").glob("*.py")]
    ends += [*(REPOSITORY / "deployments").glob("*.py"), REPOSITORY / "bench/__main__.py"]
    found = {code for path in ends for code in exit_codes_in(path.read_text())}
    assert sorted(found) == [int(code) for code in column_of_table("Exit codes")] == [0, 1, 2, 130]


def test_the_completion_offers_the_commands_and_the_flags_that_help_lists(tmp_path: Path) -> None:
    assert sorted(complete(["mnist-bp", ""], tmp_path)) == sorted(COMMANDS)
    shown = subprocess.run(
        [sys.executable, "-m", "mnist_bp", "gc", "--help"], capture_output=True, text=True, check=True
    )
    assert complete(["mnist-bp", "gc", "--"], tmp_path) == sorted(set(FLAG.findall(shown.stdout)))
    assert complete(["mnist-bp", "gc", "--dr"], tmp_path) == ["--dry-run"]


def complete(words: list[str], directory: Path) -> list[str]:
    """Complete the last word of a command line with the lines of the page, in bash."""
    bash = shutil.which("bash")
    assert bash is not None
    section = PAGE[PAGE.index("## Completion") :]
    block = "\n".join(line[4:] for line in section.splitlines() if line.startswith("    "))
    program = directory / "mnist-bp"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mnist_bp "$@"\n')
    program.chmod(0o755)
    quoted = " ".join(f"'{word}'" for word in [str(program), *words[1:]])
    script = f"{block}\nCOMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}\n"
    script += f"_mnist_bp '{program}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"; complete -p mnist-bp"
    ended = subprocess.run([bash, "-euc", script], capture_output=True, text=True, check=True)
    *offered, registered = ended.stdout.splitlines()
    assert registered == "complete -o default -F _mnist_bp mnist-bp"
    return offered
