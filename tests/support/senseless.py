"""Documents that are senseless and have a valid checksum, and files that are no regular files."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from mnist_bp.storage import checksummed_json
from mnist_bp.storage.reading import sha256_of_bytes

ESCAPE: Final = "\x1b[31m"

RAW: Final[Mapping[str, bytes]] = {
    "nothing": b"",
    "no JSON": b"nonsense ",
    "a list": b"[1, ",
    "an infinite number": b'{"a": 1e999, ',
    "NaN": b'{"a": NaN, ',
    "5,000 digits": b'{"a": ' + b"9" * 5_000 + b", ",
    "a hundred thousand levels": b'{"a": ' + b"[" * 100_000,
    "500 levels": b'{"a": ' + b"[" * 500 + b"]" * 500 + b", ",
    "no UTF-8": b'{"a": "\xff", ',
    "a byte order mark": b"\xef\xbb\xbf{",
    "half a character": b'{"a": "\\ud800", ',
    "an escape sequence": b'{"a": "\\u001b[31m", ',
    "a repeated name": b'{"a": 1, "a": 2, ',
    "no fields": b"{",
}
"""Contents before the checksum."""

VALUES: Final[tuple[Any, ...]] = (
    None,
    True,
    -1,
    0,
    10**17,
    1e308,
    "",
    "../../../etc/passwd",
    "a\\b",
    f"{ESCAPE}[bold]red[/bold]",
    "[/]",
    [],
    {},
    [[]],
    "9999-12-31T23:59:59.999999+00:00",
    "x" * 10_000,
)
"""Values in place of the right ones."""


def sealed(head: bytes) -> bytes:
    """Return bytes that end with a valid checksum."""
    blank = b"0" * 64
    content = head + b'"checksum": "' + blank + b'"}\n'
    return content[: -len(blank) - 3] + sha256_of_bytes(content).encode() + content[-3:]


def changed_documents(document: Mapping[str, Any], count: int, seed: int, *, indent: int | None = 2) -> Iterator[bytes]:
    """Yield copies of a document with a valid checksum, each with one value of any level replaced or removed."""
    draw = random.Random(seed)
    places = list(_places(document))
    for _ in range(count):
        copy = json.loads(json.dumps(document))
        *path, last = draw.choice(places)
        target = copy
        for step in path:
            target = target[step]
        if isinstance(target, dict) and draw.random() < 0.1:
            del target[last]
        else:
            target[last] = draw.choice(VALUES)
        yield checksummed_json.dumps(copy, indent=indent)


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    inner = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield from _places(each, (*path, key))


def named_pipe(path: Path) -> None:
    """Put a named pipe in place of a file."""
    path.unlink()
    os.mkfifo(path)


def link_to_device(path: Path) -> None:
    """Put a link to an endless device in place of a file."""
    path.unlink()
    path.symlink_to("/dev/zero")


def link_to_pipe(path: Path) -> None:
    """Put a link to a named pipe in place of a file."""
    path.unlink()
    pipe = path.with_name(f".pipe-{path.name}")
    os.mkfifo(pipe)
    path.symlink_to(pipe)


def huge_file(path: Path) -> None:
    """Make a file 8 GiB large, all but its start zeros that take no space."""
    os.truncate(path, 8 << 30)


STRANGE_FILES: Final[Mapping[str, Callable[[Path], None]]] = {
    "a named pipe": named_pipe,
    "a link to a pipe": link_to_pipe,
    "a link to a device": link_to_device,
    "8 GiB": huge_file,
}
