"""CT and PET of virtual people whose pose in the scanner differs from that of their T1.

A scan is simulated from a start: the shift and the rotation of the head, their direction, and what
the scanner left out or added (VARIANTS). The truth is known: ``matrix`` maps a point of the T1 in
mm to the point in the scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from any2all_virtual import virtual_person
from nibabel.affines import apply_affine
from scipy import ndimage
from scipy.spatial.transform import Rotation

MODALITIES = ("CT", "PET")
CENTRE = np.array([0.0, -8.0, 10.0])  # of the scanner, mm
VOXEL = 2.0  # mm
MOVES = ((0, 0), (10, 5), (20, 10), (30, 5), (10, 20), (30, 20))  # mm, degrees
VARIANTS = {
    "whole": "the whole head, voxels of 2 mm",
    "thick": "slices of 5 mm",
    "partial": "the upper or the lower half of the head alone",
    "padded": "a field of view of 400 mm, beyond a circle -3024 HU or no uptake",
    "cut": "a circle of 180 mm that cuts forehead and nape, air beyond",
    "tilted": "slices tilted by 18 degrees, straightened: wedges of air above and below",
    "table": "the head in a headrest on a table",
}
ONLY_CT = ("tilted", "table")


@dataclass(frozen=True)
class Start:
    """``mm`` and ``degrees`` of the move, in its own direction; ``variant``: see above."""

    variant: str
    mm: float
    degrees: float
    number: int

    @property
    def matrix(self) -> np.ndarray:
        """(4, 4): mm of the T1 to mm of the scan, RAS."""
        random = np.random.default_rng(self.number)
        shift, axis = (v / np.linalg.norm(v) for v in random.normal(size=(2, 3)))
        matrix = np.eye(4)
        turn = Rotation.from_rotvec(self.degrees * axis, degrees=True)
        matrix[:3, :3] = turn.as_matrix()
        matrix[:3, 3] = CENTRE - matrix[:3, :3] @ CENTRE + self.mm * shift
        return matrix


def starts(modality: str) -> list[Start]:
    variants = [v for v in VARIANTS if modality == "CT" or v not in ONLY_CT]
    every = [(v, *move) for v in variants for move in MOVES]
    return [Start(*start, number) for number, start in enumerate(every)]


def person(seed: int, cache: Path) -> dict[str, nib.Nifti1Image]:
    """T1 on voxels of 2 mm; CT and PET on others, with other noise and the neck. Cached on disk."""
    folder = cache / f"person{seed}"
    if not (folder / "PET.nii").exists():
        folder.mkdir(parents=True, exist_ok=True)
        t1 = virtual_person(seed, (2.0, 2.0, 2.0), (104, 120, 90)).images["T1"]
        nib.save(t1, folder / "T1.nii")
        others = virtual_person(seed, (1.9, 1.9, 1.9), (120, 136, 150)).images
        for modality in MODALITIES:
            nib.save(others[modality], folder / f"{modality}.nii")
    return {m: nib.Nifti1Image.from_filename(folder / f"{m}.nii") for m in ("T1", *MODALITIES)}


def scan(image: nib.Nifti1Image, modality: str, start: Start) -> nib.Nifti1Image:
    """The image as the scanner would give it for a start; axes as in DICOM (left, posterior)."""
    air = -1000.0 if modality == "CT" else 0.0
    wide = (200, 200) if start.variant == "padded" else (126, 140)
    low, high = -70.0, 110.0  # from the skull base to above the vertex, about the turned head
    if start.variant == "partial":
        low, high = ((0.0, 110.0), (-70.0, 40.0))[start.number % 2]
    thickness = 5.0 if start.variant == "thick" else VOXEL
    shape = (*wide, int((high - low) / thickness))
    affine = np.diag([-VOXEL, -VOXEL, thickness, 1])
    middle = start.matrix[:3, 3] * (0, 0, 1)  # the scan's range follows the head, its field doesn't
    middle += (CENTRE[0], CENTRE[1], (high + low) / 2)
    affine[:3, 3] = middle - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    array = np.mean(
        [
            _sampled(image, start.matrix, affine, shape, height=z, air=air)
            for z in _layers(thickness)
        ],
        0,
    )
    points = apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1)) - CENTRE
    radius = np.hypot(points[..., 0], points[..., 1])
    if start.variant == "padded":
        array[radius > 195] = -3024 if modality == "CT" else 0
    if start.variant == "cut":
        array[radius > 90] = air
    if start.variant == "tilted":
        along = points[..., 2] + np.tan(np.radians(18)) * points[..., 1] - middle[2] + CENTRE[2]
        array[abs(along) > (high - low) / 2 - 10] = air
    if start.variant == "table":
        _add_table(array, points)
    return nib.Nifti1Image(array.astype(np.float32), affine)


def _layers(thickness: float) -> Sequence[float]:
    """Heights within a slice, in slices, over which the slice is averaged."""
    return (0.0,) if thickness == VOXEL else (-1 / 3, 0.0, 1 / 3)


def _sampled(
    image: nib.Nifti1Image,
    matrix: np.ndarray,
    affine: np.ndarray,
    shape: Sequence[int],
    *,
    height: float,
    air: float,
) -> np.ndarray:
    up = np.eye(4)
    up[2, 3] = height
    to_voxel = np.linalg.inv(matrix @ image.affine) @ affine @ up
    array = np.asarray(image.dataobj, np.float32)
    sampled = ndimage.affine_transform(array, to_voxel, output_shape=shape, order=3, cval=air)
    return np.clip(sampled, array.min(), array.max())


def _add_table(array: np.ndarray, points: np.ndarray) -> None:
    """A table, and a headrest whose shell and foam follow the back of the head."""
    x, y, z = np.moveaxis(points, -1, 0)
    table = np.hypot(x, y - 280) - 408  # an arc, lowest 128 mm behind the centre
    array[(abs(table) < 3) & (array < -300)] = 150
    inside = (table > -12) & (table <= -3) & (array < -300)
    array[inside] = -900
    head = ndimage.binary_fill_holes(ndimage.binary_opening(array > -300, iterations=2))
    labels, count = ndimage.label(head)
    if count:
        head = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    distance = ndimage.distance_transform_edt(~head) * VOXEL
    below = (y < -30) & (z < 60) & ~head
    array[below & (distance < 10)] = -900  # foam
    array[below & (distance >= 10) & (distance < 14)] = 100  # shell
