"""Multi-coil Cartesian MRI."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from any2all_operators.errors import UserError
from any2all_operators.operator import Operator, check_noise_std

EIGENVECTOR_BYTES = 512 * 2**20
"""Above this the row-wise decomposition is not made and prox iterates."""
NULL = 1e-3
"""With an infinite weight, eigenvalues of A*A below this count as unmeasured."""


@dataclass(frozen=True, eq=False)
class SenseFourier(Operator):
    r"""SENSE: y_c = M F (s_c · x) + n, with F the centred, orthonormal 2D Fourier transform.

    coil_maps: complex (C, H, W), Σ_c |s_c|² = 1 inside the object. mask: (W,) for fully sampled
    readout along H, or (H, W); 1 where sampled. Data is complex (B, C, H, W), zero where not
    sampled. The image is real, so the adjoint is x = Re Σ_c s̄_c · Fᴴ M y_c.

    Source: Pruessmann 1999, *SENSE: sensitivity encoding for fast MRI*.
    """

    coil_maps: Tensor
    mask: Tensor
    noise_std: float = 0.0

    def __post_init__(self) -> None:
        if self.coil_maps.ndim != 3 or not self.coil_maps.is_complex():
            raise UserError(
                f"coil maps are {self.coil_maps.dtype} {tuple(self.coil_maps.shape)}; "
                "expected complex (coils, H, W)"
            )
        height, width = self.coil_maps.shape[1:]
        if tuple(self.mask.shape) not in {(width,), (height, width)}:
            raise UserError(
                f"mask is {tuple(self.mask.shape)}; these coil maps {tuple(self.coil_maps.shape)} "
                f"need ({width},) or ({height}, {width})"
            )

        if not bool(((self.mask == 0) | (self.mask == 1)).all()) or not bool(self.mask.any()):
            raise UserError("mask: expected 1 where sampled and 0 elsewhere, and some samples")
        check_noise_std(self.noise_std)

    @property
    def acceleration(self) -> float:
        """Effective acceleration: all samples over those taken, calibration included."""
        return self.mask.numel() / float(self.mask.count_nonzero())

    def forward(self, image: Tensor) -> Tensor:
        """(B, H, W) real to (B, C, H, W) complex."""
        self._expect(image, self.coil_maps.shape[1:], "image")
        return self._sampling * torch.fft.fft2(self._encoding * image[:, None], norm="ortho")

    def adjoint(self, data: Tensor) -> Tensor:
        """(B, C, H, W) complex to (B, H, W) real."""
        self._expect(data, self.coil_maps.shape, "k-space")
        coils = torch.fft.ifft2(self._sampling.conj() * data, norm="ortho")
        return (self._encoding.conj() * coils).real.sum(1)

    def prox(self, data: Tensor, anchor: Tensor, weight: float) -> Tensor:
        """Exact for a 1D mask, by conjugate gradients otherwise.

        Readout is then fully sampled, so A*A does not mix rows: row h is multiplied by the real
        symmetric N_h = Re Σ_c diag(s̄_ch) Fᴴ M F diag(s_ch) = Q Λ Qᵀ, and
        u = Q (1 + weight Λ)⁻¹ Qᵀ (anchor + weight A* y) for any weight from one decomposition.
        """
        if self._eigen is None:
            return super().prox(data, anchor, weight)
        values, vectors = self._eigen  # (H, W) and (H, W, W)
        if math.isinf(weight):
            keep = (values <= NULL).to(values.dtype)
            gain = (1 - keep) / values.clamp(min=NULL)
        else:
            keep = 1 / (1 + weight * values)
            gain = weight * keep
        rows = torch.stack([anchor, self.adjoint(data)]).permute(2, 0, 1, 3)  # (H, 2, B, W)
        height, _, batch, width = rows.shape
        rows = torch.bmm(rows.reshape(height, 2 * batch, width), vectors)
        a, b = rows.view(height, 2, batch, width).unbind(1)
        u = keep[:, None] * a + gain[:, None] * b
        return torch.bmm(u, vectors.mT).transpose(0, 1).contiguous()

    def noise(self, data: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Complex Gaussian noise on the samples taken."""
        return self.mask * super().noise(data, generators)

    def data_size(self, data: Tensor) -> int:
        """The real numbers that were sampled, of all coils."""
        return round(2 * data[0].numel() / self.acceleration)

    @cached_property
    def _encoding(self) -> Tensor:
        """Coil maps times the phase ramp that centres the transform, (C, H, W)."""
        height, width = self.coil_maps.shape[1:]
        return self.coil_maps * _centring(height)[:, None] * _centring(width)

    @cached_property
    def _sampling(self) -> Tensor:
        """Mask times the phase ramp of k-space and its constant, (H, W)."""
        height, width = self.coil_maps.shape[1:]
        centre_y, centre_x = height // 2, width // 2
        angle = -2 * math.pi * (centre_y**2 / height + centre_x**2 / width)
        constant = complex(math.cos(angle), math.sin(angle))
        return self.mask * (constant * _centring(height)[:, None] * _centring(width))

    @cached_property
    def _eigen(self) -> tuple[Tensor, Tensor] | None:
        """Λ (H, W) and Q (H, W, W) of every row, or None where they don't exist or don't fit."""
        _, height, width = self.coil_maps.shape
        if self.mask.ndim != 1 or height * width**2 * 4 > EIGENVECTOR_BYTES:
            return None
        identity = torch.eye(width, dtype=torch.complex128, device=self.mask.device)
        fourier = torch.fft.fftshift(
            torch.fft.fft(torch.fft.ifftshift(identity, dim=0), dim=0, norm="ortho"), dim=0
        )
        kernel = fourier.mH @ (self.mask[:, None] * fourier)
        rows = self.coil_maps.to(torch.complex128).transpose(0, 1)  # (H, C, W)
        normal = (rows.mH @ rows * kernel).real
        values, vectors = torch.linalg.eigh((normal + normal.mT) / 2)
        return values.clamp(min=0).float(), vectors.float()

    def _expect(self, given: Tensor, shape: torch.Size, what: str) -> None:
        if given.shape[1:] != shape:
            raise UserError(
                f"{what} is {tuple(given.shape)}, coil maps are {tuple(self.coil_maps.shape)}; "
                f"expected (batch, {', '.join(map(str, shape))})"
            )


def _centring(n: int) -> Tensor:
    """exp(2πi k c/n), k = 0 ... n−1, c = n // 2: it makes a plain FFT a centred one."""
    angle = 2 * math.pi * ((torch.arange(n) * (n // 2)) % n).double() / n
    return torch.polar(torch.ones_like(angle), angle).to(torch.complex64)
