"""Read a NIfTI file as one volume in physical units and mm, or refuse it with the reason."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from any2all_core.modality_kind import ModalityKind
from any2all_operators import UserError
from nibabel.affines import apply_affine

from any2all_data.kinds import MR
from any2all_data.normalise import Array
from any2all_data.pet_sidecar import PetScan, late_frames, read_pet
from any2all_data.regions import connected, corners, faces
from any2all_data.scan import Scan, background, check_suv, checked

LARGEST = 2**30
"""Largest number of voxels in a file."""
MOST_PACKED = 1100
"""Upper limit of the ratio by which gzip can compress."""
MILLIMETRES = {1: 1000.0, 3: 0.001}
"""Millimetres in a metre and a micrometre, by the code in xyzt_units (NIfTI-1)."""
VOXELS = (0.02, 100.0)
"""Plausible voxel sizes in mm. Others are in another unit."""
FORMS_DIFFER = 1.0
"""A note is given if sform and qform place a corner further apart than this, in mm."""
HIGHEST_UNSAID = 30.0
"""Largest plausible SUV of a PET without a sidecar. Brighter values are in another unit."""


def load_nifti(path: Path, name: str, kind: ModalityKind = MR, trust_axes: bool = False) -> Scan:
    """Read a NIfTI file as one 3D volume; error messages call it ``name``.

    A ``kind`` of CT is checked to be in HU, and PET becomes SUV by its sidecar. Others are read
    as stored. With ``trust_axes``, a file whose qform and sform codes are 0 is read as RAS+
    (NIfTI's method 1). Otherwise it is refused.

    Raises UserError if the file is damaged, claims more voxels than it can hold, is not 3D (nor a
    PET with late frames), has NaN in the body or infinity, has no orientation, or has values that
    are implausible in their unit.
    """
    try:
        with nib.imageglobals.LoggingOutputSuppressor():
            image = nib.squeeze_image(nib.load(path))
            _check_size(image, path)
            _check_shape(image, kind)
            affine, notes = _place(image, trust_axes)
            values, said = _values(image, path, kind)
        return checked(Scan(nib.Nifti1Image(values, affine), (*notes, *said)), kind)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    except Exception as error:  # its text may contain the path
        why = type(error).__name__
        raise UserError(f"{name}: not readable as NIfTI ({why}); export it again") from None


def _check_size(image: Any, path: Path) -> None:
    voxels, kind = math.prod(map(int, image.shape)), image.get_data_dtype()
    packed = MOST_PACKED if path.suffix == ".gz" else 1
    if voxels > LARGEST or voxels * kind.itemsize > packed * path.stat().st_size:
        raise UserError(
            f"its header claims {voxels} voxels, more than the file can hold or above {LARGEST}; "
            "export it again"
        )
    if kind.kind not in "iuf":
        raise UserError(f"its values are of type {kind}; expected real numbers")


def _check_shape(image: Any, kind: ModalityKind) -> None:
    frames = image.ndim == 4 and kind.values == "suv"
    if (image.ndim != 3 and not frames) or min(image.shape) < 1:
        raise UserError(f"shape {image.shape}; expected one 3D volume (x, y, z)")


def _place(image: Any, trust_axes: bool) -> tuple[Any, list[str]]:
    """Return the affine to mm (RAS), and notes on a disagreement of sform and qform."""
    header, notes = image.header, list[str]()
    if not (header["qform_code"] > 0 or header["sform_code"] > 0):
        if not trust_axes:
            raise UserError(
                "its qform_code and sform_code are 0, so nothing says how its axes lie. Set its "
                "sform; or, if x, y, z run to the patient's right, front and top, give prepare or "
                "sample --trust-axes"
            )
        affine = np.diag([*header.get_zooms()[:3], 1.0]).astype(float)
        affine[:3, 3] = -affine[:3, :3] @ (np.array(image.shape[:3]) - 1) / 2
        notes.append("its axes are trusted to run to the right, the front and the top")
    else:
        affine = image.affine.copy()
    affine[:3] *= MILLIMETRES.get(int(header["xyzt_units"]) & 7, 1.0)
    if not np.isfinite(affine).all() or not abs(np.linalg.det(affine[:3, :3])) > 1e-30:
        raise UserError("its affine gives voxels no size or place; export it again")
    sides = np.linalg.norm(affine[:3, :3], axis=0)
    if not (VOXELS[0] <= sides.min() and sides.max() <= VOXELS[1]):
        size = " x ".join(f"{side:g}" for side in sides)
        raise UserError(
            f"its voxels are {size} mm; expected {VOXELS[0]:g} to {VOXELS[1]:g}. Mend pixdim and "
            "the affine, or the unit of length in xyzt_units"
        )
    if header["qform_code"] > 0 and header["sform_code"] > 0:
        notes += _forms_differ(image)
    return affine, notes


def _forms_differ(image: Any) -> list[str]:
    try:
        qform, sform = image.get_qform(), image.get_sform()
    except Exception:  # an invalid quaternion; the sform is used anyway
        return ["its qform can't be read; the sform is used"]
    ends = np.argwhere(corners(image.shape[:3]))
    apart = np.linalg.norm(apply_affine(qform, ends) - apply_affine(sform, ends), axis=1).max()
    apart *= MILLIMETRES.get(int(image.header["xyzt_units"]) & 7, 1.0)
    if apart <= FORMS_DIFFER:
        return []
    return [f"its sform and qform differ by up to {apart:.1f} mm; the sform is used"]


def _values(image: Any, path: Path, kind: ModalityKind) -> tuple[Array, list[str]]:
    """Return float32 (x, y, z) in physical units without NaN, and notes on what was changed."""
    if kind.values != "suv":
        return _without_nan(np.asarray(image.dataobj, dtype=np.float32), kind, [])
    pet = read_pet(path)
    if image.ndim == 4:
        values, said = _late_uptake(image, pet)
        return _without_nan(values, kind, said)
    values = np.asarray(image.dataobj, dtype=np.float32)
    if pet is None:
        said = ["no sidecar gives its unit; its values are taken as SUV (g/ml)"]
        values, said = _without_nan(values, kind, said)
        check_suv(values, HIGHEST_UNSAID)
        return values, said
    factor = pet.suv_factor(pet.frames[0] if len(pet.frames) == 1 else None)
    said = [] if pet.activity is None else [f"SUV by its sidecar, {factor:.4g} times its values"]
    if len(pet.frames) > 1:
        said.append(
            f"its sidecar lists {len(pet.frames)} frames, but the file has one volume; nothing "
            "says which frame it is"
        )
    return _without_nan(np.float32(factor) * values, kind, said)


def _late_uptake(image: Any, pet: PetScan | None) -> tuple[Array, list[str]]:
    """Return the SUV (x, y, z) of a dynamic PET (x, y, z, frames), as the mean of late frames."""
    count = image.shape[3]
    if pet is None:
        raise UserError(
            f"dynamic PET of {count} frames without a sidecar; average the late frames to one "
            "volume in SUV, or add the JSON file that BIDS asks for"
        )
    late = late_frames(pet.frames, count)
    total = np.zeros(image.shape[:3])
    for k in late:
        frame = pet.frames[k]
        total += frame.duration * pet.suv_factor(frame) * np.asarray(image.dataobj[..., k])
    seconds = sum(pet.frames[k].duration for k in late)
    first, last = pet.frames[late[0]], pet.frames[late[-1]]
    said = (
        f"SUV is the mean of frames {late[0] + 1} to {late[-1] + 1} of {count}, "
        f"{first.start / 60:.0f} to {(last.start + last.duration) / 60:.0f} min after injection"
    )
    return (total / seconds).astype(np.float32), [said]


def _without_nan(values: Array, kind: ModalityKind, said: list[str]) -> tuple[Array, list[str]]:
    """Replace NaN connected to the volume's faces by background; refuse any other NaN."""
    finite = np.isfinite(values)
    if finite.all():
        return values, said
    outside = connected(np.isnan(values), faces(values.shape))
    inside = int((~finite & ~outside).sum())
    if inside or not finite.any():
        raise UserError(
            f"{inside or values.size} values are NaN or infinite in the body; mend the file first"
        )
    level = background(values[finite], kind.values == "hounsfield")
    share = f"{100 * float(outside.mean()):.2g} %"
    said.append(f"{share} of its voxels, around the body, were NaN; they are {level:g} now")
    return np.where(outside, np.float32(level), values), said
