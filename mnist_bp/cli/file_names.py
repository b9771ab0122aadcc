"""Names of files among the flags, checked before any work is begun."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated
from urllib.parse import quote, unquote

from pydantic import AfterValidator


def _check_name(*suffixes: str) -> Callable[[str], str]:
    """Return a validator of the name of a picture, page or model: work is not begun whose result cannot be written."""

    def check(name: str) -> str:
        if name and Path(name).suffix not in suffixes:
            raise ValueError(f"expected a name that ends in {' or '.join(suffixes)}")
        if not (directory := Path(name).absolute().parent).is_dir():
            raise ValueError(f"expected a file in an existing directory, and {directory} is none")
        if not os.access(directory, os.W_OK):
            raise ValueError(f"expected a file in a directory that can be written, and {directory} cannot be")
        return name

    return check


def quote_name(name: str) -> str:
    """Return a name as pydantic-settings takes it for one: it divides others at commas, and reads some as JSON."""
    return "/" + quote(name, safe="", errors="surrogateescape")


def _unquote_names(names: list[str]) -> list[str]:
    return [unquote(name.removeprefix("/"), errors="surrogateescape") for name in names]


FileNames = Annotated[list[str], AfterValidator(_unquote_names)]
"""Names of files that are given without a flag; `quote_name` quotes them."""

ModelFile = Annotated[str, AfterValidator(_check_name(".onnx", ".npz", ".safetensors"))]
"""Name of an exported model in an existing directory."""

PngFile = Annotated[str, AfterValidator(_check_name(".png"))]
HtmlFile = Annotated[str, AfterValidator(_check_name(".html"))]
PngOrSvgFile = Annotated[str, AfterValidator(_check_name(".png", ".svg"))]
"""Name of a picture or page in an existing directory; an empty string for none."""
