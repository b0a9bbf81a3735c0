"""Channel attention by squeeze and excitation."""

from __future__ import annotations

from torch import Tensor, nn


class SqueezeExcitation(nn.Module):
    """h · σ(W₂ ReLU(W₁ mean h)) with the mean over rows and columns; W₁ has C/reduction rows.

    Source: Hu 2018, *Squeeze-and-excitation networks*.
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        inside = max(1, channels // reduction)
        self.scale = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, inside, 1),
            nn.ReLU(),
            nn.Conv2d(inside, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, h: Tensor) -> Tensor:
        return h * self.scale(h)
