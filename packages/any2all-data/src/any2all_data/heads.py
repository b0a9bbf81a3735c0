"""Where the head is in MR, PET and CT, and an image's contrast as a registration sees it."""

from __future__ import annotations

import os
from typing import Any

import nibabel as nib
import numpy as np
from any2all_core.modality_kind import ModalityKind
from any2all_operators import UserError

from any2all_data.kinds import MR
from any2all_data.resampling import Array, cubes, volume_of

HEAD = 4.0  # mm; heads are outlined on cubes of this
BODY = -300.0  # HU; above it is tissue, below it air, foam and the padding outside the scan
AROUND = 2  # cubes of HEAD around the head of a CT that are kept: skin, ears, the mask's own error
HOUNSFIELD = (-1000.0, -200.0, -20.0, 80.0, 300.0, 1000.0)
CONTRAST = (0.0, 0.1, 0.3, 0.7, 0.85, 1.0)
"""Of a CT, at those HU: fat, brain, dense tissue and bone have their share, the brain the most."""


def head_mask(image: nib.Nifti1Image, kind: ModalityKind = MR) -> nib.Nifti1Image:
    """1 in the head, 0 in air (uint8), on the image's own voxels.

    MR and PET: by threshold and morphology (``ants.get_mask``). CT, in HU: the largest component
    above BODY that is left when bridges of one voxel are cut, holes filled; on voxels of some
    millimetres table and headrest are no part of it. It is the head with skull and scalp, not the
    brain: a brain mask needs a trained model. Raises UserError where nothing stands out.
    """
    array = volume_of(image)
    flat = array.min() == array.max()
    outline = _ct if kind.values == "hounsfield" else _mr
    mask = np.zeros(array.shape, bool) if flat else outline(array)
    if not mask.any():
        raise UserError("no head stands out in the image (constant or empty); leave it out")
    return nib.Nifti1Image(mask.astype(np.uint8), image.affine)


def coarse_head(image: nib.Nifti1Image, kind: ModalityKind = MR) -> nib.Nifti1Image:
    """The mask of the head on cubes of 4 mm (or of its voxels, where these are larger)."""
    if kind.values == "hounsfield":
        array = np.clip(volume_of(image), HOUNSFIELD[0], HOUNSFIELD[-1])
        image = nib.Nifti1Image(array, image.affine)
    return head_mask(cubes(image, HEAD), kind)


def inner_head(head: nib.Nifti1Image, margin: float) -> nib.Nifti1Image:
    """The head without its outer ``margin`` mm, or all of it where too little would be left."""
    from scipy import ndimage

    inside = np.asarray(head.dataobj) > 0
    depth = ndimage.distance_transform_edt(inside, np.linalg.norm(head.affine[:3, :3], axis=0))
    deep = depth > margin
    keep = deep if deep.sum() > 0.3 * inside.sum() else inside
    return nib.Nifti1Image(keep.astype(np.uint8), head.affine)


def contrast(image: nib.Nifti1Image, kind: ModalityKind, head: nib.Nifti1Image) -> nib.Nifti1Image:
    """The image as its pose is sought by: MR and PET as they are, CT on a scale of its own.

    The HU of a CT go through the broken line from HOUNSFIELD to CONTRAST, for brain is 10 HU of
    4,000; what is not within 8 mm of its ``head`` is air: table, headrest and padding are no
    landmarks.
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
    """An MR image divided by its smooth bias field, found by N4 in the head; float32.

    Source: Tustison et al. 2010, doi 10.1109/TMI.2010.2046908. For MR only: CT and PET have a unit.
    """
    ants = import_ants()
    array = volume_of(image)
    mask = np.asarray(head_mask(image).dataobj)
    voxels = np.linalg.norm(image.affine[:3, :3], axis=0).tolist()
    there = [ants.from_numpy(a.astype(np.float32), spacing=voxels) for a in (array, mask)]
    corrected = ants.n4_bias_field_correction(there[0], mask=there[1])
    return nib.Nifti1Image(corrected.numpy().astype(np.float32), image.affine)


def import_ants() -> Any:
    """ANTsPy, told to use one thread unless the environment says otherwise."""
    os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")  # read once, by ITK
    try:
        import ants
    except ImportError as error:
        raise UserError(f"{error}; run pip install 'any2all-data[registration]'") from None
    return ants


def _mr(array: Array) -> Array:
    ants = import_ants()
    return np.asarray(ants.get_mask(ants.from_numpy(array)).numpy() > 0)


def _ct(array: Array) -> Array:
    from scipy import ndimage

    body = array > BODY
    labels, count = ndimage.label(ndimage.binary_opening(body))
    if not count:
        return np.zeros_like(body)
    largest = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    return np.asarray(ndimage.binary_fill_holes(ndimage.binary_dilation(largest) & body))
