"""The error of a reconstruction of raw k-space."""

from __future__ import annotations

import torch
from any2all_operators import Measured
from builders.raw_data import HEIGHT, WIDTH, images


def error(measured: Measured) -> float:
    """Mean error of the least-squares image in the head, where 1 is white."""
    zeros = torch.zeros(len(measured.data), HEIGHT, WIDTH)
    image = measured.operator.prox(measured.data, zeros, 100.0)
    truth = images()[: len(image)]
    return float((image * measured.scale - truth)[truth > 0.2].abs().mean())
