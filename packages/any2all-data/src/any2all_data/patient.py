"""A patient as a folder of NIfTI files, one a modality."""

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
"""Array axes x, y, z inside; a slice has rows y to posterior and columns x to the left."""
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""RAS, NIfTI's, to the LPS of DICOM and ITK, and back."""
SUFFIXES = (".nii.gz", ".nii")


class OtherGrid(UserError):
    """Images of one patient that lie on different grids."""


@dataclass(frozen=True)
class Volume:
    """One modality: slices (Z, H, W) in physical units.

    ``affine``: (4, 4), voxel (x, y, z) along AXES to mm; ``file_axes``: the axes of the file, to
    which :func:`write_volume` returns; ``range``: the physical values that become 0 and 1;
    ``notes``: what had to be mended or assumed when it was read.
    """

    path: Path
    slices: Array
    affine: Any
    file_axes: tuple[str, ...]
    range: Range
    notes: tuple[str, ...] = ()

    @property
    def normalised(self) -> Array:
        """(Z, H, W) in [0, 1]."""
        return self.range.normalise(self.slices)

    def clipped(self, slices: Sequence[int]) -> float:
        """The share of these slices' voxels that lie outside of the range, and saturate."""
        values = self.slices[list(slices)]
        return float(((values < self.range.low) | (values > self.range.high)).mean())


def modality_path(patient: Path, modality: str) -> Path | None:
    """The patient's NIfTI file of a modality, if there is one."""
    candidates = (patient / f"{modality}{suffix}" for suffix in SUFFIXES)
    return next((path for path in candidates if path.exists()), None)


def oriented(image: nib.Nifti1Image) -> nib.Nifti1Image:
    """The same image with its axes in the order and direction nearest to AXES."""
    return image.as_reoriented(ornt_transform(io_orientation(image.affine), axcodes2ornt(AXES)))


def read_volume(
    path: Path, modality: ModalityFormat | None = None, trust_axes: bool = False
) -> Volume:
    """Read <modality>.nii.gz, a 3D NIfTI file of any axis order.

    modality: its kind and range, as a prior knows them; None takes the kind of the file's name, and
    the image's own range. trust_axes: see :func:`load_nifti`.

    Raises UserError naming the file when it can't be read (see :func:`load_nifti`) or is empty.
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
        With a file ``<modality>.nii.gz`` or ``<modality>.nii`` for each.
    modalities
        Which are read, in this order.
    format_
        What a prior knows of its images: ``prior.format``. Images in HU or SUV need it to be scaled
        as those that the prior was trained on. None takes the kinds of the modalities' names, and
        each image's own range.
    trust_axes
        Whether a file that doesn't say how its axes lie is read with x to the right, y to the front
        and z up; it is refused otherwise.

    Returns
    -------
    dict
        {modality: Volume}.

    Raises
    ------
    UserError
        When a file is missing, or when two differ in shape or affine, naming both files and both
        shapes.
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
    """The files of one patient, {modality: path}, which must share one grid; see read_patient."""
    volumes = {}
    for name, path in paths.items():
        known = ModalityFormat(name) if format_ is None else format_[name]
        volumes[name] = read_volume(path, known, trust_axes)
    check_one_grid(volumes)
    return volumes


def check_one_grid(volumes: Mapping[str, Volume]) -> None:
    """Raise OtherGrid, naming both files, where two images differ in shape or affine."""
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
    """Normalised slices (Z, M, H, W) in [0, 1], modalities in the mapping's order."""
    return torch.from_numpy(np.stack([v.normalised for v in volumes.values()], 1))


def write_volume(path: Path, slices: Array, like: Volume, first_slice: int = 0) -> None:
    """Write slices (Z, H, W), or frames of them (F, Z, H, W), as NIfTI float32.

    In the file axes and the place of ``like``.

    ``first_slice``: which slice of ``like`` the first one is.
    """
    affine = like.affine.copy()
    affine[:3, 3] += first_slice * affine[:3, 2]
    write_slices(path, slices.astype(np.float32), affine, like.file_axes)


def write_slices(
    path: Path, slices: npt.NDArray[Any], affine: Any, file_axes: Sequence[str] = AXES
) -> None:
    """Write slices (Z, H, W), or frames of them (F, Z, H, W), as NIfTI.

    ``affine`` maps (x, y, z) along AXES to mm.
    """
    image = nib.Nifti1Image(slices.T, affine)
    image.header.set_xyzt_units("mm")
    turn = ornt_transform(axcodes2ornt(AXES), axcodes2ornt(file_axes))
    nib.save(image.as_reoriented(turn), path)


def _xyz(volume: Volume) -> tuple[int, ...]:
    return volume.slices.shape[::-1]
