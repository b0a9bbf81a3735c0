"""A patient as a folder of NIfTI files, one a modality."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import torch
from any2all_operators import UserError
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from torch import Tensor

from any2all_data.normalise import Array, Range, fixed_range, mr_scale

AXES = ("L", "P", "S")
"""Array axes x, y, z inside; a slice has rows y to posterior and columns x to the left."""
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""RAS, NIfTI's, to the LPS of DICOM and ITK, and back."""
LARGEST = 2**30
"""Voxels of a volume."""
MOST_PACKED = 1100
"""Bytes that gzip can make of one, a little more than is possible."""
SUFFIXES = (".nii.gz", ".nii")


@dataclass(frozen=True)
class Volume:
    """One modality: slices (Z, H, W) in physical units.

    ``affine``: (4, 4), voxel (x, y, z) along AXES to mm; ``file_axes``: the axes of the file, to
    which :func:`write_volume` returns; ``range``: the physical values that become 0 and 1.
    """

    path: Path
    slices: Array
    affine: Any
    file_axes: tuple[str, ...]
    range: Range

    @property
    def normalised(self) -> Array:
        """(Z, H, W) in [0, 1]."""
        return self.range.normalise(self.slices)


def modality_path(patient: Path, modality: str) -> Path | None:
    """The patient's NIfTI file of a modality, if there is one."""
    candidates = (patient / f"{modality}{suffix}" for suffix in SUFFIXES)
    return next((path for path in candidates if path.exists()), None)


def load_nifti(path: Path, name: str) -> nib.Nifti1Image:
    """A 3D NIfTI file as float32, called ``name`` in what goes wrong.

    Raises UserError when it is damaged, claims more voxels than the file can hold, isn't 3D, holds
    NaN or infinity, or has no place in space.
    """
    try:
        with nib.imageglobals.LoggingOutputSuppressor():
            image = nib.squeeze_image(nib.load(path))
        voxels, kind = math.prod(map(int, image.shape)), image.get_data_dtype()
        packed = MOST_PACKED if path.suffix == ".gz" else 1
        if voxels > LARGEST or voxels * kind.itemsize > packed * path.stat().st_size:
            raise UserError(
                f"{name}: its header claims {voxels} voxels, more than the file can hold or than "
                f"{LARGEST}; export it again"
            )
        if kind.kind not in "iuf":
            raise UserError(f"{name}: its values are of type {kind}; expected real numbers")
        array = np.asarray(image.dataobj, dtype=np.float32)
    except UserError:
        raise
    except Exception as error:  # whose text may hold the path
        why = type(error).__name__
        raise UserError(f"{name}: not readable as NIfTI ({why}); export it again") from None
    if array.ndim != 3 or min(array.shape) < 1:
        raise UserError(f"{name}: shape {array.shape}; expected one 3D volume (x, y, z)")
    if not np.isfinite(array).all():
        count = int((~np.isfinite(array)).sum())
        raise UserError(f"{name}: {count} values are NaN or infinite; mend the file first")
    axes = image.affine[:3, :3]
    if not np.isfinite(image.affine).all() or not 1e-9 < abs(np.linalg.det(axes)) < 1e9:
        raise UserError(f"{name}: its affine gives voxels no size or place; export it again")
    return nib.Nifti1Image(array, image.affine)


def oriented(image: nib.Nifti1Image) -> nib.Nifti1Image:
    """The same image with its axes in the order and direction nearest to AXES."""
    return image.as_reoriented(ornt_transform(io_orientation(image.affine), axcodes2ornt(AXES)))


def read_volume(path: Path, normalisation: Mapping[str, Any] | None = None) -> Volume:
    """Read a 3D NIfTI file of any axis order.

    normalisation: of the modality, as a prior keeps it; without constants in it, as for MR.

    Raises UserError naming the file when it is damaged, not 3D, holds NaN or infinity, or is empty.
    """
    image = load_nifti(path, str(path))
    array = np.asarray(image.dataobj)
    values = fixed_range(normalisation) or Range(0.0, mr_scale(array))
    if values.high <= values.low or array.max() <= values.low:
        raise UserError(
            f"{path}: holds no signal (nothing above {values.low:g}); leave the modality out"
        )
    turned = oriented(image)
    slices = np.ascontiguousarray(np.asarray(turned.dataobj).transpose(2, 1, 0))
    return Volume(path, slices, turned.affine, nib.aff2axcodes(image.affine), values)


def read_patient(
    folder: str | Path,
    modalities: Sequence[str],
    normalisation: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Volume]:
    """The given modalities of a patient, which must share one grid.

    normalisation: {modality: as a prior keeps it}; MR's own for those that are not in it.
    Raises UserError when a file is missing, or when two differ in shape or affine, naming both
    files and both shapes.
    """
    patient, volumes = Path(folder), dict[str, Volume]()
    for modality in modalities:
        path = modality_path(patient, modality)
        if path is None:
            there = ", ".join(sorted(p.name for p in patient.glob("*.nii*"))) or "no NIfTI file"
            raise UserError(f"{patient}: no {modality}.nii.gz; the folder has {there}")
        volumes[modality] = read_volume(path, (normalisation or {}).get(modality))
    first = next(iter(volumes.values()))
    for volume in volumes.values():
        if volume.slices.shape != first.slices.shape:
            raise UserError(
                f"{volume.path}: shape {_xyz(volume)}, but {first.path} has {_xyz(first)}; "
                "resample them to one grid"
            )
        if not np.allclose(volume.affine, first.affine, rtol=1e-3, atol=1e-2):
            raise UserError(
                f"{volume.path}: its affine differs from that of {first.path} (both of shape "
                f"{_xyz(volume)}); register them to one grid"
            )
    return volumes


def to_stack(volumes: Mapping[str, Volume]) -> Tensor:
    """Normalised slices (Z, M, H, W) in [0, 1], modalities in the mapping's order."""
    return torch.from_numpy(np.stack([v.normalised for v in volumes.values()], 1))


def write_volume(path: Path, slices: Array, like: Volume, first_slice: int = 0) -> None:
    """Write slices (Z, H, W) as NIfTI float32 in the file axes and place of ``like``.

    ``first_slice``: which slice of ``like`` the first one is.
    """
    affine = like.affine.copy()
    affine[:3, 3] += first_slice * affine[:3, 2]
    write_slices(path, slices.astype(np.float32), affine, like.file_axes)


def write_slices(
    path: Path, slices: npt.NDArray[Any], affine: Any, file_axes: Sequence[str] = AXES
) -> None:
    """Write slices (Z, H, W), of which ``affine`` maps (x, y, z) along AXES to mm, as NIfTI."""
    image = nib.Nifti1Image(slices.transpose(2, 1, 0), affine)
    turn = ornt_transform(axcodes2ornt(AXES), axcodes2ornt(file_axes))
    nib.save(image.as_reoriented(turn), path)


def _xyz(volume: Volume) -> tuple[int, ...]:
    return volume.slices.shape[::-1]
