"""Exact solution of systems that do not mix image rows, by one eigendecomposition per row."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

NULL = 1e-3
"""At infinite weight, eigenvectors of A*A with an eigenvalue below this count as unmeasured."""


@dataclass(frozen=True, eq=False)
class RowWise:
    """The eigendecomposition A*A = N_h = Q Λ Qᴴ on each row h.

    ``values`` is Λ, (S, H, W), and ``vectors`` is Q, (S, H, W, W). S is 1 if all slices share
    them, otherwise the number of slices. Q is real for real images and complex for complex ones.
    """

    values: Tensor
    vectors: Tensor

    @staticmethod
    def bytes_needed(slices: int, height: int, width: int, *, complex_image: bool = False) -> int:
        """Memory of the eigenvectors in single precision, in bytes."""
        return (8 if complex_image else 4) * slices * height * width**2

    @staticmethod
    def of_sense(coil_maps: Tensor, lines: Tensor, complex_image: bool = False) -> RowWise:
        """Decompose N_h = Σ_c diag(s̄_ch) Fᴴ M F diag(s_ch); for real images, its real part.

        ``coil_maps`` s are (S, C, H, W) and ``lines`` M are (S, W).
        """
        width = lines.shape[1]
        identity = torch.eye(width, dtype=torch.complex128, device=lines.device)
        fourier = torch.fft.fftshift(
            torch.fft.fft(torch.fft.ifftshift(identity, dim=0), dim=0, norm="ortho"), dim=0
        )
        values, vectors = [], []
        # one slice at a time: in double precision, all of them would not fit into memory
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
        """The decomposition of the slices ``index``, (B,)."""
        return RowWise(self.values[index], self.vectors[index])

    def to(self, device: torch.device | str) -> RowWise:
        """The same decomposition on ``device``."""
        values, vectors = self.values.to(device), self.vectors.to(device)
        return self if vectors is self.vectors else RowWise(values, vectors)

    def to_eigen(self, image: Tensor) -> Tensor:
        """Qᴴ x of every row: (H, B, W) if all slices share Q, otherwise (B, H, 1, W)."""
        image = image.conj()  # Qᴴ x is the conjugate of x̄ᵀ Q, which avoids conjugating the large Q
        if len(self.values) == 1:
            return torch.bmm(image.transpose(0, 1), self.vectors[0]).conj()
        return (image[:, :, None] @ self.vectors).conj()

    def solve(self, anchor: Tensor, back: Tensor, weight: float) -> Tensor:
        """u = Q (1 + weight Λ)⁻¹ (Qᴴ anchor + weight back), (B, H, W).

        ``anchor`` is (B, H, W), and ``back`` is Qᴴ A* y as :meth:`to_eigen` returns it. For an
        infinite weight, the limit is returned.
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
