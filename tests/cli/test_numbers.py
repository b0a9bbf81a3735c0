"""What the commands say of the numbers in files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from any2all_core.testing import phantom
from any2all_data.store import CohortStore
from builders.command_line import Run
from builders.nifti import (
    BECQUEREL,
    INJECTED,
    ct,
    header_of,
    uptake,
    without,
    write,
)

pytestmark = pytest.mark.slow


def test_prepare_says_what_it_did_with_the_numbers(any2all: Run, tmp_path: Path) -> None:
    source = tmp_path / "source"
    t1 = phantom(32, 14)
    padded = ct()
    padded[:4] = -3024
    write(source / "a/T1.nii.gz", t1)
    write(source / "a/CT.nii.gz", padded[:, 2:34])
    write(source / "a/PET.nii.gz", BECQUEREL * uptake()[:, 2:34], **INJECTED)
    write(source / "b/T1.nii.gz", t1)
    write(source / "b/PET.nii.gz", BECQUEREL * uptake()[:, 2:34], **without("BodyWeight"))
    header_of(write(source / "c/T1.nii", t1), qform_code=0, sform_code=0)
    options = ("--spacing", "native", "--size", 32, "--workers", 1, "--split", "train")
    done = any2all("prepare", source, "cohort", *options, "--trust-axes")
    assert done.returncode == 0, done.stderr
    table = re.sub(r"[│\s]+", " ", done.stdout)
    assert "CT: 12 % of its voxels lay below -1024 HU; they are air now" in table
    assert "PET: SUV by its sidecar" in table
    assert "PET left out: its file: SUV needs BodyWeight" in table
    assert "T1: its axes are trusted to run" in table
    store = CohortStore.open(str(tmp_path / "cohort"))
    assert sorted(len(entry.present) for entry in store.patients().values()) == [1, 1, 3]
    name = next(p for p, entry in store.patients().items() if len(entry.present) == 3)
    images = dict(zip(store.format.names, store.images(name).swapaxes(0, 1), strict=True))
    assert images["CT"].min() >= -1024
    np.testing.assert_allclose(images["PET"].max(), uptake().max(), rtol=1e-4)


def test_sample_trusts_axes_where_it_is_told_to(
    any2all: Run, prior_folder: Path, patient: Path
) -> None:
    for file in patient.glob("*.nii.gz"):
        header_of(file, qform_code=0, sform_code=0)
    known = ("--input", patient, "--modalities", "T1=clean", "--set", "steps=2", "--slices", "1:2")
    done = any2all("sample", "--prior", prior_folder, *known)
    assert done.returncode == 2
    assert "give prepare or sample --trust-axes" in done.stderr
    done = any2all("sample", "--prior", prior_folder, *known, "--trust-axes", "--output", "out")
    assert done.returncode == 0, done.stderr
    assert "T1: its axes are trusted" in done.stderr
