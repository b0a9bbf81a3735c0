"""Resample results from a prior's grid back to the grid of the patient's own images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import nibabel as nib
import numpy as np
from any2all_core.stack_format import Range, StackFormat
from any2all_operators import UserError

from any2all_data.cohort_entry import Entry
from any2all_data.kinds import kind_for
from any2all_data.normalise import Array
from any2all_data.patient import Volume, oriented
from any2all_data.resampling import resampled
from any2all_data.sources import Source

MARGIN = 1
"""Voxels repeated around a result, so that the outer half of its border voxels is covered."""
ALMOST = 0.05
"""Slices that differ by less than this share of the slice distance count as the same."""


@dataclass(frozen=True)
class OwnGrid:
    """The grid of the patient's reference image, and the patient's images on it.

    - ``like``: the reference image, (Z, H, W) along AXES.
    - ``images``: {modality: (Z, H, W)} in physical units. The reference is as in its file. Other
      images are registered and resampled once.
    - ``first``: the number of the lowest slice in the file.
    """

    like: Volume
    images: Mapping[str, Array] = field(default_factory=dict)
    first: int = 0

    def select(self, chosen: range) -> OwnGrid:
        """Return the grid of these slices only. The lowest is 0."""
        affine = np.array(self.like.affine, float)
        affine[:3, 3] += chosen.start * affine[:3, 2]
        part = slice(chosen.start, chosen.stop)
        like = replace(self.like, slices=self.like.slices[part], affine=affine)
        images = {m: image[part] for m, image in self.images.items()}
        return OwnGrid(like, images, self.first + chosen.start)

    def planes(self, affine: Any, count: int) -> range:
        """Return the slices of another grid that are needed to make all of these slices.

        The other grid has this ``affine`` and ``count`` slices. Raises UserError if none is needed.
        """
        depth, *size = self.like.slices.shape
        corners = np.array(list(product(*((0, n - 1) for n in (*size[::-1], depth)), (1,))))
        heights = (np.linalg.inv(affine) @ self.like.affine @ corners.T)[2]
        low, high = np.floor(heights.min() + ALMOST), np.ceil(heights.max() - ALMOST)
        found = range(max(int(low), 0), min(int(high) + 1, count))
        if not found:
            last = self.first + depth
            raise UserError(
                f"--slices {self.first}:{last}: these slices of the patient lie outside of the "
                "grid that was made for the prior; choose slices nearer to the middle of the head"
            )
        return found

    def number(self, affine: Any, shape: tuple[int, int], z: int) -> int:
        """Return the file's slice nearest to the centre of slice ``z`` of a grid with (H, W)."""
        centre = np.array([(shape[1] - 1) / 2, (shape[0] - 1) / 2, z, 1.0])
        place = (np.linalg.inv(self.like.affine) @ affine @ centre)[2]
        return self.first + int(np.clip(round(place), 0, len(self.like.slices) - 1))

    def resampled_back(self, slices: Array, affine: Any, outside: float) -> Array:
        """Resample a result (Z, H, W) with this affine to the patient's grid, by cubic splines.

        ``outside`` is the value of voxels that the result does not cover.
        """
        from scipy import ndimage

        padded = np.pad(slices, MARGIN, mode="edge").transpose(2, 1, 0)
        around = np.array(affine, float)
        around[:3, 3] -= MARGIN * around[:3, :3].sum(1)
        shape = self.like.slices.shape[::-1]
        image = resampled(nib.Nifti1Image(padded, around), self.like.affine, shape)
        covered = np.pad(np.ones(slices.shape, np.uint8), MARGIN).transpose(2, 1, 0)
        to_voxel = np.linalg.inv(around) @ self.like.affine
        inside = ndimage.affine_transform(covered, to_voxel, output_shape=shape, order=0)
        values = np.where(inside > 0, np.asarray(image.dataobj), np.float32(outside))
        return np.ascontiguousarray(values.transpose(2, 1, 0), np.float32)


def own_grid(
    chosen: Mapping[str, Sequence[Source]],
    entry: Entry,
    format_: StackFormat,
    trust_axes: bool,
) -> OwnGrid:
    """Return the own grid of a prepared patient, whose ``entry`` has the pose of each image.

    A modality whose first image could not be used is not among ``images``.

    Raises UserError if a file can't be read again, or the first reference image was not used.
    """
    name = entry.reference
    if not _is_first(name, entry):
        raise UserError(
            f"--resample: the first image of {name} can't be used, so it is not clear whose grid "
            "the result should have; leave that image out of the folder"
        )
    image = chosen[name][0].read(kind_for(format_[name]), trust_axes).image
    turned = oriented(image)
    like = _volume(turned, tuple(nib.aff2axcodes(image.affine)), chosen[name][0])
    images = {name: like.slices}
    for m, native in entry.native.items():
        if m == name or m not in entry.present or not _is_first(m, entry):
            continue
        moving = chosen[m][0].read(kind_for(format_[m]), trust_axes).image
        pose = np.array(native["pose"])
        moved = resampled(moving, pose @ turned.affine, turned.shape, turned.affine)
        images[m] = _slices(moved)
    return OwnGrid(like, images)


def _is_first(modality: str, entry: Entry) -> bool:
    return not any(note.startswith(f"{modality} is another series") for note in entry.notes)


def _volume(image: nib.Nifti1Image, file_axes: tuple[str, ...], source: Source) -> Volume:
    return Volume(source.files[0], _slices(image), image.affine, file_axes, Range(0.0, 1.0))


def _slices(image: nib.Nifti1Image) -> Array:
    return np.ascontiguousarray(np.asarray(image.dataobj, np.float32).transpose(2, 1, 0))
