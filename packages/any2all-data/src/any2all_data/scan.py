"""An image that was read: one volume in its unit, and notes on corrections and assumptions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from any2all_core.modality_kind import ModalityKind
from any2all_operators import UserError

from any2all_data.hounsfield import AIR, BODY, hounsfield
from any2all_data.normalise import Array

HEAD = 350.0
"""Height in mm above which an image shows more than a head."""
CUT = 0.1
"""If a larger share of a CT's sides shows tissue, its field of view cuts the body."""
SHOWS_UPTAKE = 0.05
"""Smallest plausible maximum of an image in SUV."""
HIGHEST_UPTAKE = 100.0
"""Largest plausible 99.9th percentile of an image in SUV."""


@dataclass(frozen=True)
class Scan:
    """An image, float32 (x, y, z) with its affine in mm (RAS), and notes, one per finding."""

    image: nib.Nifti1Image
    notes: tuple[str, ...] = ()


def checked(scan: Scan, kind: ModalityKind) -> Scan:
    """Replace the padding of a CT by air, and add notes on a cut or too tall CT or PET.

    Raises UserError if the values can't be HU (CT) or SUV (PET), or are implausible for the kind.
    """
    values, affine = np.asarray(scan.image.dataobj, np.float32), scan.image.affine
    _check_plausible(values, kind)
    if kind.values == "stored":
        return scan
    notes = scan.notes
    if kind.values == "suv":
        check_suv(values)
    else:
        values, padding = hounsfield(values)
        notes += padding + _cut(values, affine)
    tall = float(np.abs(affine[2, :3]) @ values.shape)
    if tall > HEAD:
        notes += (f"it is {tall:.0f} mm tall, which is more than a head",)
    return Scan(nib.Nifti1Image(values, affine), notes)


def _check_plausible(values: Array, kind: ModalityKind) -> None:
    """Raise UserError if the 99th percentile is implausible for an image of this kind."""
    if kind.plausible is None:
        return
    bright = float(np.percentile(values, 99))
    least, largest = kind.plausible
    if not least <= bright <= largest:
        raise UserError(
            f"the 99th percentile of its values is {bright:.4g}; expected {least:g} to {largest:g} "
            f"{kind.unit} for {kind.name}: check its unit and its slope"
        )


def _cut(values: Array, affine: npt.NDArray[Any]) -> tuple[str, ...]:
    """Return a note if a CT's front, back, left and right sides show tissue."""
    sides = [k for k in range(3) if k != np.abs(affine[2, :3]).argmax()]
    shown = [np.take(values, end, axis).ravel() > BODY for axis in sides for end in (0, -1)]
    share = float(np.concatenate(shown).mean())
    note = f"its field of view cuts the body: {share:.0%} of its sides show tissue"
    return (note,) if share > CUT else ()


def check_suv(values: Array, highest: float = HIGHEST_UPTAKE) -> None:
    """Raise UserError if values can't be SUV: too little uptake, or a thousandth too bright."""
    most, bright = float(values.max()), float(np.percentile(values, 99.9))
    if most < SHOWS_UPTAKE or bright > highest:
        raise UserError(
            f"its values reach {most:g} (99.9th percentile {bright:g}), which can't be SUV; "
            f"expected a maximum above {SHOWS_UPTAKE:g} and a percentile below {highest:g}: check "
            "its units, dose and weight"
        )


def background(values: Array, hounsfield: bool) -> float:
    """Return the value of unmeasured voxels: air in HU, else 0 or the smallest value."""
    return AIR if hounsfield else min(0.0, float(values.min(initial=0.0)))
