"""Where the runs of a worker start: in the checkout, or where pip put the packages."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from mnist_bp import installation
from mnist_bp.errors import ConfigError

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture
def installed(tmp_path: Path) -> Callable[[], dict[str, str]]:
    """The step of a package that is installed without a checkout."""
    file = tmp_path / "site-packages" / "mnist_bp" / "installation.py"
    file.parent.mkdir(parents=True)
    file.write_text(Path(installation.__file__).read_text())
    spec = importlib.util.spec_from_file_location("installed", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    step: Callable[[], dict[str, str]] = module.use_installation
    return step


def test_a_run_starts_in_the_checkout() -> None:
    assert installation.use_installation() == {"directory": str(REPOSITORY)}


def test_an_installation_without_a_checkout_needs_both_places(
    installed: Callable[[], dict[str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"^MNIST_BP_DATA_DIR and MNIST_BP_ARTIFACTS: expected the places"):
        installed()
    monkeypatch.setenv("MNIST_BP_DATA_DIR", "/data")
    with pytest.raises(ConfigError, match=r"^MNIST_BP_ARTIFACTS: expected the places"):
        installed()
    monkeypatch.setenv("MNIST_BP_ARTIFACTS", "s3://bucket")
    assert installed() == {"directory": str(tmp_path / "site-packages")}
