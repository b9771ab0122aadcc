"""Types of fields that several documents have; see also `mnist_bp.storage.schema`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

from pydantic import AfterValidator, AwareDatetime, Field, PlainSerializer

from mnist_bp.layout import ALIAS, DATASET

_FIRST_YEAR: Final = 1970
_LAST_YEAR: Final = 9998

Share = Annotated[float, Field(ge=0, le=1)]
"""In [0, 1]."""


def _in_calendar(value: datetime) -> datetime:
    if not _FIRST_YEAR <= value.year <= _LAST_YEAR:  # in any time zone, it can still be represented
        raise ValueError(f"a year from {_FIRST_YEAR} to {_LAST_YEAR}")
    return value


Timestamp = Annotated[
    AwareDatetime, AfterValidator(_in_calendar), PlainSerializer(datetime.isoformat, when_used="json")
]
"""ISO 8601 with a time zone."""

RUN_ID_PATTERN: Final = r"^[A-Za-z0-9_-]{1,100}$"
RunId = Annotated[str, Field(pattern=RUN_ID_PATTERN)]
"""Id of a run. It has no slash and no dot, so a key made from it cannot lead to another place."""

DatasetKey = Annotated[str, Field(pattern=f"^{DATASET}$")]
"""Name of a dataset, a part of keys."""

AliasName = Annotated[str, Field(pattern=f"^{ALIAS}$")]
"""Name of a run besides its id. It begins with a letter, so it is never the start of an id."""
