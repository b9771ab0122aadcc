"""A file of settings: `mnist-bp show RUN --config` writes it, `--config FILE` reads it in place of flags.

It is YAML, one `name: value` on each line, with the names of the settings as in a manifest. A value is read as the text
that a flag would have, so that `seeds: 3,5,8` and `seeds: 8` mean what they mean on a command line.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Final

import yaml

from mnist_bp.config import PLACES, RunConfig
from mnist_bp.data.own.address import recorded_dataset
from mnist_bp.documents.manifest import Manifest
from mnist_bp.errors import ConfigError, DataFormatError, StoreError
from mnist_bp.storage.reading import read_document

_HINT: Final = "expected a file from mnist-bp show RUN --config, or one name: value on each line"


def settings_of(manifest: Manifest) -> dict[str, Any]:
    """Return the settings that repeat a run: its configuration, with what the run chose in place of `auto`.

    The places are left out: they do not change the result, and may not exist elsewhere.
    """
    known = {name: value for name, value in manifest.config.items() if name not in PLACES and value is not None}
    engine = "cuda" if manifest.device == "cuda" else manifest.engine
    return {**known, "dataset": recorded_dataset(manifest.config, manifest.dataset.name), "engine": engine}


def to_yaml(manifest: Manifest) -> str:
    """Write the settings of a run as a file for `--config`."""
    code = manifest.code
    settings: str = yaml.safe_dump(settings_of(manifest), sort_keys=False)
    return (
        f"# Settings of run {manifest.run_id}: mnist-bp train --config FILE trains the same weights, bit for bit,\n"
        f"# on a machine like this run's, with mnist-bp {code.version} of this code SHA-256 (mnist-bp --version):\n"
        f"# {code.sha256}\n"
    ) + settings


def read_settings(path: str) -> dict[str, str]:
    """Read a file of settings, as the texts of flags.

    Args:
        path: Path of the file.

    Raises:
        ConfigError: It cannot be read, is not YAML, or has another setting than a run; names the line.
    """
    try:
        text = read_document(Path(path), _HINT, unusable=_HINT).decode()
        root = yaml.compose(text, Loader=yaml.BaseLoader)
    except (DataFormatError, StoreError) as exc:
        raise ConfigError(f"--config: {exc}") from exc
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as exc:
        mark = exc.problem_mark if isinstance(exc, yaml.MarkedYAMLError) else None
        where = f" line {mark.line + 1}" if mark else ""
        raise ConfigError(f"--config {path}{where}: it is not YAML; {_HINT}") from exc
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"--config {path}: it has no settings; {_HINT}")
    settings: dict[str, str] = {}
    for key, value in root.value:
        where = f"--config {path} line {key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode) or not isinstance(value, yaml.ScalarNode):
            raise ConfigError(f"{where}: {_HINT}")
        name = key.value.replace("-", "_")
        if name in settings:
            raise ConfigError(f"{where}: {name} is set twice; expected it once")
        if name not in RunConfig.model_fields and name != "preset":
            raise ConfigError(f"{where}: {key.value!r} is no setting; {_nearest(name)}see mnist-bp train --help")
        settings[name] = value.value
    return settings


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(name, [*RunConfig.model_fields, "preset"], n=1)
    return f"did you mean {near[0]}? " if near else ""
