"""JSON documents that end with a checksum of themselves.

    {
      "run_id": "20261123T181500Z-1a2b3c4d",
      ...
      "checksum": "<SHA-256 of this file with 64 zeros in this place>"
    }

A manifest or a pointer therefore needs no second file to be checked against, and no byte of it can change unnoticed.
The checksum finds damage. It is not a signature: anyone who can write the file can compute it again.
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
_FORMAT_1: Final = re.compile(rb'"seal": "[0-9a-f]{64}"\s*}\s*\Z')
"""How documents ended before format 2."""


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
        DataFormatError: The document has no checksum, or was written in format 1.
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
    document: dict[str, Any] = json.loads(content)
    del document[_KEY]
    return document
