"""Raw Cartesian k-space as a scanner measured it, and what can be done to it exactly."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from any2all_operators import UserError

Complex = npt.NDArray[np.complex64]
Real = npt.NDArray[np.float32]


@dataclass(frozen=True)
class RawKSpace:
    """What a scanner measured.

    kspace: (Z, C, H, W), centred, 0 where not sampled; mask: (H, W), or (Z, H, W) where slices
    differ, 1 where sampled. ``noise_covariance``: (C, C) of complex noise samples, from a noise
    scan. ``oversampling``: the readout (H) covers this many times the field of view of the image.
    ``field_of_view``: (H, W) in mm with the oversampling, where the file says so. ``left_out``: the
    slices that hold nothing to use, whose k-space and mask are 0; ``dead_coils``: the numbers in
    the file of the coils that were dropped.
    """

    kspace: Complex
    mask: Real
    noise_covariance: npt.NDArray[np.complex128] | None = None
    oversampling: float = 1.0
    field_of_view: tuple[float, float] | None = None
    left_out: tuple[int, ...] = ()
    dead_coils: tuple[int, ...] = ()

    @property
    def masks(self) -> Real:
        """The mask of every slice, (Z, H, W)."""
        return np.broadcast_to(self.mask, (len(self.kspace), *self.mask.shape[-2:]))

    @property
    def whole_readout(self) -> bool:
        """Whether every line that is sampled is sampled from end to end."""
        return bool((self.mask == self.mask[..., :1, :]).all())

    @property
    def usable(self) -> list[int]:
        """The slices that are not left out."""
        return [z for z in range(len(self.kspace)) if z not in self.left_out]


def turned(raw: RawKSpace, degrees: int, mirror: bool) -> RawKSpace:
    """The same scan with its image turned counter-clockwise, then mirrored left-right.

    The image is turned about its centre pixel by turning k-space about its centre.
    """
    kspace, mask, fov = raw.kspace, raw.mask, raw.field_of_view
    if raw.oversampling > 1 and degrees in (90, 270):
        raise UserError("turn: a readout that is both oversampled and undersampled can't be turned")
    for _ in range(degrees // 90):
        kspace = _mirrored(kspace.swapaxes(-1, -2), -2)
        mask = _mirrored(mask.swapaxes(-1, -2), -2)
        fov = fov and fov[::-1]
    if mirror:
        kspace, mask = _mirrored(kspace, -1), _mirrored(mask, -1)
    kspace, mask = np.ascontiguousarray(kspace), np.ascontiguousarray(mask)
    return replace(raw, kspace=kspace, mask=mask, field_of_view=fov)


def without_oversampling(raw: RawKSpace) -> RawKSpace:
    """Readout cut to the field of view of the image; as it is where readout has gaps."""
    if raw.oversampling <= 1 or not raw.whole_readout:
        return raw
    height = raw.kspace.shape[2]
    keep = round(height / raw.oversampling / 2) * 2
    first = height // 2 - keep // 2
    rows = centred_ifft(raw.kspace, (2,))[:, :, first : first + keep]
    fov = raw.field_of_view and (raw.field_of_view[0] * keep / height, raw.field_of_view[1])
    cut = replace(raw, mask=raw.mask[..., :keep, :], oversampling=1.0, field_of_view=fov)
    kspace = centred_fft(rows, (2,)) * cut.mask.reshape(-1, 1, *cut.mask.shape[-2:])
    return replace(cut, kspace=kspace.astype(np.complex64))


def centred_fft(array: npt.NDArray[Any], axes: tuple[int, ...]) -> npt.NDArray[Any]:
    """Centred, orthonormal Fourier transform."""
    turned_ = np.fft.ifftshift(array, axes=axes)
    return np.fft.fftshift(np.fft.fftn(turned_, axes=axes, norm="ortho"), axes=axes)


def centred_ifft(array: npt.NDArray[Any], axes: tuple[int, ...]) -> npt.NDArray[Any]:
    """Its inverse."""
    turned_ = np.fft.ifftshift(array, axes=axes)
    return np.fft.fftshift(np.fft.ifftn(turned_, axes=axes, norm="ortho"), axes=axes)


def _mirrored(array: npt.NDArray[Any], axis: int) -> npt.NDArray[Any]:
    """Index k to −k about the centre n // 2."""
    n = array.shape[axis]
    return np.take(array, (2 * (n // 2) - np.arange(n)) % n, axis)
