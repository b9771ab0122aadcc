"""The readable truth: forward, the seven equations and the update as written, one torch operation each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mnist_bp.backprop import backward, descend
from mnist_bp.network import Parameters, forward
from mnist_bp.records import BiasGradient


@dataclass(frozen=True)
class ReferenceEngine:
    """Run `backprop.py` step by step.

    Args:
        device: `cpu` or `cuda`.
    """

    name: ClassVar[str] = "reference"
    device: str = "cpu"

    def advance(
        self,
        parameters: Parameters,
        images: Tensor,
        labels: Tensor,
        batches: Tensor,
        *,
        learning_rate: float,
        bias_gradient: BiasGradient,
    ) -> Parameters:
        """Train for as many steps as there are batches; see `Engine.advance`."""
        parameters = parameters.to(torch.device(self.device))
        dtype = parameters.W1.dtype
        one_hot = torch.eye(parameters.b2.numel(), dtype=dtype, device=self.device)  # (K, K)
        for batch in batches:
            x = images[batch].to(dtype) / 255  # (B, D)
            t = one_hot[labels[batch]]  # (B, K)
            activations = forward(parameters, x)
            gradients = backward(parameters, x, activations, t, bias_gradient)
            descend(parameters, gradients, learning_rate)
        return parameters
