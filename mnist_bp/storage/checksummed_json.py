"""JSON documents that end with a checksum of themselves.

    {
      "run_id": "20261123T181500Z-1a2b3c4d",
      ...
      "checksum": "<SHA-256 of this file with 64 zeros in this place>"
    }

A manifest or an entry of a log therefore needs no second file to be checked against, and no byte of it can change
unnoticed.
The checksum finds damage. It is not a signature: anyone who can write the file can compute it again.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from mnist_bp.errors import UNPRINTABLE, ChecksumError, DataFormatError
from mnist_bp.storage.reading import sha256_of_bytes

_KEY: Final = "checksum"
_BLANK: Final = "0" * 64
_CHECKSUM: Final = re.compile(rb'"checksum": "([0-9a-f]{64})"\s*}\s*\Z')
_FORMAT_1: Final = re.compile(rb'"seal": "[0-9a-f]{64}"\s*}\s*\Z')
"""How documents ended before format 2."""

MAX_DEPTH: Final = 32
"""Levels of objects and lists in a document; those written here have at most 6."""

_MAX_DIGITS: Final = 18
"""Digits of an integer, so that it fits in 64 bits."""


def dumps(document: Mapping[str, Any], *, indent: int | None = 2) -> bytes:
    """Encode a document and its checksum. Equal documents give equal bytes.

    Args:
        document: Values that `json.dumps` can encode, without the key `checksum`.
        indent: As in `json.dumps`; None for a single line.
    """
    assert _KEY not in document
    content = json.dumps({**document, _KEY: _BLANK}, indent=indent).encode() + b"\n"
    head, _, tail = content.rpartition(_BLANK.encode())
    return head + sha256_of_bytes(content).encode() + tail


def loads(content: bytes, what: str, hint: str) -> dict[str, Any]:
    """Verify the checksum of a document, then decode it.

    Args:
        content: Bytes as returned by `dumps`, possibly damaged since.
        what: Name of the document, for the message.
        hint: What the user can do about a damaged document, for the message.

    Returns:
        The document, without its checksum.

    Raises:
        ChecksumError: A byte differs; nothing was parsed.
        DataFormatError: The document has no checksum, was written in format 1, or is not JSON of our kind; see
            `decode`.
    """
    found = _CHECKSUM.search(content)
    if found is None:
        if _FORMAT_1.search(content):
            raise DataFormatError(
                f"{what} was written by an older mnist-bp in format 1, expected format 2: read it with that version, "
                f"choose another place (--data-dir, --artifacts), or {hint}"
            )
        raise DataFormatError(f"{what} has no checksum at its end: it is cut off, or mnist-bp did not write it; {hint}")
    stated = found[1].decode()
    actual = sha256_of_bytes(content[: found.start(1)] + _BLANK.encode() + content[found.end(1) :])
    if actual != stated:
        raise ChecksumError(f"{what} is damaged: its checksum is {stated}, its content's SHA-256 {actual}; {hint}")
    try:
        document = decode(content)
        del document[_KEY]
    except (ValueError, LookupError, RecursionError) as exc:
        raise DataFormatError(f"{what} has a valid checksum and senseless content: {exc}; {hint}") from exc
    return document


def decode(content: bytes) -> dict[str, Any]:
    """Decode a JSON object that every later step can handle: print, compare, convert to a time or a float, encode.

    Raises:
        ValueError: It is not a JSON object in UTF-8, a name is repeated, or a value is one that no document here has: a
            number that is infinite, NaN or has more than 18 digits, a string with control characters, or more than
            `MAX_DEPTH` levels. JSONDecodeError and UnicodeDecodeError are ValueErrors.
        RecursionError: It has far more levels.
    """
    document = json.loads(
        content.decode(),
        parse_int=_integer,
        parse_float=_finite,
        parse_constant=_refuse_constant,
        object_pairs_hook=_unique,
    )
    if not isinstance(document, dict):
        raise ValueError(f"it is a {type(document).__name__}, expected an object")
    _check(document)
    return document


def _integer(text: str) -> int:
    if len(text.removeprefix("-")) > _MAX_DIGITS:
        raise ValueError(f"an integer has {len(text):,} digits, expected at most {_MAX_DIGITS}")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:_MAX_DIGITS]} is too large")
    return value


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number of JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is repeated in an object")
    return found


def _check(document: dict[str, Any]) -> None:
    """Check depth and strings, level by level and without recursion."""
    level: list[Any] = [document]
    for _ in range(MAX_DEPTH):
        objects = [value for value in level if isinstance(value, dict)]
        inner = [each for value in objects for each in value.values()]
        inner += [each for value in level if isinstance(value, list) for each in value]
        strings = [each for each in level if isinstance(each, str)] + [name for value in objects for name in value]
        if found := next(filter(None, map(UNPRINTABLE.search, strings)), None):
            raise ValueError(f"a string contains the control character {found[0]!a}")
        if not inner:
            return
        level = inner
    raise ValueError(f"it has more than {MAX_DEPTH} levels")
