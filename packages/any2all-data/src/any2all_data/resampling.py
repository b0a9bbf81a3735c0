"""Resample images to cubes along the patient's axes, or to any affine, by cubic splines."""

from __future__ import annotations

from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from any2all_operators import UserError
from nibabel.affines import apply_affine

from any2all_data.patient import oriented

Array = npt.NDArray[Any]
FINEST = 1.0  # mm, the smallest edge of cubes on which poses are found


def cubes(image: nib.Nifti1Image, finest: float = FINEST) -> nib.Nifti1Image:
    """Resample to cubes along AXES, whose edge is the finest spacing but at least ``finest``."""
    volume_of(image)  # raises UserError unless it is a finite volume
    turned = oriented(image)
    voxels = np.linalg.norm(turned.affine[:3, :3], axis=0)
    edge = max(float(voxels.min()), finest)
    shape = tuple(int(n) for n in np.ceil(np.array(turned.shape) * voxels / edge))
    u, _, v = np.linalg.svd(turned.affine[:3, :3] / voxels)  # without the shear of a tilted gantry
    affine = np.eye(4)
    affine[:3, :3] = u @ v * edge
    affine[:3, 3] = apply_affine(turned.affine, (np.array(turned.shape) - 1) / 2)
    affine[:3, 3] -= affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return resampled(image, affine, shape)


def resampled(
    image: nib.Nifti1Image, affine: Array, shape: tuple[int, ...], write: Array | None = None
) -> nib.Nifti1Image:
    """Resample an image to ``affine`` and ``shape`` by cubic splines, clipped to its own range.

    If the new voxels are larger, the image is first smoothed by a Gaussian that widens the old
    voxels to the new ones. ``write`` is the affine of the result, if it is not ``affine``.
    """
    from scipy import ndimage

    array = volume_of(image)
    to_voxel = np.linalg.inv(image.affine) @ affine
    wide = np.abs(to_voxel[:3, :3]).max(1)  # a new voxel, in voxels of the image, per its axis
    smooth = ndimage.gaussian_filter(array, np.sqrt(np.maximum(wide**2 - 1, 0)) / 2.355)
    values = ndimage.affine_transform(
        smooth, to_voxel, output_shape=shape, order=3, mode="constant", cval=float(array.min())
    )
    values = np.clip(values, array.min(), array.max()).astype(np.float32)
    return nib.Nifti1Image(values, affine if write is None else write)


def volume_of(image: nib.Nifti1Image) -> npt.NDArray[np.float32]:
    """Return the values (X, Y, Z), float32. Raises UserError if they are not 3D or not finite."""
    array = np.asarray(image.dataobj, dtype=np.float32)
    if array.ndim != 3 or not np.isfinite(array).all():
        raise UserError(
            f"image of shape {array.shape} with {int((~np.isfinite(array)).sum())} NaN or infinite "
            "values; expected one finite 3D volume (x, y, z): mend it first"
        )
    return array
