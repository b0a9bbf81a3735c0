"""Normalised mutual information of two images at a pose, and the quality of a pose."""

from __future__ import annotations

from collections.abc import Iterator

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine

from any2all_data.resampling import Array, volume_of

BINS = 32
LEAST_OVERLAP = 0.1
PERTURBATION = 5.0  # mm and degrees


class Similarity:
    """Normalised mutual information S = (H(a) + H(b)) / H(a, b) − 1 of two images at a pose.

    It is measured at random points in a mask. The points lie between the voxels, so that poses
    that align the grids have no advantage. Points that the moving image does not cover are left
    out. Then poses with a small overlap may be best by chance. ``share_of_overlap`` prevents this:
    it multiplies S by the share of points that are covered.

    Source: Studholme et al. 1999, doi 10.1016/S0031-3203(98)00091-0.
    """

    def __init__(
        self,
        fixed: nib.Nifti1Image,
        moving: nib.Nifti1Image,
        mask: nib.Nifti1Image,
        *,
        seed: int,
        samples: int,
        share_of_overlap: bool = False,
    ) -> None:
        random = np.random.default_rng(seed)
        voxels = np.argwhere(np.asarray(mask.dataobj))
        at = voxels[random.integers(len(voxels), size=samples)]
        self.points = apply_affine(mask.affine, at + random.uniform(-0.5, 0.5, (samples, 3)))
        self.centre = self.points.mean(0)
        at = apply_affine(np.linalg.inv(fixed.affine), self.points)
        values = interpolated(volume_of(fixed), at)
        self.fixed = _bins(values, *np.percentile(values, (0.5, 99.5)))
        self.moving, self.to_voxel = volume_of(moving), np.linalg.inv(moving.affine)
        self.low, self.high = _range(self.moving)
        self.share_of_overlap = share_of_overlap

    def __call__(self, matrix: Array) -> float:
        """Return S at a pose (4, 4), which maps mm of the fixed image to mm of the moving one."""
        at = apply_affine(self.to_voxel @ matrix, self.points)
        inside = ((at >= 0) & (at <= np.array(self.moving.shape) - 1)).all(1)
        overlap = float(inside.mean())
        if overlap < LEAST_OVERLAP:
            return 0.0
        values = interpolated(self.moving, at[inside])
        pairs = self.fixed[inside] * BINS + _bins(values, self.low, self.high)
        joint = np.bincount(pairs, minlength=BINS**2).reshape(BINS, BINS) / inside.sum()
        together = _entropy(joint)
        if not together:
            return 0.0
        shared = (_entropy(joint.sum(0)) + _entropy(joint.sum(1))) / together - 1
        return shared * overlap if self.share_of_overlap else shared

    def quality(self, matrix: Array) -> float:
        """Return the minimum over perturbations p of 1 − S(matrix p) / S(matrix), in [−1, 1]."""
        here = self(matrix)
        around = max(self(matrix @ move) for move in _perturbations(self.centre))
        return float(np.clip(1 - around / here, -1, 1)) if here > 0 else 0.0


def rigid_move(mm: Array, degrees: Array, centre: Array) -> Array:
    """Return (4, 4): a turn by the rotation vector ``degrees`` about ``centre``, then a shift."""
    from scipy.spatial.transform import Rotation

    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(degrees, degrees=True).as_matrix()
    matrix[:3, 3] = centre - matrix[:3, :3] @ centre + mm
    return matrix


def interpolated(array: Array, at: Array) -> Array:
    from scipy import ndimage

    return np.asarray(ndimage.map_coordinates(array, at.T, order=1, mode="nearest"))


def _perturbations(centre: Array) -> Iterator[Array]:
    axes = [np.array(v, float) for v in np.ndindex(3, 3, 3)]
    for axis in (v - 1 for v in axes):
        if np.abs(axis).sum() in (1, 3):  # the six axes and the eight diagonals
            axis = axis / np.linalg.norm(axis) * PERTURBATION
            yield rigid_move(axis, np.zeros(3), centre)
            yield rigid_move(np.zeros(3), axis, centre)


def _range(array: Array) -> tuple[float, float]:
    """Return the minimum, and the 99.5th percentile of values 2 % of the range above it."""
    low = float(array.min())
    above = array[array > low + 0.02 * np.ptp(array)]
    return low, float(np.percentile(above, 99.5)) if above.size else low


def _bins(values: Array, low: float, high: float) -> Array:
    """Return the indices (N,) of BINS equal bins from low to high, clipped at both ends."""
    scaled = (values - low) / max(high - low, 1e-12) * BINS
    return np.clip(scaled, 0, BINS - 1).astype(np.int64)


def _entropy(p: Array) -> float:
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())
