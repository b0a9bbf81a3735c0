"""The image metrics of two challenges, computed as their own evaluations compute them.

They judge whole volumes (Z, H, W) in physical units. Below, u is the result, x the truth.

**SynthRAD** (synthetic CT, 2023 and 2025) judges CT in HU inside a mask of the body.

synthrad_mae
    mean |u − x| in the mask, HU. Nothing is clipped.
synthrad_psnr
    10 log₁₀(Q²/MSE) in the mask, u and x clipped to [−1024, 3000] HU, Q = 4024.
synthrad_ssim (2023)
    u and x clipped as above, −1024 outside the mask, raised by 1024. SSIM (Wang 2004) in three
    dimensions with a uniform window of 7 voxels, sample covariance, K₁ = 0.01, K₂ = 0.03 and data
    range Q; the mean in the mask, without the outer three voxels of the volume.
synthrad_ms_ssim (2025)
    The same u and x, padded with their edges to 97 voxels at least. On each of five scales the
    mean in the mask, as above, of max(SSIM, 0)^w with w = 0.0448, 0.2856, 0.3001, 0.2363, 0.1333;
    the product of the five. That is luminance, contrast and structure to the same power. The next
    scale takes every second voxel of the mean over two along each axis, 0 before the first one.

Source: github.com/SynthRAD2023/metrics, functions/image_metrics.py (fe7e385), and
github.com/SynthRAD2025/evaluation, image_metrics.py (91830d6). Another version of the second
(17cac47) clips at 3071 HU; its PSNR is 0.15 dB higher where nothing is clipped.

**BraSyn** (a missing MR image of patients with a brain tumour) judges MR beside a segmentation.

brasyn_ssim_tumour, brasyn_ssim_rest
    u and x are each clipped to their own percentiles 0.5 (0 at least) and 99.5 and scaled to
    [0, 1]. Each is set to 0 outside of a region: the tumour (every label above 0), or the rest of
    the volume. SSIM in three dimensions with a Gaussian window (σ 1.5, 11 voxels, mirrored at the
    edges), population covariance, and as data range the larger range of the two; the mean in the
    region.

Source: github.com/hongweilibran/BraSyn, ssim.py (4d9af6d), by its comments, because the file
itself takes the pair (score, map) for a map and fails there. The challenge's other score, Dice of
a segmentation of the completed images, needs its segmentation network and is not computed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Smoothing = Callable[[Array], Array]

LOW, HIGH = -1024.0, 3000.0
"""HU."""
K1, K2 = 0.01, 0.03
WINDOW, BORDER = 7, 3
"""Voxels of SynthRAD's uniform window, and voxels left out at each end of the volume."""
UNBIASED = WINDOW**3 / (WINDOW**3 - 1)
"""Factor from the variance of a window to the sample variance."""
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
LEAST = 97
"""Voxels along each axis, to which a volume is padded for five scales."""
SIGMA, REACH = 1.5, 5
"""BraSyn's Gaussian window: σ in voxels, and voxels to either side."""
PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True)
class Challenge:
    """The metrics of one challenge.

    ``score`` maps (result, truth, mask), each (Z, H, W), to {metric: value}. ``unit`` is the unit
    of the images that it judges, as in ``results.csv``, and ``judged`` names these images.
    ``masks`` lists kinds of masks; the first kind that a patient has is used. ``region`` says what
    the mask marks.
    """

    name: str
    unit: str
    judged: str
    masks: tuple[str, ...]
    region: str
    score: Callable[[Array, Array, Mask], dict[str, float]]


def synthrad(image: Array, truth: Array, mask: Mask) -> dict[str, float]:
    """{metric: value} of CT (Z, H, W) in HU.

    SSIM is left out if no voxel of the mask lies inside the outer voxels of the volume. MS-SSIM is
    left out if none does on a coarser scale.
    """
    width = HIGH - LOW
    found = {"synthrad_mae": float(np.abs(image - truth)[mask].mean())}
    u, x = (np.clip(v, LOW, HIGH) - LOW for v in (image, truth))
    with np.errstate(divide="ignore"):
        psnr = 10 * np.log10(width**2 / np.square(u - x)[mask].mean())
    found["synthrad_psnr"] = float(psnr)
    u, x = (np.where(mask, v, 0.0) for v in (u, x))
    if without_border(mask).any():
        found["synthrad_ssim"] = inside(
            ssim_map(u, x, width=width, smooth=uniform, norm=UNBIASED), mask
        )
    if (value := ms_ssim(u, x, mask, width)) is not None:
        found["synthrad_ms_ssim"] = value
    return found


