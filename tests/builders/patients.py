"""Folders of tiny patients, as NIfTI files."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from any2all_core.testing import AFFINE, MODALITIES, phantom


def write_patient(folder: Path, affine: np.ndarray | None = None, **kwargs: int) -> Path:
    """Make a folder with one phantom for each modality; ``kwargs`` are those of the phantom."""
    folder.mkdir(parents=True)
    for k, name in enumerate(MODALITIES):
        volume = phantom(**{"seed": k, **kwargs})
        image = nib.Nifti1Image(volume, AFFINE if affine is None else affine)
        nib.save(image, folder / f"{name}.nii.gz")
    return folder


@pytest.fixture
def patient(tmp_path: Path) -> Path:
    return write_patient(tmp_path / "patient")


def lesion(folder: Path, name: str, affine: np.ndarray = AFFINE) -> np.ndarray:
    labels = np.zeros((32, 32, 4), np.uint8)
    labels[12:16, 9:14, 1:3] = 1
    labels[18:21, 9:14, 2] = 4
    nib.save(nib.Nifti1Image(labels, affine), folder / name)
    return labels
