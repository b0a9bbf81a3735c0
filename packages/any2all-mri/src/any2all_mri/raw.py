"""Raw Cartesian k-space as a scanner measured it, and its exact transformations."""

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
    """Raw k-space of a scan.

    Parameters
    ----------
    kspace
        (Z, C, H, W), centred, 0 where not sampled.
    mask
        1 where sampled: (H, W), or (Z, H, W) if slices differ.
    noise_covariance
        (C, C), covariance of the complex samples of a noise scan.
    oversampling
        Readout (H) field of view divided by the image's.
    field_of_view
        (H, W) in mm, including the oversampling, if the file gives it.
    left_out
        Slices without usable samples; their k-space and mask are 0.
    dead_coils
        Numbers, as in the file, of the coils that were dropped.
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
        """Return the mask of every slice, (Z, H, W)."""
        return np.broadcast_to(self.mask, (len(self.kspace), *self.mask.shape[-2:]))

    @property
    def whole_readout(self) -> bool:
        """Whether every sampled line is sampled from end to end."""
        return bool((self.mask == self.mask[..., :1, :]).all())

    @property
    def usable(self) -> list[int]:
        """Return the indices of the slices that are not left out."""
        return [z for z in range(len(self.kspace)) if z not in self.left_out]


def turned(raw: RawKSpace, degrees: int, mirror: bool) -> RawKSpace:
    """Rotate a scan's image counter-clockwise, then mirror it left-right.

    Rotating k-space about its centre rotates the image about its centre pixel.
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
    """Crop the readout to the image's field of view. A readout with gaps is left unchanged."""
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
    """Compute the centred, orthonormal Fourier transform."""
    turned_ = np.fft.ifftshift(array, axes=axes)
    return np.fft.fftshift(np.fft.fftn(turned_, axes=axes, norm="ortho"), axes=axes)


def centred_ifft(array: npt.NDArray[Any], axes: tuple[int, ...]) -> npt.NDArray[Any]:
    """Compute the inverse of :func:`centred_fft`."""
    turned_ = np.fft.ifftshift(array, axes=axes)
    return np.fft.fftshift(np.fft.ifftn(turned_, axes=axes, norm="ortho"), axes=axes)


def _mirrored(array: npt.NDArray[Any], axis: int) -> npt.NDArray[Any]:
    """Map index k to −k about the centre n // 2."""
    n = array.shape[axis]
    return np.take(array, (2 * (n // 2) - np.arange(n)) % n, axis)
