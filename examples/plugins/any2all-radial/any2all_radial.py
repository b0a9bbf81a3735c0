"""Radial MRI: y_c = NUFFT(s_c · x) + n along golden-angle spokes."""

import math
from dataclasses import dataclass

import torch
from any2all_data import birdcage_maps
from any2all_operators import Operator
from pytorch_finufft.functional import finufft_type1, finufft_type2
from torch import Tensor


@dataclass(frozen=True)
class Radial:
    """Golden-angle radial k-space of birdcage ``coils``; Nyquist needs about 1.6 W ``spokes``."""

    spokes: int = 40
    coils: int = 8
    noise_std: float = 0.01

    def build(self, height: int, width: int) -> Operator:
        samples = torch.arange(-max(height, width), max(height, width)) / (2 * max(height, width))
        angle = torch.arange(self.spokes) * math.pi * (math.sqrt(5) - 1) / 2
        spoke = torch.stack([angle.sin(), angle.cos()])[:, :, None] * samples * 2 * math.pi
        return RadialFourier(
            birdcage_maps(self.coils, height, width), spoke.flatten(1), self.noise_std
        )


@dataclass(frozen=True, eq=False)
class RadialFourier(Operator):
    """coil_maps (C, H, W); points (2, K) in radians per pixel; data (B, C, K), scaled by 1/√HW."""

    coil_maps: Tensor
    points: Tensor
    noise_std: float = 0.0

    def forward(self, image: Tensor) -> Tensor:
        coils = self.coil_maps * image[:, None]
        return (
            finufft_type2(self.points, coils.contiguous(), isign=-1)
            / math.prod(image.shape[1:]) ** 0.5
        )

    def adjoint(self, data: Tensor) -> Tensor:
        size = tuple(self.coil_maps.shape[1:])
        coils = finufft_type1(self.points, data.contiguous(), size, isign=1)
        return (self.coil_maps.conj() * coils).real.sum(1) / math.prod(size) ** 0.5
