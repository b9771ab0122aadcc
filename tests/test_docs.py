"""README and docs: every link leads somewhere, every command exists with its flags, and figures about the tree hold."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from mnist_bp import load_model
from mnist_bp.cli.main import COMMANDS, main
from mnist_bp.data.parquet import load_split
from mnist_bp.engines.choose import choose_engine
from mnist_bp.layout import MODEL, run_key
from mnist_bp.results.dataset import CachedDataset
from mnist_bp.storage.local import LocalStore
from mnist_bp.training.ladder import RUNGS
from tests.support.published_runs import publish

REPOSITORY: Final = Path(__file__).parents[1]
PAGES: Final = [
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    *sorted((REPOSITORY / "docs").glob("*.md")),
    REPOSITORY / "deployments/README.md",
]
LINK: Final = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FLAG: Final = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
READING_ORDER: Final = 10
MAX_README: Final = 7_000
"""Characters; the first page is read in one sitting."""

page_ids = [path.relative_to(REPOSITORY).as_posix() for path in PAGES]


def anchors_of(page: Path) -> set[str]:
    """The anchors that a page's headings have on GitHub."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def commands_of(page: Path) -> list[str]:
    """The lines of a page's indented blocks that are commands, without their comments."""
    lines = [line.strip() for line in page.read_text().splitlines() if line.startswith("    ")]
    starts = (r"(?:\w+=\S+\s+|\w+=\"[^\"]*\"\s+)*", r"(make|\.venv/bin/\S+|docker|export)\b")
    return [line.partition(" #")[0].strip() for line in lines if re.match("".join(starts), line)]


@pytest.mark.parametrize("page", PAGES, ids=page_ids)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        linked = (page.parent / name).resolve() if name else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors_of(linked), target


@pytest.fixture(scope="module")
def help_texts() -> dict[str, str]:
    """The help text of every command that the pages call, by the command's first words."""
    return {}


def help_of(command: list[str], known: dict[str, str]) -> str:
    key = " ".join(command)
    if key not in known:
        shown = subprocess.run([sys.executable, *command, "--help"], cwd=REPOSITORY, capture_output=True, text=True)
        assert shown.returncode == 0, shown.stderr
        known[key] = shown.stdout
    return known[key]


@pytest.mark.parametrize("page", PAGES, ids=page_ids)
def test_every_command_exists_with_its_flags(page: Path, help_texts: dict[str, str]) -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    for line in commands_of(page):
        words = [word for word in shlex.split(line) if not re.match(r"\w+=", word)]
        flags = FLAG.findall(line)
        match words:
            case ["make", target, *_]:
                assert re.search(rf"^{target}:", makefile, re.MULTILINE), line
                script = {
                    "train": ["flows/train.py"],
                    "serve": ["deployments/serve.py"],
                    "alarms": ["deployments/alarms.py"],
                }.get(target)
                assert script or not flags or target == "test", line
                shown = help_of(script, help_texts) if script else ""
            case [".venv/bin/mnist-bp", "bench", *_]:
                shown = help_of(["-m", "mnist_bp", "bench"], help_texts)
            case [".venv/bin/mnist-bp", name, *_]:
                assert name in COMMANDS, line
                shown = help_of(["-m", "mnist_bp", name], help_texts)
            case [".venv/bin/python", "-m", module, *_]:
                assert importlib.util.find_spec(module) is not None, line
                continue
            case [".venv/bin/python", path, *_]:
                shown = help_of([path], help_texts)
            case _:  # Prefect's commands are called by tests/deployments; docker is not available to the tests
                continue
        missing = [flag for flag in flags if flag not in ("--help", "--json") and flag not in shown]
        assert not missing, (line, missing)


def test_every_command_of_the_command_line_is_in_some_page() -> None:
    text = "".join(page.read_text() for page in PAGES)
    assert [name for name in COMMANDS if f"mnist-bp {name}" not in text] == []


