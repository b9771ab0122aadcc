"""The proxy variables of the environment, which HTTPX and botocore read."""

from __future__ import annotations

import os
from typing import Final
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

PROXY_VARIABLES: Final = tuple(
    name for upper in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY") for name in (upper, upper.lower())
)


def accept_gnome_proxies() -> None:
    """Replace socks://, which GNOME writes into proxy variables, by what clients call it: socks5://."""
    for name in PROXY_VARIABLES:
        scheme, separator, rest = os.environ.get(name, "").partition("://")
        if separator and scheme.lower() == "socks":
            os.environ[name] = f"socks5://{rest}"


def proxy_variable(url: str) -> str | None:
    """Return the variable that names the proxy of requests to an address; None if they go to it directly."""
    parts = urlsplit(url)
    if proxy_bypass(parts.hostname or ""):
        return None
    names = (f"{parts.scheme}_proxy", "all_proxy")
    return next((each for name in names for each in (name, name.upper()) if os.environ.get(each)), None)
