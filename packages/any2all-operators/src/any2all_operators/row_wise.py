"""Systems that do not mix the rows of an image, solved exactly by one eigen-decomposition each."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

NULL = 1e-3
"""With an infinite weight, eigenvalues of A*A below this count as unmeasured."""


@dataclass(frozen=True, eq=False)
class RowWise:
    """A*A = N_h = Q Λ Qᴴ on row h: ``values`` Λ (S, H, W), ``vectors`` Q (S, H, W, W).

    S is 1, for all slices, or one each. Q is real for real images, and complex for complex ones.
    """

    values: Tensor
    vectors: Tensor

    @staticmethod
    def bytes_needed(slices: int, height: int, width: int, *, complex_image: bool = False) -> int:
        """Of the eigenvectors, in single precision."""
        return (8 if complex_image else 4) * slices * height * width**2

    @staticmethod
    def of_sense(coil_maps: Tensor, lines: Tensor, complex_image: bool = False) -> RowWise:
        """Of N_h = Σ_c diag(s̄_ch) Fᴴ M F diag(s_ch), its real part for real images.

        coil_maps: (S, C, H, W), lines: (S, W).
        """
        width = lines.shape[1]
        identity = torch.eye(width, dtype=torch.complex128, device=lines.device)
        fourier = torch.fft.fftshift(
            torch.fft.fft(torch.fft.ifftshift(identity, dim=0), dim=0, norm="ortho"), dim=0
        )
        values, vectors = [], []
        # slice by slice: in double precision, all at once would not fit
        for maps, taken in zip(coil_maps, lines, strict=True):
            kernel = fourier.mH @ (taken[:, None] * fourier)
            rows = maps.to(torch.complex128).transpose(0, 1)  # (H, C, W)
            normal = rows.mH @ rows * kernel
            normal = normal if complex_image else normal.real
            of_slice = torch.linalg.eigh((normal + normal.mH) / 2)
            values.append(of_slice.eigenvalues.clamp(min=0).float())
            single = torch.complex64 if complex_image else torch.float32
            vectors.append(of_slice.eigenvectors.to(single))
        return RowWise(torch.stack(values), torch.stack(vectors))

    def select(self, index: Tensor) -> RowWise:
        """That of some slices."""
        return RowWise(self.values[index], self.vectors[index])

    def to(self, device: torch.device | str) -> RowWise:
        """The same on a device."""
        values, vectors = self.values.to(device), self.vectors.to(device)
        return self if vectors is self.vectors else RowWise(values, vectors)

    def to_eigen(self, image: Tensor) -> Tensor:
        """Qᴴ x of every row, (H, B, W) for one slice's Q and (B, H, 1, W) for one each."""
        image = image.conj()  # Qᴴ x is the conjugate of x̄ᵀ Q: the large Q stays as it is
        if len(self.values) == 1:
            return torch.bmm(image.transpose(0, 1), self.vectors[0]).conj()
        return (image[:, :, None] @ self.vectors).conj()

    def solve(self, anchor: Tensor, back: Tensor, weight: float) -> Tensor:
        """u = Q (1 + weight Λ)⁻¹ (Qᴴ anchor + weight back), the limit for an infinite weight.

        anchor (B, H, W); back = Qᴴ A* y as :meth:`to_eigen` gives it.
        """
        values = self.values[0] if len(self.values) == 1 else self.values
        values, u = values[..., None, :], self.to_eigen(anchor)
        if math.isinf(weight):
            u = torch.where(values > NULL, back / values.clamp(min=NULL), u)
        else:
            u = torch.add(u, back, alpha=weight).div_(1 + weight * values)
        if len(self.values) == 1:
            return torch.bmm(u, self.vectors[0].mT).transpose(0, 1)
        return (u @ self.vectors.mT)[:, :, 0]
