"""Validation of decoded JSON by a pydantic model, with errors in one line and in JSON's terms."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from mnist_bp.errors import DataFormatError, without_secrets

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""64 hex digits."""

FileName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$", max_length=200)
]
"""Name of a file below a prefix or directory; it cannot lead out of it."""

Size = Annotated[int, Field(ge=0, le=1 << 50)]
"""Bytes."""

Count = Annotated[int, Field(ge=0, le=10**12)]
"""Number of steps, examples or tries."""

Seconds = Annotated[float, Field(ge=0, le=1e12)]
"""Length of time."""

MAX_SHOWN: Final = 80
"""Characters of a wrong value that a message repeats."""

_JSON_TYPES: Final = {
    "int_parsing_size": "a smaller number",
    "model_type": "an object",
    "dataclass_type": "an object",
    "dict_type": "an object",
    "tuple_type": "a list",
}
"""Expected values that pydantic describes in Python's terms, by type of error."""

ModelT = TypeVar("ModelT")


class FrozenModel(BaseModel):
    """Base of documents and their parts: immutable, without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def validate(model: type[ModelT], document: Mapping[str, Any], what: str, title: str, hint: str) -> ModelT:
    """Convert a decoded document to a model, and check every field.

    Args:
        model: A pydantic model or a dataclass.
        document: JSON values, as decoded by `checksummed_json.loads`.
        what: URI or path of the document, for messages.
        title: Kind of document, for messages.
        hint: What the user can do about a wrong document.

    Raises:
        DataFormatError: A field is missing, unknown or wrong; names the first.
    """
    try:
        valid: ModelT = _adapter(model).validate_python(document)  # type: ignore[arg-type]
    except ValidationError as exc:
        first, *others = exc.errors(include_url=False, include_context=False)
        more = f" (and {len(others)} more)" if others else ""
        raise DataFormatError(f"{what} is not a valid {title}: {_problem(first)}{more}; {hint}") from exc
    return valid


@lru_cache
def _adapter(model: Any) -> TypeAdapter[Any]:
    return TypeAdapter(model)


def _problem(error: Any) -> str:
    """Describe one of pydantic's errors: the field, its value, and the expected value."""
    name = ".".join(map(str, error["loc"]))
    if error["type"] == "missing":
        return f"{name} is missing"
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{name} is not a known field"
    expected = _JSON_TYPES.get(error["type"]) or error["msg"].removeprefix("Input should be ")
    return f"{name} is {shown(error['input'])}, expected {expected}"


def shown(value: object) -> str:
    """Return a wrong value as JSON, shortened and without secrets, for a message."""
    text = without_secrets(
        json.dumps(value, default=str)
    )  # before it is shortened: a part of a secret would not be recognized
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
