"""`mnist-bp certify`: hold an engine to float64 autograd and to the reference engine, in both precisions."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pydantic import Field
from pydantic_settings import SettingsConfigDict
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mnist_bp.cli.flags import Command, parse
from mnist_bp.config import EngineChoice
from mnist_bp.engines.choose import choose_engine
from mnist_bp.model.parameters import BiasGradient


class CertifyCommand(Command):
    """Prove that an engine computes the gradients of mnist_bp/backprop.py; exit code 1 if it does not."""

    model_config = SettingsConfigDict(cli_prog_name="mnist-bp certify")

    engine: EngineChoice = "auto"
    """Which engine; auto = the one that a run would use."""

    hidden: int = Field(default=30, ge=1, le=16_384)
    """Hidden units of the network it is tested on."""

    batch_size: int = Field(default=10, ge=1, le=10_000)
    """Examples of the step it is tested on."""

    bias_gradient: BiasGradient = "mean"
    """Reduction of the bias gradients on the trajectory."""


def main(arguments: Sequence[str]) -> int:
    """Certify an engine and print the figures.

    Returns:
        0, or 1 if a figure is beyond its limit.
    """
    command = parse(CertifyCommand, arguments)
    engine, notice = choose_engine(command.engine, command.hidden, command.batch_size)
    from mnist_bp.engines.certificate import Certificate, certify  # torch

    certificate: Certificate = certify(
        engine,
        hidden=command.hidden,
        batch_size=command.batch_size,
        bias_gradient=command.bias_gradient,
        precisions=("float32", "float64"),
    )
    if command.json_output:
        print(json.dumps({**certificate.record, "notice": notice}))
        return 1 if certificate.failures else 0
    shape = ", ".join(f"{name.replace('_', ' ')} {size}" for name, size in certificate.shape.items())
    table = Table(
        "error of",
        "in",
        "against autograd",
        "against reference",
        "limit",
        title=f"{certificate.engine} engine: {shape}",
    )
    for dtype, parameters in certificate.gradients.items():
        for name, errors in parameters.items():
            limit = f"{certificate.limits['gradients'][dtype]:.0e}"
            table.add_row(f"d{name}", dtype, f"{errors['autograd']:.1e}", f"{errors['reference']:.1e}", limit)
    for name, errors in certificate.weights.items():
        after = f"{name} after {certificate.steps} steps"
        table.add_row(after, "float32", "", f"{errors['engine']:.1e}", f"{certificate.max_drift(errors):.0e}")
    console = Console()
    console.print(table)
    for line in (
        *([notice] if notice else []),
        *certificate.failures,
        f"{certificate.summary}, in {certificate.seconds:.2f} s",
    ):
        console.print(Text(line), soft_wrap=True)
    return 1 if certificate.failures else 0
