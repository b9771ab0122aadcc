"""What pages are rendered with: the templates, the scripts, the icon, and the policy that they keep to."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mnist_bp.report import style

SCRIPTS: Final = ("network.js", "report.js")
"""Scripts of a report, in order."""

_FOLDER: Final = Path(__file__).parent


@cache
def page_environment() -> Environment:
    """Return the Jinja environment of the templates, which are compiled once, with their number formats as filters."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        optimized=False,  # constants are not worth the pass over the tree at the only rendering
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {name: getattr(style, name) for name in ("LIGHT", "DARK", "FONT_FAMILY", "css_colours")}
    environment.filters |= {"count": "{:,}".format, "share": "{:.4f}".format, "percent": "{:.1%}".format}
    return environment


def read_scripts() -> list[str]:
    """Return the scripts of a report."""
    return [(_FOLDER / name).read_text(encoding="utf-8") for name in SCRIPTS]


def content_policy(scripts: Sequence[str]) -> str:
    """Return a content security policy that allows the page its pictures, its styles and these scripts, no request."""
    digests = (
        " ".join(f"'sha256-{_base64(hashlib.sha256(script.encode()).digest())}'" for script in scripts) or "'none'"
    )
    return (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {digests}; "
        "base-uri 'none'; form-action 'none'"
    )


def icon_data_url() -> str:
    """Return the icon of a page as a `data:` URL."""
    return f"data:image/svg+xml;base64,{_base64(page_environment().get_template('icon.svg').render().encode())}"


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
