"""The proxy variables of the environment, adapted for a process whose Prefect server is on this machine.

Prefect's client takes them from the environment, and would send the requests to that server to the proxy.
"""

from __future__ import annotations

import os
from typing import Final

from mnist_bp.errors import ConfigError
from mnist_bp.storage.proxies import PROXY_VARIABLES, accept_gnome_proxies

_LOOPBACK: Final = ("127.0.0.1", "localhost")
_SCHEMES: Final = ("http", "https", "socks5", "socks5h")


def bypass_proxies_on_loopback() -> None:
    """Exempt this machine from the proxies of this process and its children; other addresses are unaffected.

    Raises:
        ConfigError: A proxy has a scheme that Prefect's client refuses even if the proxy is not used.
    """
    accept_gnome_proxies()
    for name in PROXY_VARIABLES:
        scheme, separator, _ = os.environ.get(name, "").partition("://")
        if separator and scheme.lower() not in _SCHEMES:
            raise ConfigError(f"{name} starts with {scheme}://: expected http://, https:// or socks5://")
    for exempt in ("NO_PROXY", "no_proxy"):
        given = os.environ.get("no_proxy", os.environ.get("NO_PROXY", "")).split(",")
        hosts = [host.strip() for host in given if host.strip()]
        added = [host for host in _LOOPBACK if host not in hosts]
        os.environ[exempt] = "*" if "*" in hosts else ",".join([*hosts, *added])  # clients know * only by itself
