"""JSON documents that prove themselves: the last entry is a digest of all the others, byte for byte.

    {
      "run_id": "20261123T181500Z-1a2b3c4d",
      ...
      "checksum": "<SHA-256 of this very file, with 64 zeros in this place>"
    }

So a manifest or a pointer needs no second file to be checked against, and no byte of it can change unnoticed. A seal
finds damage; it is no signature, and whoever may write the file may seal it anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from mnist_bp.errors import ChecksumError, DataFormatError
from mnist_bp.storage.files import sha256_of_bytes

_KEY: Final = "checksum"
_BLANK: Final = "0" * 64
_CHECKSUM: Final = re.compile(rb'"checksum": "([0-9a-f]{64})"\s*}\s*\Z')


def dumps(document: Mapping[str, Any], *, indent: int | None = 2) -> bytes:
    """Encode a document with its seal. Equal documents give equal bytes.

    Args:
        document: JSON-ready, without a `checksum`.
        indent: As `json.dumps` has it; None for a single line.
    """
    assert _KEY not in document
    content = json.dumps({**document, _KEY: _BLANK}, indent=indent).encode() + b"\n"
    head, _, tail = content.rpartition(_BLANK.encode())
    return head + sha256_of_bytes(content).encode() + tail


def loads(content: bytes, what: str, remedy: str) -> dict[str, Any]:
    """Decode a document after proving that its bytes are the ones that were sealed.

    Args:
        content: What `dumps` returned, it is to be hoped.
        what: Names the document in the message.
        remedy: What the user can do about a damaged one.

    Returns:
        The document, without its seal.

    Raises:
        ChecksumError: A byte differs; nothing was parsed.
        DataFormatError: It has no seal at all.
    """
    found = _CHECKSUM.search(content)
    if found is None:
        raise DataFormatError(f"{what} does not end in a seal, as every document written here does; {remedy}")
    stated = found[1].decode()
    actual = sha256_of_bytes(content[: found.start(1)] + _BLANK.encode() + content[found.end(1) :])
    if actual != stated:
        raise ChecksumError(f"{what} is damaged: its seal is {stated}, its content's SHA-256 {actual}; {remedy}")
    document: dict[str, Any] = json.loads(content)
    del document[_KEY]
    return document


def expect_version(document: dict[str, Any], name: str, expected: int, what: str) -> None:
    """Take a document's version out of it after looking at it; a document that states none is left to its reader.

    Raises:
        DataFormatError: It is another.
    """
    version = document.pop(name, expected)
    if version != expected:
        raise DataFormatError(
            f"{what} has version {version}, expected {expected}: another version of mnist-bp wrote it; use that one"
        )