def test_the_readme_fits_one_page_and_its_reading_order_names_ten_files() -> None:
    readme = (REPOSITORY / "README.md").read_text()
    assert len(readme) <= MAX_README
    order = readme[readme.index("Read in this order") :]
    files = re.findall(r"`([\w/]+\.py)`", order[: order.index("\n\n")])
    assert len(files) == READING_ORDER
    lines = 0
    for file in files:
        path = next(path for path in (REPOSITORY / "mnist_bp" / file, REPOSITORY / file) if path.exists())
        lines += len(path.read_text().splitlines())
    stated = int(re.search(r"about ([\d,]+) lines", order)[1].replace(",", ""))  # type: ignore[index]
    assert abs(lines - stated) <= 100


def test_every_room_of_the_library_is_in_the_readme() -> None:
    readme = (REPOSITORY / "README.md").read_text()
    rooms = [path for path in (REPOSITORY / "mnist_bp").iterdir() if not path.name.startswith("__")]
    names = [path.name if path.suffix == ".py" else f"{path.name}/" for path in rooms]
    assert [name for name in names if not re.search(rf"^ +{re.escape(name)} ", readme, re.MULTILINE)] == []


def test_every_rung_of_the_ladder_is_explained_by_its_flags_and_a_line_of_code_that_exists() -> None:
    page = (REPOSITORY / "docs/lab-8-4.md").read_text()
    table = page[page.index("| recipe | change | line of code |") :].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    assert [row[0].strip("`") for row in rows] == [rung.name for rung in RUNGS]
    flags = [" ".join(rung.changes(before)) for before, rung in pairwise((RUNGS[0], *RUNGS))]
    assert [row[1].strip("`") for row in rows] == flags
    quoted = [match for row in rows if (match := re.fullmatch(r"`(.+)` in `([\w/]+\.py)`.*", row[2]))]
    assert len(quoted) == 6
    assert [code for code, file in (match.groups() for match in quoted) if code not in source(file)] == []


def source(file: str) -> str:
    return (REPOSITORY / "mnist_bp" / file).read_text()


def test_the_recipes_for_contributors_name_files_and_definitions_that_exist() -> None:
    page = (REPOSITORY / "CONTRIBUTING.md").read_text()
    named = re.findall(r"`((?:mnist_bp|tests|docs)/[\w/]*[\w.]+)`", page)
    assert len(named) >= 10
    assert [name for name in named if "NAME" not in name and not (REPOSITORY / name).exists()] == []
    defined = re.findall(r"`([\w ]+)`\s+(?:to the \w+ )?in\s+`([\w/]+\.\w+)`", page)
    assert len(defined) >= 9
    assert [pair for pair in defined if pair[0] not in (REPOSITORY / pair[1]).read_text()] == []


def test_the_command_of_the_recipe_for_contributors_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (REPOSITORY / "CONTRIBUTING.md").read_text()
    source = "\n".join(line[8:] for line in page.splitlines() if line.startswith("        ") or not line)
    run_id = publish(LocalStore(tmp_path / "artifacts"), 1, size=200)
    (tmp_path / "size.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "mnist_bp.cli.size", importlib.import_module("size"))
    monkeypatch.setitem(COMMANDS, "size", "print the size of a published run")
    assert main(["size", "--json"]) == main(["size", run_id]) == 0
    printed, text = capsys.readouterr().out.splitlines()
    assert json.loads(printed) == {"run_id": run_id, "size": 1_000}
    assert text == "1,000 bytes"


def test_every_snippet_of_python_about_models_gives_the_classes_of_the_engine(
    digits_store: tuple[str, str], sample: CachedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts, run_id = digits_store
    monkeypatch.setenv("MNIST_BP_ARTIFACTS", artifacts)
    shutil.copy(Path(artifacts, run_key(run_id, MODEL)), MODEL)
    images, labels = load_split(sample.test)
    np.save("digits.npy", images.reshape(-1, 28, 28))
    model = load_model(run_id)
    outputs = choose_engine("cpu")[0].load(images, labels).predict(model.weights, model.activation)
    snippets = re.findall(
        r"^```python\n(.*?)^```$", (REPOSITORY / "docs/predict.md").read_text(), re.MULTILINE | re.DOTALL
    )
    assert len(snippets) == 3
    for snippet in snippets:
        names: dict[str, object] = {}
        exec(snippet, names)
        assert np.array_equal(names["classes"], outputs.argmax(1)), snippet  # type: ignore[arg-type]
