"""What libraries may log: their messages below a certain level contain secrets."""

from __future__ import annotations

import logging
from typing import Final

_LEVELS: Final = {
    "httpx": logging.WARNING,  # at INFO, it logs addresses, with the passwords in them
    "boto3": logging.INFO,
    "botocore": logging.INFO,  # at DEBUG, it logs headers, with session tokens
    "s3transfer": logging.INFO,
}


def keep_secrets_out_of_logs() -> None:
    """Raise the levels of the loggers of HTTPX and boto3, as far as they are lower; call this before a request."""
    for name, level in _LEVELS.items():
        logger = logging.getLogger(name)
        logger.setLevel(max(logger.level, level))
