"""What the commands of `deployments/` share: preparation before Prefect is imported, and the exit code.

Prefect reads its settings when it is imported, so a command imports it in the function that it passes.
"""

from __future__ import annotations

from collections.abc import Callable

import httpx

from flows.runtime.choose_server import separate_password, unusable
from flows.runtime.home import ensure_home
from flows.runtime.proxies import bypass_proxies_on_loopback
from mnist_bp.cli import alive
from mnist_bp.cli.process import INTERRUPTED, print_error
from mnist_bp.errors import ConfigError, MnistBpError


def run_deployment_command(command: Callable[[], None], stage: str, data_dir: str) -> int:
    """Run a command, and print its error as one line.

    Args:
        command: What to do.
        stage: What it does first, in one word, for signs of life.
        data_dir: Home of a user that has none.

    Returns:
        The exit code: 0, 1 (failed) or 130 (interrupted); 2 (bad usage) is raised as SystemExit.
    """
    alive.start(stage)
    try:
        ensure_home(data_dir)
        bypass_proxies_on_loopback()
        separate_password()
        command()
    except ConfigError as exc:
        print_error(str(exc))
        raise SystemExit(2) from exc
    except MnistBpError as exc:
        print_error(str(exc))
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as exc:
        from prefect.exceptions import PrefectException
        from prefect.settings import PREFECT_API_URL

        url = str(PREFECT_API_URL.value())
        if isinstance(exc, httpx.HTTPError):
            print_error(str(unusable(url, exc, "try again")))
        elif isinstance(exc, PrefectException):  # such as ObjectNotFound
            print_error(f"the Prefect server at {url} was changed by another process ({type(exc).__name__}): try again")
        else:
            raise
        return 1
    finally:
        alive.stop()
    return 0
