"""JSON documents with a checksum of themselves: damage is found, and older formats are named."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Final

import pytest

from mnist_bp.errors import ChecksumError, DataFormatError
from mnist_bp.storage import checksummed_json

DOCUMENT: Final = {"run_id": "20261123T181500Z-1a2b3c4d", "files": {"a": [1, 2.5, None, "ä"]}}


def load(content: bytes) -> dict[str, object]:
    return checksummed_json.loads(content, "the manifest", "restore it from a copy")


def format_1(document: Mapping[str, object], indent: int | None) -> bytes:
    """Encode a document as versions of mnist-bp before format 2 did."""
    content = json.dumps({**document, "seal": "0" * 64}, indent=indent).encode() + b"\n"
    return content.replace(b"0" * 64, hashlib.sha256(content).hexdigest().encode())


@pytest.mark.parametrize("indent", [2, None])
def test_loads_returns_what_dumps_encoded(indent: int | None) -> None:
    content = checksummed_json.dumps(DOCUMENT, indent=indent)
    assert load(content) == DOCUMENT
    assert content == checksummed_json.dumps(DOCUMENT, indent=indent)
    assert len(content.splitlines()) == (1 if indent is None else 12)


def test_the_checksum_is_the_sha256_of_the_file_with_zeros_in_its_place() -> None:
    content = checksummed_json.dumps(DOCUMENT)
    checksum = json.loads(content)["checksum"].encode()
    assert checksum.decode() == hashlib.sha256(content.replace(checksum, b"0" * 64)).hexdigest()


def test_a_flipped_bit_in_any_byte_is_found() -> None:
    content = checksummed_json.dumps(DOCUMENT)
    for place in range(len(content) - 1):  # the last byte is the line feed: as space it would be as good
        damaged = bytearray(content)
        damaged[place] ^= 1
        with pytest.raises((ChecksumError, DataFormatError)) as caught:
            load(bytes(damaged))
        assert str(caught.value).startswith("the manifest ")
        assert str(caught.value).endswith("; restore it from a copy")


@pytest.mark.parametrize("content", [b"", b"{}\n", b"[]\n", b"\x00\xff", json.dumps(DOCUMENT).encode()])
def test_a_document_without_a_checksum_is_refused(content: bytes) -> None:
    with pytest.raises(DataFormatError, match="the manifest has no checksum at its end"):
        load(content)


@pytest.mark.parametrize(
    "document", [{"a": "\x1b[31m"}, {"a": [{"b": "\u202e"}]}, {"a": {"\x07": 1}}], ids=["value", "below", "name"]
)
def test_a_document_with_a_control_character_is_refused(document: dict[str, object]) -> None:
    with pytest.raises(DataFormatError, match="a string contains the control character"):
        load(checksummed_json.dumps(document))


@pytest.mark.parametrize("indent", [2, None])
def test_a_document_of_format_1_is_refused_in_one_line_that_says_what_to_do(indent: int | None) -> None:
    with pytest.raises(DataFormatError) as caught:
        load(format_1(DOCUMENT, indent))
    assert str(caught.value) == (
        "the manifest was written by an older mnist-bp in format 1, expected format 2: "
        "read it with that version, choose another place (--data-dir, --artifacts), or restore it from a copy"
    )
