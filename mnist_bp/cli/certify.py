"""`mnist-bp certify`: check an engine's gradients and weights, in float32 and float64."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field
from rich.console import Console

from mnist_bp.cli.console import logging_to
from mnist_bp.cli.flags import Command, parse
from mnist_bp.cli.output import say
from mnist_bp.cli.tables import print_table
from mnist_bp.config import EngineChoice
from mnist_bp.engines.choose import choose_engine
from mnist_bp.model.recipe import MAX_SHIFT, Activation, BiasGradient, Initial, Loss, recipe_of

if TYPE_CHECKING:
    from mnist_bp.engines.certificate_record import Certificate

logger = logging.getLogger(__name__)


class CertifyCommand(Command, cli_prog_name="mnist-bp certify"):
    """Check an engine's gradients, predictions and weights against float64 autograd; exit code 1 if one is wrong."""

    engine: EngineChoice = "auto"
    """Engine to check; auto = the engine that a run would use."""

    hidden: int = Field(default=30, ge=1, le=16_384)
    """Hidden units of the network in the check."""

    batch_size: int = Field(default=10, ge=1, le=10_000)
    """Examples per step in the check."""

    bias_gradient: BiasGradient = "mean"
    """Reduction of the bias gradients over the batch that the check uses."""

    loss: Loss = "squared_error"
    """Loss that the check uses."""

    activation: Activation = "sigmoid"
    """Activation of the hidden units that the check uses."""

    initial: Initial = "normal"
    """Initial weights that the check begins its steps from; relu always begins from scaled ones."""

    shift: int = Field(default=0, ge=0, le=MAX_SHIFT)
    """Move the images of the check by up to this many pixels along both axes."""


def main(arguments: Sequence[str]) -> int:
    """Check an engine and print its errors.

    Returns:
        0, or 1 if an error exceeds its limit.
    """
    command = parse(CertifyCommand, arguments)
    with logging_to(Console(stderr=True)):
        engine, notice = choose_engine(command.engine, command.hidden, command.batch_size)
        logger.info(f"certify     checking the {engine.name} engine against autograd, which takes some seconds")
    from mnist_bp.engines.certificate import certify  # imports torch

    certificate = certify(
        engine,
        hidden=command.hidden,
        batch_size=command.batch_size,
        recipe=recipe_of(dict(command)),
        precisions=("float32", "float64"),
    )
    if command.json_output:
        say(json.dumps({**certificate.record, "notice": notice}))
    else:
        _print(certificate)
        summary = f"{certificate.summary}, in {certificate.seconds:.2f} s"
        say("", *([notice] if notice else []), *certificate.failures, summary, sep="\n")
    return 1 if certificate.failures else 0


def _print(certificate: Certificate) -> None:
    shape = ", ".join(f"{name.replace('_', ' ')} {size}" for name, size in certificate.shape.items())
    rows = []
    for dtype, parameters in certificate.gradients.items():
        limit = f"{certificate.gradient_limit(dtype):.0e}"
        rows += [(f"d{name}", dtype, f"{error:.1e}", limit) for name, error in parameters.items()]
    for dtype, scales in certificate.predictions.items():
        limit = f"{certificate.value_limit(dtype):.0e}"
        rows += [(f"a2, pixels times {scale}", dtype, f"{error:.1e}", limit) for scale, error in scales.items()]
    steps, limit = certificate.trajectory["steps"], certificate.limits["loss"]
    rows.append(("loss of backprop.py", "float64", f"{certificate.loss:.1e}", f"{limit:.0e}"))
    for name, errors in certificate.weights.items():
        limit = f"{certificate.max_drift(errors):.0e}"
        rows.append((f"{name} after {steps} steps", "float32", f"{errors['engine']:.1e}", limit))
    for what, same in certificate.calls.items():
        rows.append((f"calls for {what}", "float32", "equal" if same else "differ", "equal"))
    headings = ("quantity", "precision", "vs. autograd", "limit")
    say(f"{certificate.engine} engine, relative errors ({shape})\n")
    print_table(headings, rows)
