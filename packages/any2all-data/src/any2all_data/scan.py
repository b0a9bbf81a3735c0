"""An image as it is read: one volume in its unit, and what had to be mended or assumed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import nibabel as nib
import numpy as np
from any2all_operators import UserError

from any2all_data.hounsfield import AIR, hounsfield
from any2all_data.normalise import Array

SHOWS_UPTAKE = 0.05
"""SUV; an image that nowhere has more is in another unit."""
HIGHEST_UPTAKE = 100.0
"""SUV; less than a thousandth of a volume has more."""


@dataclass(frozen=True)
class Scan:
    """``image``: float32 (x, y, z), affine in mm (RAS); ``notes``: a sentence a finding."""

    image: nib.Nifti1Image
    notes: tuple[str, ...] = ()


def checked(scan: Scan, modality: str) -> Scan:
    """The scan with the padding of a CT as air.

    Raises UserError where its values can't be HU (CT) or SUV (PET). Other modalities have no unit.
    """
    values = np.asarray(scan.image.dataobj, np.float32)
    if modality == "PET":
        check_suv(values)
    if modality != "CT":
        return scan
    values, notes = hounsfield(values)
    return replace(scan, image=nib.Nifti1Image(values, scan.image.affine), notes=scan.notes + notes)


def check_suv(values: Array, highest: float = HIGHEST_UPTAKE) -> None:
    """Raise UserError where values can't be SUV: hardly any uptake, or a thousandth too bright."""
    most, bright = float(values.max()), float(np.percentile(values, 99.9))
    if most < SHOWS_UPTAKE or bright > highest:
        raise UserError(
            f"its values reach {most:g} (99.9th percentile {bright:g}), which is no SUV; expected "
            f"a maximum above {SHOWS_UPTAKE:g} and a percentile below {highest:g}: check its "
            "units, dose and weight"
        )


def background(values: Array, modality: str) -> float:
    """What a voxel has where nothing was measured: air in CT, 0 or the least value elsewhere."""
    return AIR if modality == "CT" else min(0.0, float(values.min(initial=0.0)))
