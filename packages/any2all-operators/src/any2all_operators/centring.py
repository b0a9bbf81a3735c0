"""The phase ramp that turns a plain FFT into a centred one."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def centring(height: int, width: int) -> Tensor:
    """The ramp Π exp(2πi k c/n) over both axes, with k = 0 ... n−1 and c = n // 2; (H, W)."""
    ramps = []
    for n in (height, width):
        angle = 2 * math.pi * ((torch.arange(n) * (n // 2)) % n).double() / n
        ramps.append(torch.polar(torch.ones_like(angle), angle).to(torch.complex64))
    return ramps[0][:, None] * ramps[1]