def ms_ssim(u: Array, x: Array, mask: Mask, width: float) -> float | None:
    """MS-SSIM of SynthRAD2025 for images from 0 up; None if a scale has no voxel of the mask."""
    short = [max(LEAST - n, 0) for n in u.shape]
    pad = [(n // 2, n - n // 2) for n in short]
    u, x = (np.pad(v, pad, mode="edge") for v in (u, x))
    mask = np.pad(mask, pad, mode="edge")
    product = 1.0
    for weight in SCALES:
        if not without_border(mask).any():
            return None
        similar = ssim_map(u, x, width=width, smooth=uniform, norm=UNBIASED).clip(0)
        product *= min(inside(similar**weight, mask), 1.0)
        u, x, mask = halved(u), halved(x), mask[::2, ::2, ::2]
    return product


def brasyn(image: Array, truth: Array, mask: Mask) -> dict[str, float]:
    """{metric: value} of MR (Z, H, W); a region without voxels, or under 6 slices, has no value."""
    u, x = (between_percentiles(v) for v in (image, truth))
    found = {}
    for name, region in (("tumour", mask), ("rest", ~mask)):
        if region.any() and min(region.shape) > REACH:
            a, b = (np.where(region, v, 0.0) for v in (u, x))
            width = float(max(np.ptp(a), np.ptp(b)))
            similar = ssim_map(a, b, width=width, smooth=gaussian, norm=1.0)
            found[f"brasyn_ssim_{name}"] = float(similar[region].mean())
    return found


def ssim_map(u: Array, x: Array, *, width: float, smooth: Smoothing, norm: float) -> Array:
    """SSIM at each voxel of (Z, H, W); Wang 2004, eq. 13.

    ``smooth`` computes the mean within the window, ``norm`` is the factor of variances and
    covariance, and ``width`` is the data range.
    """
    c1, c2 = (K1 * width) ** 2, (K2 * width) ** 2
    mu_u, mu_x = smooth(u), smooth(x)
    variances = norm * (smooth(u * u) - mu_u**2 + smooth(x * x) - mu_x**2)
    covariance = norm * (smooth(u * x) - mu_u * mu_x)
    luminance = (2 * mu_u * mu_x + c1) / (mu_u**2 + mu_x**2 + c1)
    similar: Array = luminance * (2 * covariance + c2) / (variances + c2)
    return similar


def uniform(v: Array) -> Array:
    """The mean of WINDOW³ voxels, mirrored at the edges with the edge voxel twice."""
    found: Array = ndimage.uniform_filter(v, WINDOW)
    return found


def gaussian(v: Array) -> Array:
    """The mean by BraSyn's window, mirrored at the edges with the edge voxel once."""
    taps = np.exp(-(np.arange(-REACH, REACH + 1) ** 2) / (2 * SIGMA**2))
    for axis in range(v.ndim):
        v = ndimage.correlate1d(v, taps / taps.sum(), axis, mode="mirror")
    return v


def inside(values: Array, mask: Mask) -> float:
    """The mean in the mask without the volume's outer voxels."""
    return float(without_border(values)[without_border(mask)].mean())


def without_border(v: NDArray[Any]) -> NDArray[Any]:
    """Without BORDER voxels at each end of each axis."""
    return v[(slice(BORDER, -BORDER),) * v.ndim]


def halved(v: Array) -> Array:
    """Every second voxel of the mean of a voxel and the one before it, along each axis."""
    for axis in range(v.ndim):
        before = np.insert(v, 0, 0.0, axis).take(range(v.shape[axis]), axis)
        v = ((v + before) / 2).take(range(0, v.shape[axis], 2), axis)
    return v


def between_percentiles(v: Array) -> Array:
    """Clipped to the volume's own PERCENTILES, the lower one 0 at least, and scaled to [0, 1]."""
    low, high = np.percentile(v, PERCENTILES)
    low = max(low, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):  # a flat volume is not a number
        return (np.clip(v, low, high) - low) / (high - low)


SYNTHRAD = Challenge("synthrad", "HU", "CT in HU", ("mask",), "the body, mask.nii.gz", synthrad)
BRASYN = Challenge("brasyn", "of [0, 1]", "MR", ("seg", "lesion"), "the tumour, seg.nii.gz", brasyn)
CHALLENGES = {challenge.name: challenge for challenge in (SYNTHRAD, BRASYN)}
COLUMNS = {
    "synthrad_mae": ("SynthRAD MAE (HU)", 1),
    "synthrad_psnr": ("SynthRAD PSNR", 2),
    "synthrad_ssim": ("SynthRAD2023 SSIM", 4),
    "synthrad_ms_ssim": ("SynthRAD2025 MS-SSIM", 4),
    "brasyn_ssim_tumour": ("BraSyn SSIM, tumour", 4),
    "brasyn_ssim_rest": ("BraSyn SSIM, rest", 4),
}
"""{metric: (what it is called, decimals)}"""
