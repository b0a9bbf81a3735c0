"""A patient as a folder of NIfTI files, one per modality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import torch
from any2all_core.stack_format import ModalityFormat, Range, StackFormat
from any2all_mri.intensity import mr_scale
from any2all_operators import UserError
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from torch import Tensor

from any2all_data.kinds import kind_for
from any2all_data.nifti import load_nifti
from any2all_data.normalise import Array

AXES = ("L", "P", "S")
"""Directions of the array axes x, y, z. A slice's rows run along y, its columns along x."""
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Converts NIfTI's RAS to the LPS of DICOM and ITK, and back."""
SUFFIXES = (".nii.gz", ".nii")


class OtherGrid(UserError):
    """Images of one patient that lie on different grids."""


@dataclass(frozen=True)
class Volume:
    """One modality of a patient.

    Parameters
    ----------
    slices
        (Z, H, W) in physical units.
    affine
        (4, 4), maps voxel (x, y, z) along AXES to mm (RAS).
    file_axes
        The axes of the file, in which :func:`write_volume` writes.
    range
        The physical values that become 0 and 1.
    notes
        What was corrected or assumed when the file was read.
    """

    path: Path
    slices: Array
    affine: Any
    file_axes: tuple[str, ...]
    range: Range
    notes: tuple[str, ...] = ()

    @property
    def normalised(self) -> Array:
        """Return the slices (Z, H, W) scaled to [0, 1]."""
        return self.range.normalise(self.slices)

    def clipped(self, slices: Sequence[int]) -> float:
        """Return the fraction of these slices' voxels outside the range, which are clipped."""
        values = self.slices[list(slices)]
        return float(((values < self.range.low) | (values > self.range.high)).mean())


def modality_path(patient: Path, modality: str) -> Path | None:
    """Return the path of a patient's NIfTI file.

    Parameters
    ----------
    patient
        The patient's folder.
    modality
        Name of the modality.

    Returns
    -------
    Path or None
        <modality>.nii.gz or <modality>.nii, None if there is neither.
    """
    candidates = (patient / f"{modality}{suffix}" for suffix in SUFFIXES)
    return next((path for path in candidates if path.exists()), None)


def oriented(image: nib.Nifti1Image) -> nib.Nifti1Image:
    """Reorder and flip the image's axes to those nearest to AXES."""
    return image.as_reoriented(ornt_transform(io_orientation(image.affine), axcodes2ornt(AXES)))


def read_volume(
    path: Path, modality: ModalityFormat | None = None, trust_axes: bool = False
) -> Volume:
    """Read a 3D NIfTI file of any axis order.

    Parameters
    ----------
    path
        The file <modality>.nii.gz or <modality>.nii.
    modality
        Kind and range of the modality, from a prior's format. None takes the kind that belongs to
        the file's name, and the image's own range.
    trust_axes
        Whether a file whose qform and sform codes are 0 is read as RAS+ instead of refused.

    Returns
    -------
    Volume
        Slices (Z, H, W) in physical units.

    Raises
    ------
    UserError
        If the file can't be read or is empty. The message names the file.
    """
    modality = modality or ModalityFormat(path.name.split(".nii")[0])
    scan = load_nifti(path, str(path), kind_for(modality), trust_axes)
    image, array = scan.image, np.asarray(scan.image.dataobj)
    values = modality.range or Range(0.0, mr_scale(array))
    if values.high <= values.low or array.max() <= values.low:
        raise UserError(
            f"{path}: holds no signal (nothing above {values.low:g}); leave the modality out"
        )
    turned = oriented(image)
    slices = np.ascontiguousarray(np.asarray(turned.dataobj).transpose(2, 1, 0))
    file_axes = nib.aff2axcodes(image.affine)
    return Volume(path, slices, turned.affine, file_axes, values, scan.notes)


