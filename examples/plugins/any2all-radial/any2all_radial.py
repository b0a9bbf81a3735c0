"""Radial MRI: y_c = NUFFT(s_c · x) + n along golden-angle spokes."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from any2all_mri import birdcage_maps
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
        maps = birdcage_maps(self.coils, height, width)
        return RadialFourier(maps, spoke.flatten(1), self.noise_std)


@dataclass(frozen=True, eq=False)
class RadialFourier(Operator):
    """coil_maps (C, H, W); points (2, K) in radians per pixel; data (B, C, K), scaled by 1/√HW."""

    coil_maps: Tensor
    points: Tensor
    noise_std: float = 0.0

    def forward(self, image: Tensor) -> Tensor:
        coils = (self.coil_maps * image[:, None]) / math.prod(image.shape[1:]) ** 0.5
        return finufft_type2(self.points, coils, isign=-1, modeord=0)

    def adjoint(self, data: Tensor) -> Tensor:
        return self._combine(self._gridded(data, 1)) / math.prod(self.coil_maps.shape[1:]) ** 0.5

    def normal(self, image: Tensor) -> Tensor:
        """A*A is a convolution with the point spread function: plain FFTs of twice the size."""
        size = [2 * n for n in image.shape[1:]]
        return self._combine(
            torch.fft.ifft2(self.transfer * torch.fft.fft2(self.coil_maps * image[:, None], s=size))
        )

    @cached_property
    def transfer(self) -> Tensor:
        spread = self._gridded(torch.ones(self.points.shape[1], dtype=torch.complex64), 2)
        return torch.fft.fft2(torch.fft.ifftshift(spread)) / math.prod(self.coil_maps.shape[1:])

    def _gridded(self, data: Tensor, factor: int) -> Tensor:
        size = tuple(factor * n for n in self.coil_maps.shape[1:])
        return finufft_type1(self.points, data.contiguous(), size, isign=1, modeord=0)

    def _combine(self, coils: Tensor) -> Tensor:
        height, width = self.coil_maps.shape[1:]
        return (self.coil_maps.conj() * coils[..., :height, :width]).real.sum(1)
