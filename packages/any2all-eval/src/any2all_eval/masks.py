"""Masks of a patient: lesions, and the regions that a challenge judges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from any2all_data.coverage import in_head
from any2all_data.nifti import load_nifti
from any2all_data.patient import modality_path, oriented
from any2all_data.patients import Patients
from any2all_operators import UserError
from numpy.typing import NDArray
from torch import Tensor

LESION = ("lesion", "lesions")
"""File name of a patient's lesion mask."""
PART = 1 / 3
"""Largest share of the head that a segmentation of lesions may fill."""


def lesion_mask(path: str, stack: Tensor, affine: Any) -> Tensor | None:
    """The lesion mask (Z, H, W), bool, of the patient at ``path``; None if there is none.

    Raises UserError if the mask's grid is not that of the stack (Z, M, H, W).
    """
    mask = _of_cohort(path, stack)
    return _of_folder(Path(path), stack, affine) if mask is None else mask


def _of_cohort(path: str, stack: Tensor) -> Tensor | None:
    """The lesion mask (Z, H, W), bool, of a prepared patient; None without one, or for a folder.

    Without a lesion mask, a segmentation takes its place. If it fills more than PART of the head,
    it is a segmentation of tissues and is not used.
    """
    patients = Patients.at(path)
    if patients.cohort is None:
        return None
    for kind in ("lesion", "seg"):
        labels = patients.cohort.mask(patients.name, kind)
        if labels is not None:
            mask = torch.from_numpy(labels > 0)
            inside = mask & in_head(stack)
            if kind == "lesion" or inside.sum() <= PART * in_head(stack).sum():
                return mask
    return None


def _of_folder(folder: Path, stack: Tensor, affine: Any) -> Tensor | None:
    """(Z, H, W), bool."""
    for name in LESION:
        path = modality_path(folder, name) if folder.is_dir() else None
        if path is not None:
            return torch.from_numpy(marked(path, (len(stack), *stack.shape[2:]), affine))
    return None


def marked(path: Path, shape: tuple[int, ...], affine: Any) -> NDArray[np.bool_]:
    """Where the labels of a mask are above 0, (Z, H, W). Raises UserError if its grid differs."""
    image = oriented(load_nifti(path, str(path)).image)
    mask = np.asarray(image.dataobj).transpose(2, 1, 0) > 0
    if mask.shape != shape or not np.allclose(image.affine, affine, rtol=1e-3, atol=1e-2):
        raise UserError(
            f"{path}: shape {mask.shape} or affine other than those of the images, {shape}; "
            "resample it"
        )
    return mask
