"""Find the head in MR, PET and CT, and prepare an image's contrast for registration."""

from __future__ import annotations

import os
from typing import Any

import nibabel as nib
import numpy as np
from any2all_core.modality_kind import ModalityKind
from any2all_operators import UserError

from any2all_data.kinds import MR
from any2all_data.resampling import Array, cubes, volume_of

HEAD = 4.0  # mm, the edge of the cubes on which a head is outlined
BODY = -300.0  # HU; tissue lies above, and air, foam and padding lie below
AROUND = 2  # cubes around the mask of a CT that also count as head: skin, ears, errors of the mask
HOUNSFIELD = (-1000.0, -200.0, -20.0, 80.0, 300.0, 1000.0)
CONTRAST = (0.0, 0.1, 0.3, 0.7, 0.85, 1.0)
"""Values that replace those HU. Brain tissue gets the largest part of [0, 1]."""


def head_mask(image: nib.Nifti1Image, kind: ModalityKind = MR) -> nib.Nifti1Image:
    """Return a mask (uint8) of the head on the image's own voxels: 1 in the head, 0 in air.

    MR and PET are masked by threshold and morphology (``ants.get_mask``). The mask of a CT in HU
    is the largest component above BODY after bridges of one voxel are cut, with its holes filled.
    If voxels have an edge of a few millimetres, table and headrest are not part of it. The mask
    includes skull and scalp. A brain mask would need a trained model.

    Raises UserError if nothing stands out.
    """
    array = volume_of(image)
    flat = array.min() == array.max()
    outline = _ct_mask if kind.values == "hounsfield" else _mr_mask
    mask = np.zeros(array.shape, bool) if flat else outline(array)
    if not mask.any():
        raise UserError("no head stands out in the image (constant or empty); leave it out")
    return nib.Nifti1Image(mask.astype(np.uint8), image.affine)


def coarse_head(image: nib.Nifti1Image, kind: ModalityKind = MR) -> nib.Nifti1Image:
    """Return the mask of the head on cubes of 4 mm, or larger ones if the voxels are larger."""
    if kind.values == "hounsfield":
        array = np.clip(volume_of(image), HOUNSFIELD[0], HOUNSFIELD[-1])
        image = nib.Nifti1Image(array, image.affine)
    return head_mask(cubes(image, HEAD), kind)


def inner_head(head: nib.Nifti1Image, margin: float) -> nib.Nifti1Image:
    """Return the head without its outer ``margin`` mm, or all of it if too little would be left."""
    from scipy import ndimage

    inside = np.asarray(head.dataobj) > 0
    depth = ndimage.distance_transform_edt(inside, np.linalg.norm(head.affine[:3, :3], axis=0))
    deep = depth > margin
    keep = deep if deep.sum() > 0.3 * inside.sum() else inside
    return nib.Nifti1Image(keep.astype(np.uint8), head.affine)


def contrast(image: nib.Nifti1Image, kind: ModalityKind, head: nib.Nifti1Image) -> nib.Nifti1Image:
    """Return the image with the contrast by which it is registered.

    MR and PET stay as they are. The HU of a CT are mapped piecewise linearly from HOUNSFIELD to
    CONTRAST, because brain tissue covers only 10 of 4,000 HU. Voxels more than 8 mm from its
    ``head`` become air, because table, headrest and padding are not landmarks.
    """
    if kind.values != "hounsfield":
        return image
    from scipy import ndimage

    array = volume_of(image)
    near = ndimage.binary_dilation(np.asarray(head.dataobj) > 0, iterations=AROUND)
    to_head = np.linalg.inv(head.affine) @ image.affine
    near = ndimage.affine_transform(
        near.astype(np.uint8), to_head, output_shape=array.shape, order=0, mode="nearest"
    )
    values = np.where(near > 0, np.interp(array, HOUNSFIELD, CONTRAST), 0.0)
    return nib.Nifti1Image(values.astype(np.float32), image.affine)


def bias_corrected(image: nib.Nifti1Image) -> nib.Nifti1Image:
    """Return an MR image divided by its bias field, which N4 estimates in the head; float32.

    Only MR needs it. Source: Tustison et al. 2010, doi 10.1109/TMI.2010.2046908.
    """
    ants = import_ants()
    array = volume_of(image)
    mask = np.asarray(head_mask(image).dataobj)
    voxels = np.linalg.norm(image.affine[:3, :3], axis=0).tolist()
    there = [ants.from_numpy(a.astype(np.float32), spacing=voxels) for a in (array, mask)]
    corrected = ants.n4_bias_field_correction(there[0], mask=there[1])
    return nib.Nifti1Image(corrected.numpy().astype(np.float32), image.affine)


def import_ants() -> Any:
    """Import ANTsPy with one thread, unless the environment sets another number."""
    os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")  # read once, by ITK
    try:
        import ants
    except ImportError as error:
        raise UserError(f"{error}; run pip install 'any2all-data[registration]'") from None
    return ants


def _mr_mask(array: Array) -> Array:
    ants = import_ants()
    return np.asarray(ants.get_mask(ants.from_numpy(array)).numpy() > 0)


def _ct_mask(array: Array) -> Array:
    from scipy import ndimage

    body = array > BODY
    labels, count = ndimage.label(ndimage.binary_opening(body))
    if not count:
        return np.zeros_like(body)
    largest = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    return np.asarray(ndimage.binary_fill_holes(ndimage.binary_dilation(largest) & body))
