"""`mnist-bp export RUN --to FORMAT --output FILE`: write the model of a published run for other tools."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from pydantic import AliasChoices, Field, model_validator
from pydantic_settings import CliPositionalArg

from mnist_bp.cli.file_names import ModelFile
from mnist_bp.cli.flags import StoreCommand, parse
from mnist_bp.cli.output import say
from mnist_bp.errors import ConflictError
from mnist_bp.registry.export import FORMATS, FormatName, export_model, metadata_of
from mnist_bp.registry.loading import load_from
from mnist_bp.storage.files import atomic_write
from mnist_bp.storage.reading import sha256_of_bytes


class ExportCommand(StoreCommand, cli_prog_name="mnist-bp export"):
    """Write the model of a published run for other tools, after a check that it computes what the engine does."""

    run: CliPositionalArg[str]
    """Id of the run, the start of an id, latest, champion, champion:DATASET or an alias."""

    to: FormatName
    """Format: onnx (a graph from bytes to outputs), npz (NumPy arrays), or torch (safetensors for nn.Sequential)."""

    output: ModelFile = Field(validation_alias=AliasChoices("output", "o"))
    """File to write: .onnx, .npz, or .safetensors for torch."""

    force: bool = False
    """Replace an existing file."""

    @model_validator(mode="after")
    def _check_suffix(self) -> Self:
        if Path(self.output).suffix != (suffix := FORMATS[self.to].suffix):
            raise ValueError(f"--output {self.output!r}: expected a name that ends in {suffix} for --to {self.to}")
        return self


def main(arguments: Sequence[str]) -> int:
    """Export a model."""
    command = parse(ExportCommand, arguments)
    path = Path(command.output)
    _expect_free(path, force=command.force)
    model = load_from(command.store, command.run)
    exported = export_model(model.weights, model.activation, metadata_of(model.manifest), command.to)
    with atomic_write(path, replace=command.force) as file:
        file.write(exported.content)
    digest = sha256_of_bytes(exported.content)
    if command.json_output:
        about = {"run_id": model.run_id, "to": command.to, "output": str(path.absolute()), "sha256": digest}
        compared = {"engine": exported.engine, "largest_difference": exported.difference}
        say(json.dumps({**about, "size": len(exported.content), **compared}))
        return 0
    say(f"run {model.run_id}")
    say(f"{path}: {len(exported.content):,} bytes, SHA-256 {digest[:16]}")
    say(f"outputs within {exported.difference:.0e} of the {exported.engine} engine")
    return 0


def _expect_free(path: Path, *, force: bool) -> None:
    """Refuse to replace a file without `--force`, and anything else than a file in any case.

    Raises:
        ConflictError: The name is taken.
    """
    if path.is_symlink() or path.exists():
        if not path.is_file():
            raise ConflictError(f"{path} exists and is not a file; expected another name for --output")
        if not force:
            raise ConflictError(f"{path} exists; expected a new name for --output, or --force to replace the file")
