"""The circulant matrix nearest to A*A of a multi-coil scan, and its cheap inverse.

The circulant with eigenvalues c(k) = 1/HW Σ_c Σ_q M(k + q) |(F s_c)(q)|² is nearest to A*A in the
Frobenius norm. For real images c is made even in k. Fᴴ diag(1/(1 + weight c)) F is then an
approximate inverse of 1 + weight A*A.

Source: Chan 1988, *An optimal circulant preconditioner for Toeplitz systems*.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def nearest_circulant(coil_maps: Tensor, mask: Tensor, *, complex_image: bool) -> Tensor:
    """c(k), (H, W); for real images only the frequencies of rfft2, (H, W//2 + 1).

    ``coil_maps`` are (C, H, W) or (B, C, H, W), and ``mask`` is (H, W) or (B, H, W). If either
    differs between slices, the result has B in front, too.
    """
    shape = coil_maps.shape[-2:]
    power = torch.fft.fft2(coil_maps).abs().square().sum(-3) / math.prod(shape) ** 2
    mask = torch.fft.ifftshift(mask, dim=(-2, -1))
    c = torch.fft.ifft2(torch.fft.fft2(mask) * torch.fft.fft2(power).conj()).real
    if complex_image:
        return c.clamp(min=0)
    mirrored = c.flip(-2, -1).roll((1, 1), (-2, -1))  # c(−k)
    return ((c + mirrored) / 2).clamp(min=0)[..., : shape[1] // 2 + 1]


def inverse_of_circulant(
    circulant: Tensor, weight: float, size: Sequence[int], *, complex_image: bool
) -> Callable[[Tensor], Tensor]:
    """Fᴴ diag(1/(1 + weight c)) F as a function of images (B, H, W), with ``size`` (H, W)."""
    gain = 1 / (1 + weight * circulant)
    if complex_image:
        return lambda image: torch.fft.ifft2(gain * torch.fft.fft2(image))
    return lambda image: torch.fft.irfft2(gain * torch.fft.rfft2(image), s=tuple(size))
