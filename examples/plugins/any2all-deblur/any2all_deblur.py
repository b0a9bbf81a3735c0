"""Blur: y = F⁻¹ h F x + n, with the transfer function h of a Gaussian or of straight motion."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from any2all_operators import Operator
from torch import Tensor


@dataclass(frozen=True)
class Deblur(Operator):
    """Gaussian blur of ``sigma`` pixels, or motion of ``length`` pixels at ``angle`` degrees."""

    kind: Literal["gaussian", "motion"] = "gaussian"
    sigma: float = 2.0
    length: float = 9.0
    angle: float = 0.0
    noise_std: float = 0.01

    def forward(self, image: Tensor) -> Tensor:
        return self._filter(image, self.transfer(image))

    def adjoint(self, data: Tensor) -> Tensor:
        return self.forward(data)  # h is real and even

    def prox(self, data: Tensor, anchor: Tensor, weight: float) -> Tensor:
        h = self.transfer(anchor)
        gain = (
            h / (h**2).clamp(min=1e-4) if math.isinf(weight) else weight * h / (1 + weight * h**2)
        )
        return anchor + self._filter(data - self.forward(anchor), gain)

    def transfer(self, image: Tensor) -> Tensor:
        """h (H, W), periodic at the border."""
        v, u = torch.meshgrid(*(torch.fft.fftfreq(n) for n in image.shape[-2:]), indexing="ij")
        if self.kind == "gaussian":
            return torch.exp(-2 * (math.pi * self.sigma) ** 2 * (u**2 + v**2))
        along = u * math.cos(math.radians(self.angle)) - v * math.sin(math.radians(self.angle))
        h = torch.sinc(self.length * along)
        return (h + h.flip(0, 1).roll((1, 1), (0, 1))) / 2  # even at the highest frequency, too

    def _filter(self, image: Tensor, gain: Tensor) -> Tensor:
        return torch.fft.ifft2(gain * torch.fft.fft2(image)).real
