"""The forward model of multi-coil Cartesian MRI."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from any2all_operators.arrays import as_tensor, check_scale
from any2all_operators.centring import centring
from any2all_operators.circulant import inverse_of_circulant, nearest_circulant
from any2all_operators.conjugate_gradient import solve_prox
from any2all_operators.differentiable import differentiable
from any2all_operators.errors import UserError
from any2all_operators.operator import Operator, Prox, check_noise_std
from any2all_operators.row_wise import RowWise

EIGENVECTOR_BYTES = 2**30
"""Above this size the row-wise decomposition is not computed, and prox iterates instead."""
CHUNK_BYTES = 8 * 2**20
"""Size of the coil images processed at a time. Chunks that fit the cache take a third of the time,
and nothing is copied."""


@dataclass(frozen=True, eq=False)
class SenseFourier(Operator):
    r"""SENSE: y_c = M F (s_c · x) + n, with F the centred, orthonormal 2D Fourier transform.

    Data is complex (B, C, H, W), zero where not sampled. The image is real, so the adjoint is
    x = Re Σ_c s̄_c · Fᴴ M y_c.

    Parameters
    ----------
    coil_maps
        s, complex (C, H, W), or (B, C, H, W) if every slice has its own, with Σ_c |s_c|² = 1 inside
        the object; a tensor or a NumPy array.
    mask
        M, 1 where sampled: (W,) if the readout along H is fully sampled, (H, W), or (B, H, W) if
        every slice has its own; a tensor or a NumPy array.
    noise_std
        Standard deviation of one real component of n, on the [0, 1] image scale.
    complex_image
        Whether images are complex. The adjoint is then complex, as :class:`UnknownPhase` needs it.

    Raises
    ------
    UserError
        If coil maps and mask do not fit each other, or the mask holds no samples.

    References
    ----------
    Pruessmann 1999, *SENSE: sensitivity encoding for fast MRI*.
    """

    coil_maps: Tensor
    mask: Tensor
    noise_std: float = 0.0
    complex_image: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "coil_maps", as_tensor(self.coil_maps, "coil maps"))
        object.__setattr__(self, "mask", as_tensor(self.mask, "mask"))
        if self.coil_maps.ndim not in (3, 4) or not self.coil_maps.is_complex():
            raise UserError(
                f"coil maps are {self.coil_maps.dtype} {tuple(self.coil_maps.shape)}; "
                "expected complex (coils, H, W), or (slices, coils, H, W)"
            )
        height, width = self.coil_maps.shape[-2:]
        own = tuple(self.mask.shape[-2:]) == (height, width) and self.mask.ndim == 3
        if not own and tuple(self.mask.shape) not in {(width,), (height, width)}:
            raise UserError(
                f"mask is {tuple(self.mask.shape)}; these coil maps {tuple(self.coil_maps.shape)} "
                f"need ({width},) or ({height}, {width}), or (slices, {height}, {width})"
            )
        if own and self.coil_maps.ndim == 4 and len(self.mask) != len(self.coil_maps):
            raise UserError(
                f"mask is {tuple(self.mask.shape)}, coil maps are {tuple(self.coil_maps.shape)}; "
                "expected as many slices in both"
            )
        something = own or bool(self.mask.any())  # a slice by itself may have no samples
        if not bool(((self.mask == 0) | (self.mask == 1)).all()) or not something:
            raise UserError("mask: expected 1 where sampled and 0 elsewhere, and some samples")
        check_noise_std(self.noise_std)

    @property
    def acceleration(self) -> float:
        """Effective acceleration: the number of all samples over that of the acquired ones.

        Autocalibration lines count. If every slice has its own mask, the samples of all slices are
        counted together.
        """
        return self.mask.numel() / max(float(self.mask.count_nonzero()), 1.0)

    def select(self, index: Tensor) -> SenseFourier:
        if self._slices is None:
            return self
        chosen = replace(
            self,
            coil_maps=self.coil_maps[index] if self.coil_maps.ndim == 4 else self.coil_maps,
            mask=self.mask[index] if self.mask.ndim == 3 else self.mask,
        )
        if self._row_wise is not None:  # computed once and shared by all batches
            vars(chosen)["_row_wise"] = self._row_wise.select(index)
        return chosen

    def check(self, data: Tensor, modality: str) -> None:
        super().check(data, modality)
        self._expect(data, self.coil_maps.shape[-3:], f"{modality}: k-space")
        if not data.is_complex():
            raise UserError(f"{modality}: k-space is {data.dtype}; expected complex numbers")
        beside = float((data * (1 - self._taken)).abs().max())
        if beside > 1e-6 * float(data.abs().max()):
            raise UserError(
                f"{modality}: k-space holds samples where its mask is 0; expected zeros there. "
                "Multiply it with the mask, or give the mask it was sampled with"
            )
        seen = self.adjoint(data).abs().max() / self._power
        check_scale(float(seen), self.noise_std, f"{modality}: the image of its k-space")

    def forward(self, image: Tensor) -> Tensor:
        """A x: (B, H, W) to complex (B, C, H, W); differentiable, with the adjoint as gradient."""
        self._expect(image, self.coil_maps.shape[-2:], "image")
        if not (image.requires_grad and torch.is_grad_enabled()):
            return self._forward(image)
        return differentiable(image, self._forward, self.adjoint)

    def _forward(self, image: Tensor) -> Tensor:
        chunks = self._coil_chunks(len(image))
        if len(chunks) == 1:
            return torch.fft.fft2(self._encoding * image[:, None], norm="ortho").mul_(
                self._sampling
            )
        shape = (len(image), *self.coil_maps.shape[-3:])
        data = torch.empty(shape, dtype=torch.complex64, device=image.device)
        for c in chunks:
            coils = torch.fft.fft2(self._encoding[..., c, :, :] * image[:, None], norm="ortho")
            torch.mul(coils, self._sampling, out=data[:, c])
        return data

    def adjoint(self, data: Tensor) -> Tensor:
        """A* y: complex (B, C, H, W) to (B, H, W), which is real unless images are complex."""
        self._expect(data, self.coil_maps.shape[-3:], "k-space")
        factor = self._sampling.conj().resolve_conj()
        return self._combined(
            lambda c: torch.fft.ifft2(data[:, c] * factor, norm="ortho"), len(data)
        )

    def normal(self, image: Tensor) -> Tensor:
        """A*A x, a few coils at a time and without the FFT along a fully sampled axis."""
        self._expect(image, self.coil_maps.shape[-2:], "image")
        axis = self._undersampled_axis
        dims = (-2, -1) if axis is None else (axis,)

        def filtered(c: slice) -> Tensor:
            coils = self._encoding[..., c, :, :] * image[:, None]
            coils = torch.fft.fftn(coils, dim=dims, norm="ortho").mul_(self._taken)
            return torch.fft.ifftn(coils, dim=dims, norm="ortho")

        return self._combined(filtered, len(image))

    def prox(self, data: Tensor, anchor: Tensor, weight: float) -> Tensor:
        return self.prox_of(data)(anchor, weight)

    def prox_of(self, data: Tensor) -> Prox:
        """Exact if one axis is fully sampled; otherwise by preconditioned conjugate gradients.

        If the columns are fully sampled, A*A does not mix rows: it multiplies row h by
        N_h = Re Σ_c diag(s̄_ch) Fᴴ M F diag(s_ch) = Q Λ Qᵀ. One decomposition then gives
        u = Q (1 + weight Λ)⁻¹ Qᵀ (anchor + weight A* y) for any weight. Fully sampled rows are
        treated likewise. For complex images the whole Hermitian N_h = Q Λ Qᴴ is used.
        """
        back, rows = self.adjoint(data), self._row_wise
        if rows is not None and self._undersampled_axis == -1:
            eigen = rows.to_eigen(back)
            return lambda anchor, weight: rows.solve(anchor, eigen, weight)
        if rows is not None:
            eigen = rows.to_eigen(back.mT)
            return lambda anchor, weight: rows.solve(anchor.mT, eigen, weight).mT
        return lambda anchor, weight: solve_prox(
            self.normal,
            back,
            anchor,
            weight,
            precondition=None if math.isinf(weight) else self.preconditioner(weight),
        )

    def preconditioner(self, weight: float) -> Callable[[Tensor], Tensor]:
        """The inverse of the circulant nearest to 1 + weight A*A; see ``circulant.py``."""
        size, complex_image = self.coil_maps.shape[-2:], self.complex_image
        return inverse_of_circulant(self._circulant, weight, size, complex_image=complex_image)

    def noise(self, data: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Complex Gaussian noise on the acquired samples."""
        return self._taken * super().noise(data, generators)

    def data_size(self, data: Tensor) -> int:
        """The number of real numbers acquired by all coils in one slice, on average over slices."""
        return round(2 * data[0].numel() / self.acceleration)

    @property
    def _slices(self) -> int | None:
        """The number of slices with their own maps or masks; None if all slices share them."""
        if self.mask.ndim == 3:
            return len(self.mask)
        return len(self.coil_maps) if self.coil_maps.ndim == 4 else None

    @property
    def _power(self) -> float:
        """The maximum of Σ_c |s_c|² over the image; 1 for normalised coil maps."""
        return float(self.coil_maps.abs().square().sum(-3).max())

    @property
    def _taken(self) -> Tensor:
        """The mask in a shape that multiplies k-space (B, C, H, W)."""
        return self.mask[:, None] if self.mask.ndim == 3 else self.mask

    @cached_property
    def _encoding(self) -> Tensor:
        """Coil maps times the phase ramp that centres the Fourier transform, (..., C, H, W)."""
        height, width = self.coil_maps.shape[-2:]
        return self.coil_maps * centring(height, width).to(self.coil_maps.device)

    @cached_property
    def _sampling(self) -> Tensor:
        """Mask times the phase ramp of k-space and its constant; often real, with values ±1 and 0.

        (H, W), or (B, 1, H, W) if slices have their own masks.
        """
        height, width = self.coil_maps.shape[-2:]
        centre_y, centre_x = height // 2, width // 2
        angle = -2 * math.pi * (centre_y**2 / height + centre_x**2 / width)
        constant = complex(math.cos(angle), math.sin(angle))
        ramp = constant * centring(height, width)
        real = float(ramp.imag.abs().max()) <= 1e-6
        return self._taken * (ramp.real if real else ramp).to(self.mask.device)

    @cached_property
    def _undersampled_axis(self) -> int | None:
        """−1 if whole columns of k-space are missing, −2 if whole rows are, otherwise None."""
        mask = self.mask
        if mask.ndim == 1 or bool((mask == mask[..., :1, :]).all()):
            return -1
        return -2 if bool((mask == mask[..., :1]).all()) else None

    @cached_property
    def _row_wise(self) -> RowWise | None:
        """The row-wise decomposition; None if rows and columns are mixed, or if it is too large."""
        if self._undersampled_axis is None:
            return None
        size = self.coil_maps.shape[-3:]
        maps = self.coil_maps.expand(self._slices or 1, *size)
        mask = self.mask.expand(len(maps), *size[1:])
        if self._undersampled_axis == -2:
            maps, mask = maps.mT, mask.mT
        needed = RowWise.bytes_needed(len(maps), *maps.shape[-2:], complex_image=self.complex_image)
        if needed > EIGENVECTOR_BYTES:
            return None
        return RowWise.of_sense(maps, mask[:, 0], self.complex_image)

    @cached_property
    def _circulant(self) -> Tensor:
        mask = self.mask if self.mask.ndim == 3 else self.mask.expand(self.coil_maps.shape[-2:])
        return nearest_circulant(self.coil_maps, mask, complex_image=self.complex_image)

    @cached_property
    def _combining(self) -> Tensor:
        """The conjugate of ``_encoding``, computed once."""
        return self._encoding.conj().resolve_conj()

    def _combined(self, coils: Callable[[slice], Tensor], batch: int) -> Tensor:
        """Σ_c s̄_c · coil image c, (B, H, W), a few coils at a time; real if images are real."""
        parts = (coils(c).mul_(self._combining[..., c, :, :]) for c in self._coil_chunks(batch))
        summed = ((p if self.complex_image else p.real).sum(1) for p in parts)
        return functools.reduce(Tensor.add_, summed)

    def _coil_chunks(self, batch: int) -> list[slice]:
        """Coils to process at a time, so that their images stay in the processor's cache."""
        count, height, width = self.coil_maps.shape[-3:]
        size = max(1, CHUNK_BYTES // (8 * batch * height * width))
        return [slice(first, first + size) for first in range(0, count, size)]

    def _expect(self, given: Tensor, shape: torch.Size, what: str) -> None:
        slices = self._slices
        if given.shape[1:] != shape or slices not in (None, 1, len(given)):
            batch = "batch" if slices is None else str(slices)
            raise UserError(
                f"{what} is {tuple(given.shape)}, coil maps are {tuple(self.coil_maps.shape)}; "
                f"expected ({batch}, {', '.join(map(str, shape))})"
            )
