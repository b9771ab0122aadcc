"""Properties of the source as a whole."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from mnist_bp.cli.main import COMMANDS

REPOSITORY = Path(__file__).parents[1]
STATEMENT = REPOSITORY / "mnist_bp" / "engines" / "statement.py"
PRODUCT = sorted(
    path for package in ("mnist_bp", "tasks", "flows", "deployments") for path in (REPOSITORY / package).rglob("*.py")
)


FORBIDDEN = {"backward", "requires_grad", "requires_grad_", "grad", "vjp", "jacrev", "autograd"} | {
    "pickle", "cloudpickle", "dill", "joblib", "load_state_dict"
}  # fmt: skip


def forbidden_uses(source: str) -> set[str]:
    """Return the names in code that belong to autograd or pickle; comments and docstrings do not count."""
    used: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(value=ast.Name(id="torch"), attr="load" | "save"):
                used.add("pickle")
            case ast.Attribute(attr=name):
                used.add(name)
            case ast.keyword(arg=str(name)):
                used.add(name)
            case ast.ImportFrom(module=str(module), names=aliases):
                used |= {*module.split("."), *(alias.name for alias in aliases if alias.name != "backward")}
            case ast.Import(names=aliases):
                used |= {part for alias in aliases for part in alias.name.split(".")}
    return used & FORBIDDEN


@pytest.mark.parametrize("path", PRODUCT, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_no_autograd_and_no_pickle_in_the_product(path: Path) -> None:
    allowed = {"requires_grad_", "autograd", "grad"} if path == STATEMENT else set()  # to check gradients
    assert forbidden_uses(path.read_text()) == allowed


@pytest.mark.parametrize(
    "source",
    [
        "loss.backward()",
        "w = torch.zeros(3, requires_grad=True)",
        "w.requires_grad_()",
        "from torch.autograd import functional",
        "from torch.func import grad",
        "torch.autograd.grad(y, x)",
        "from pickle import loads",
        "import cloudpickle",
        "torch.load(path)",
    ],
)
def test_every_form_of_autograd_and_pickle_is_found(source: str) -> None:
    assert forbidden_uses(source)


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import mnist_bp", "torch torchvision prefect boto3 pydantic httpx"),
        (
            "import mnist_bp.training.run, mnist_bp.engines.certificate",
            "torchvision prefect boto3 pydantic matplotlib",
        ),
        (
            "import mnist_bp.training.loop, mnist_bp.training.evaluation, mnist_bp.engines.cpu",
            "torch torchvision prefect boto3 pydantic matplotlib",
        ),
        ("import mnist_bp.data.download, mnist_bp.storage.address", "torch torchvision prefect boto3 mlxtend"),
        ("import mnist_bp.cli.flags, mnist_bp.pipeline", "torch torchvision prefect boto3"),
        ("import mnist_bp.data.preprocess", "torch torchvision prefect boto3"),
        ("import mnist_bp.registry.publish, mnist_bp.registry.export", "torch onnx onnxruntime"),
        ("import mnist_bp.registry.code", "torch numpy pyarrow pydantic"),
        ("import flows.train, flows.nightly", "torch torchvision boto3 matplotlib"),
        ("import deployments.serve", "torch torchvision prefect boto3 matplotlib"),
    ],
)
def test_imports_stay_light(statement: str, absent: str) -> None:
    script = f"import sys; {statement}; print(*sorted(set({absent.split()}) & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


def test_the_library_trains_and_evaluates_on_a_machine_with_little_more_than_torch_and_pyarrow(tmp_path: Path) -> None:
    script = """
import sys
from importlib.abc import MetaPathFinder
from types import SimpleNamespace

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"prefect", "boto3", "botocore", "pydantic", "httpx", "rich", "torchvision"}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
import torch
import numpy as np
from mnist_bp.engines.certificate import certify
from mnist_bp.engines.choose import choose_engine
from mnist_bp.model.parameters import initial_parameters
from mnist_bp.model.recipe import Recipe
from mnist_bp.training.evaluation import Evaluator
from mnist_bp.training.loop import ExampleOrder, train

config = SimpleNamespace(
    steps=20, batch_size=10, learning_rate=0.5, hidden=30, checkpoint_every=10, recipe=Recipe()
)
images, labels = np.arange(100 * 784).reshape(100, 784).astype(np.uint8), (np.arange(100) % 10).astype(np.uint8)
start, order = initial_parameters(1, 784, 30, 10), ExampleOrder(1, 100, 10, Recipe())
for name in ("reference", "cpu"):
    engine, _ = choose_engine(name)
    certify(engine).check()
    points = list(train(config, engine.load(images, labels), [start], [order]))
    print([point.step for point in points], Evaluator(engine, images, labels, Recipe()).accuracy(points[-1].models[0]))
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert [line[:11] for line in found.stdout.splitlines()] == ["[10, 20] 0."] * 2


def test_every_command_and_every_task_has_a_place_in_its_contract_of_independence() -> None:
    contracts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    found = {each["name"]: set(each["modules"]) for each in contracts if each["type"] == "independence"}
    tasks = [path for path in (REPOSITORY / "tasks").glob("*.py") if "@task" in path.read_text()]
    assert found == {
        "commands do not import each other": {f"mnist_bp.cli.{name}" for name in COMMANDS if name != "bench"},
        "tasks do not import each other": {f"tasks.{path.stem}" for path in tasks},
    }


def test_only_the_ci_script_knows_where_shared_data_lie() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert "README.md" in tracked.splitlines()
    for name in tracked.splitlines():
        path = REPOSITORY / name
        if path.is_file() and name not in (".ci/run", "tests/test_architecture.py"):
            assert "../shared" not in path.read_text(errors="replace"), name


def test_the_lock_names_no_address() -> None:
    lock = (REPOSITORY / "requirements.lock").read_text()
    assert "--hash=sha256:" in lock
    assert "://" not in lock
    assert "index-url" not in lock


def test_a_wheel_contains_every_file_of_the_product(tmp_path: Path) -> None:
    packages = ("bench", "deployments", "flows", "mnist_bp", "tasks")
    for name in packages:
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(REPOSITORY / name, tmp_path)
    files = [path.relative_to(tmp_path) for path in tmp_path.glob("*/**/*") if path.is_file()]
    # what else is in deployments is used in a checkout
    expected = {path.as_posix() for path in files if path.suffix == ".py" or path.parts[0] != "deployments"}
    build = "import setuptools.build_meta; print(setuptools.build_meta.build_wheel('.'))"
    built = subprocess.run([sys.executable, "-c", build], cwd=tmp_path, capture_output=True, text=True, check=True)
    found = set(zipfile.ZipFile(tmp_path / built.stdout.splitlines()[-1]).namelist())
    assert expected - found == set()
