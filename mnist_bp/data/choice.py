"""The dataset as a setting of a run, and as what selects runs: a name, or the address of the user's own images."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, WithJsonSchema

from mnist_bp.data.datasets import DatasetName
from mnist_bp.data.own.address import clean_dataset, kept_name

DatasetChoice = Literal["auto", DatasetName]

Dataset = Annotated[
    str,
    AfterValidator(clean_dataset),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "enum": list(get_args(DatasetChoice))},
                {"type": "string", "pattern": "^(images|idx|parquet):.+$"},
            ]
        }
    ),
]
"""A `DatasetChoice`, or the address of the user's own images; a form offers the names, and a field for an address."""

KeptName = Annotated[str, AfterValidator(kept_name)]
"""Name under which the runs on a dataset are kept, given as such or by the address of the user's own images."""
