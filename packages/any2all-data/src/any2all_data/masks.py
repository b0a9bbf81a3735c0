"""Resample masks, for example of lesions, with the image on which they were drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from any2all_operators import UserError

from any2all_data.cohort_entry import Entry
from any2all_data.files import absent
from any2all_data.mask_names import words_of
from any2all_data.nifti import load_nifti
from any2all_data.sources import Source
from any2all_data.store import Labels

Array = npt.NDArray[Any]
LARGEST_LABEL = np.iinfo(np.uint16).max


def find_masks(sources: Sequence[Source], session: str | None = None) -> dict[str, Source]:
    """Return a patient's masks by name: lesion, seg or mask. A second lesion is lesion2, and so on.

    If ``session`` is that of the images, masks of other sessions are left out.
    """
    found: dict[str, Source] = {}
    for source in sorted(sources, key=lambda source: source.files):
        kind = source.mask
        if not kind or (session and source.session and source.session != session):
            continue
        number = 1 + sum(name.rstrip("0123456789") == kind for name in found)
        found[kind if number == 1 else f"{kind}{number}"] = source
    return found


def with_masks(
    masks: Mapping[str, Source], shape: Sequence[int], entry: Entry, trust_axes: bool = False
) -> tuple[Labels, Entry]:
    """Resample masks to a patient's grid, labels (Z, K, H, W), and add them to its entry.

    ``shape`` is (Z, M, H, W) of the images. A mask belongs to an image with the same grid: first
    the one in its name, then the reference. It is sampled once through that image's pose, by
    nearest neighbour. Voxel v of the patient is voxel A⁻¹ P E v of the mask, with its affine A,
    the pose P and the patient's affine E. A mask on no image's grid, or without integer labels, is
    left out with a note.
    """
    placed, notes = dict[str, str](), list(entry.notes)
    labels = []
    for name, source in masks.items():
        try:
            image = _read(source, trust_axes)
            modality = _owner(image, source, entry)
        except UserError as error:
            notes.append(f"{name} left out: {error}")
            continue
        labels.append(_resampled(image, np.array(entry.native[modality]["pose"]), entry, shape))
        placed[name] = modality
        if not labels[-1].any():
            notes.append(f"{name} marks nothing on the patient's grid")
    empty = np.zeros((shape[0], 0, *shape[2:]), np.uint16)
    stack = np.stack(labels, 1) if labels else empty
    return stack, replace(entry, masks=placed, notes=notes)


def _read(source: Source, trust_axes: bool) -> nib.Nifti1Image:
    path = source.files[0]
    if reason := absent(path):
        raise UserError(reason)
    image = load_nifti(path, "its file", trust_axes=trust_axes).image
    values = np.asarray(image.dataobj)
    whole = np.array_equal(values, np.round(values))
    if not whole or values.min() < 0 or values.max() > LARGEST_LABEL:
        raise UserError(
            f"its values are not whole numbers from 0 to {LARGEST_LABEL}, so they are not labels"
        )
    return image


def _owner(image: nib.Nifti1Image, source: Source, entry: Entry) -> str:
    """Return the modality whose file has the mask's grid."""
    named = words_of(source.files[0].name)
    order = sorted(
        entry.native,
        key=lambda m: (not named & {m.lower(), f"{m.lower()}w"}, m != entry.reference),
    )
    for modality in order:
        grid = entry.native[modality]
        if image.shape == tuple(grid["shape"]) and np.allclose(
            image.affine, grid["affine"], rtol=1e-3, atol=1e-2
        ):
            return modality
    raise UserError("none of the used images has its grid; resample it to one of them")


def _resampled(image: nib.Nifti1Image, pose: Array, entry: Entry, shape: Sequence[int]) -> Labels:
    """Resample labels to the patient's grid (Z, H, W) by nearest neighbour; 0 outside."""
    from scipy import ndimage

    to_voxel = np.linalg.inv(image.affine) @ pose @ np.array(entry.affine)
    moved = ndimage.affine_transform(
        np.asarray(image.dataobj),
        to_voxel,
        output_shape=(shape[3], shape[2], shape[0]),
        order=0,
        mode="constant",
        cval=0,
    )
    return np.ascontiguousarray(moved.transpose(2, 1, 0)).astype(np.uint16)
