"""The lines of a journal as pydantic checks them when they are read; see `mnist_bp.training.journal`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from mnist_bp.storage import checksummed_json
from mnist_bp.storage.schema import Count, FileName, FrozenModel, Sha256, Size, validate
from mnist_bp.training.journal_state import RunStart


class CheckpointLine(FrozenModel):
    """A checkpoint whose file is durable; see `mnist_bp.results.training.CheckpointFile`."""

    kind: Literal["checkpoint"]
    step: Annotated[Count, Field(gt=0)]
    sha256: Sha256
    size: Size
    seconds: Annotated[float, Field(gt=0, le=1e12)]


class _File(FrozenModel):
    sha256: Sha256
    size: Size


class _StoredFile(_File):
    name: FileName


class PartLine(FrozenModel):
    """A part whose files are in the store; see `mnist_bp.training.journal_state.RecordedPart`."""

    kind: Literal["part"]
    number: Count
    files: tuple[_StoredFile, ...]
    scores: _File
    elapsed: Annotated[float, Field(ge=0, le=1e12)]


class ResumptionLine(FrozenModel):
    """A resumption; see `mnist_bp.results.training.ResumePoint`."""

    kind: Literal["resumption"]
    step: Count
    sha256: Sha256 | None
    at: str
    certificate: dict[str, JsonValue]


class _Settings(BaseModel):
    """The settings that are read without the others, which may be those of another version."""

    model_config = ConfigDict(strict=True)  # they are used as they are, not as they are converted
    artifacts: str = Field(min_length=1)
    steps: Annotated[Count, Field(gt=0)]


Line = Annotated[CheckpointLine | PartLine | ResumptionLine, Field(discriminator="kind")]


def check_start(entry: Mapping[str, Any], where: str, hint: str) -> RunStart:
    """Check the first line, without its kind and version.

    Raises:
        DataFormatError: A field is wrong.
    """
    title = "start of a run"
    start = validate(RunStart, entry, where, title, hint)
    validate(_Settings, entry["config"], where, title, hint)
    return start


def parse_line(line: bytes, where: str) -> CheckpointLine | PartLine | ResumptionLine:
    """Parse any line but the first.

    Raises:
        ChecksumError: The line is damaged.
        DataFormatError: It is no checkpoint, part or resumption.
    """
    hint = "what it and later lines record is trained again"
    entry = checksummed_json.loads(line + b"\n", where, hint)
    return validate(Line, entry, where, "line of a journal", hint)  # type: ignore[arg-type]