def read_patient(
    folder: str | Path,
    modalities: Sequence[str],
    format_: StackFormat | None = None,
    trust_axes: bool = False,
) -> dict[str, Volume]:
    """Read modalities of a patient, which must share one grid.

    Parameters
    ----------
    folder
        Folder with a file ``<modality>.nii.gz`` or ``<modality>.nii`` for each modality.
    modalities
        Names of the modalities to read, in this order.
    format_
        A prior's image format, ``prior.format``. Images in HU or SUV need it to be scaled as in
        training. None takes the kinds of the modalities' names, and each image's own range.
    trust_axes
        Whether a file whose qform and sform codes are 0 is read as RAS+ instead of refused.

    Returns
    -------
    dict
        {modality: Volume}.

    Raises
    ------
    UserError
        If a file is missing, or two files differ in shape or affine. The message names both files
        and shapes.
    """
    patient, paths = Path(folder), dict[str, Path]()
    for modality in modalities:
        path = modality_path(patient, modality)
        if path is None:
            there = ", ".join(sorted(p.name for p in patient.glob("*.nii*"))) or "no NIfTI file"
            raise UserError(f"{patient}: no {modality}.nii.gz; the folder has {there}")
        paths[modality] = path
    return read_volumes(paths, format_, trust_axes)


def read_volumes(
    paths: Mapping[str, Path], format_: StackFormat | None = None, trust_axes: bool = False
) -> dict[str, Volume]:
    """Read the files {modality: path} of one patient as :func:`read_patient` does."""
    volumes = {}
    for name, path in paths.items():
        known = ModalityFormat(name) if format_ is None else format_[name]
        volumes[name] = read_volume(path, known, trust_axes)
    check_one_grid(volumes)
    return volumes


def check_one_grid(volumes: Mapping[str, Volume]) -> None:
    """Raise OtherGrid, which names both files, if two images differ in shape or affine."""
    first = next(iter(volumes.values()))
    for volume in volumes.values():
        if volume.slices.shape != first.slices.shape:
            raise OtherGrid(
                f"{volume.path}: shape {_xyz(volume)}, but {first.path} has {_xyz(first)}"
            )
        if not np.allclose(volume.affine, first.affine, rtol=1e-3, atol=1e-2):
            raise OtherGrid(
                f"{volume.path}: its affine differs from that of {first.path} (both of shape "
                f"{_xyz(volume)})"
            )


def to_stack(volumes: Mapping[str, Volume]) -> Tensor:
    """Stack volumes as the input of a prior.

    Parameters
    ----------
    volumes
        {modality: Volume}, all on one grid.

    Returns
    -------
    Tensor
        Slices (Z, M, H, W) in [0, 1], modalities in the mapping's order.
    """
    return torch.from_numpy(np.stack([v.normalised for v in volumes.values()], 1))


def write_volume(path: Path, slices: Array, like: Volume, first_slice: int = 0) -> None:
    """Write slices as a NIfTI file (float32) with the file axes and position of ``like``.

    Parameters
    ----------
    path
        The file to write.
    slices
        (Z, H, W), or frames (F, Z, H, W), in physical units.
    like
        Volume that gives the affine and the file axes.
    first_slice
        Index in ``like`` of the first slice.
    """
    affine = like.affine.copy()
    affine[:3, 3] += first_slice * affine[:3, 2]
    write_slices(path, slices.astype(np.float32), affine, like.file_axes)


def write_slices(
    path: Path, slices: npt.NDArray[Any], affine: Any, file_axes: Sequence[str] = AXES
) -> None:
    """Write slices (Z, H, W), or frames (F, Z, H, W), as NIfTI.

    ``affine`` maps voxel (x, y, z) along AXES to mm.
    """
    image = nib.Nifti1Image(slices.T, affine)
    image.header.set_xyzt_units("mm")
    turn = ornt_transform(axcodes2ornt(AXES), axcodes2ornt(file_axes))
    nib.save(image.as_reoriented(turn), path)


def _xyz(volume: Volume) -> tuple[int, ...]:
    return volume.slices.shape[::-1]
