"""Images on other grids: cubes along the patient's axes, or any affine, by cubic splines."""

from __future__ import annotations

from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from any2all_operators import UserError
from nibabel.affines import apply_affine

from any2all_data.patient import oriented

Array = npt.NDArray[Any]
FINEST = 1.0  # mm; poses are found on cubes no smaller than this


def cubes(image: nib.Nifti1Image, finest: float = FINEST) -> nib.Nifti1Image:
    """The same image on cubes along AXES, as fine as its own finest axis but not below a width."""
    volume_of(image)  # refuses what is not a finite volume
    turned = oriented(image)
    voxels = np.linalg.norm(turned.affine[:3, :3], axis=0)
    edge = max(float(voxels.min()), finest)
    shape = tuple(int(n) for n in np.ceil(np.array(turned.shape) * voxels / edge))
    u, _, v = np.linalg.svd(turned.affine[:3, :3] / voxels)  # no shear, as a tilted gantry has
    affine = np.eye(4)
    affine[:3, :3] = u @ v * edge
    affine[:3, 3] = apply_affine(turned.affine, (np.array(turned.shape) - 1) / 2)
    affine[:3, 3] -= affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return resampled(image, affine, shape)


def resampled(
    image: nib.Nifti1Image, affine: Array, shape: tuple[int, ...], write: Array | None = None
) -> nib.Nifti1Image:
    """The image at the voxels of ``affine``, by cubic splines, within its own range.

    Smoothed first where the new voxels are larger, by the Gaussian that takes one width to the
    other. ``write``: the affine the result carries, if not the one it was sampled by.
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
    """(X, Y, Z) float32. Raises UserError for what is not 3D or not finite."""
    array = np.asarray(image.dataobj, dtype=np.float32)
    if array.ndim != 3 or not np.isfinite(array).all():
        raise UserError(
            f"image of shape {array.shape}, {int((~np.isfinite(array)).sum())} values NaN or "
            "infinite; expected one finite 3D volume (x, y, z): mend it first"
        )
    return array
