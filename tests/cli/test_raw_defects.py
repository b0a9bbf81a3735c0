"""What the command says of raw files with defects."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from any2all_core.testing import phantom
from any2all_mri import KSpace
from builders.command_line import Run
from builders.nifti import load
from builders.patients import write_patient
from builders.raw_data import scan

pytestmark = pytest.mark.slow


def test_a_slice_that_is_left_out_is_said_and_written_as_0(
    any2all: Run, prior_folder: Path, tmp_path: Path
) -> None:
    y = in_folder(tmp_path / "whole")
    y[1] = np.nan
    (tmp_path / "gap").mkdir()
    np.save(tmp_path / "gap/FLAIR.npy", y)
    for name in ("whole", "gap"):
        options = ("--prior", prior_folder, "--input", tmp_path / name, "--set", "steps=2")
        done = any2all(
            *("sample", *options, "--modalities", "FLAIR=kspace", "--output", tmp_path / f"{name}1")
        )
        assert done.returncode == 0, done.stderr
    assert "FLAIR: warning: slice 1 (counted from 0) has no samples, or has NaN" in done.stderr
    report = json.loads((tmp_path / "gap1/report.json").read_text())
    assert report["slices"] == [0, 2, 3]
    assert report["modalities"]["FLAIR"]["scan"]["slices_left_out"] == [1]
    for name in ("FLAIR", "T1"):
        result = load(tmp_path / f"gap1/{name}.nii.gz").get_fdata()
        assert np.isfinite(result).all()
        assert result.shape == (32, 32, 4)
        assert not result[..., 1].any()
        assert result[..., 0].any()
    alone = any2all(
        *("sample", *options, "--modalities", "FLAIR=kspace", "--slices", "1"),
        *("--output", tmp_path / "none"),
    )
    assert alone.returncode == 2
    assert "--slices 1:2: the k-space of FLAIR holds no samples or NaN there" in alone.stderr


def in_folder(folder: Path, noise: float = 0.002) -> np.ndarray:
    """k-space (4, C, 32, 32) of a patient who has nothing else, as FLAIR.npy."""
    folder.mkdir()
    truth = torch.from_numpy(phantom(32, 4)).permute(2, 0, 1) / 195
    simulated = KSpace(acceleration=2, coils=4, acs_lines=14, noise_std=noise).build(32, 32)
    y = simulated.measure(truth, [torch.Generator().manual_seed(k) for k in range(4)]).numpy()
    np.save(folder / "FLAIR.npy", y)
    return y


def test_a_large_residual_is_told(any2all: Run, prior_folder: Path, tmp_path: Path) -> None:
    in_folder(tmp_path / "patient")
    options = ("--prior", prior_folder, "--input", tmp_path / "patient", "--set", "steps=2")
    done = any2all(
        *("sample", *options, "--modalities", "FLAIR=kspace:noise_std=0.0001"),
        *("--output", tmp_path / "out"),
    )
    assert " x the noise" in done.stderr
    assert "FLAIR: warning: the image leaves a residual of" in done.stderr
    assert "about 1 is expected. The phase may not be smooth" in done.stderr
    entry = json.loads((tmp_path / "out/report.json").read_text())["modalities"]["FLAIR"]
    assert entry["residual_over_noise"] > 2
    assert "Do not trust details" in entry["warnings"][0]


def test_warnings_of_many_patients_are_told(
    any2all: Run, prior_folder: Path, tmp_path: Path
) -> None:
    for name in ("A", "B"):
        folder = write_patient(tmp_path / "all" / name)
        (folder / "FLAIR.nii.gz").unlink()
        np.save(folder / "FLAIR.npy", in_folder(tmp_path / name))
    options = ("--prior", prior_folder, "--input", tmp_path / "all", "--set", "steps=1")
    spec = "T1=clean,FLAIR=kspace:noise_std=0.0001"
    done = any2all("sample", *options, "--modalities", spec, "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "A: FLAIR: residual" in done.stderr
    assert "B: FLAIR: warning: the image leaves a residual of" in done.stderr


@pytest.mark.parametrize(
    ("option", "simulate", "said"),
    [
        ("acceleration=8", False, "acceleration=8 applies to a simulation, but"),
        ("coils=8", False, "coils=8 applies to a simulation, but"),
        ("mask=random", False, "mask=random applies to a simulation, but"),
        ("turn=90", True, "turn=90 applies to a file of kspace, but FLAIR is simulated"),
    ],
)
def test_options_that_do_not_apply_are_refused(
    any2all: Run, prior_folder: Path, patient: Path, option: str, simulate: bool, said: str
) -> None:
    np.save(patient / "FLAIR.npy", scan())
    options = [
        "--prior",
        prior_folder,
        "--input",
        patient,
        "--modalities",
        f"FLAIR=kspace:{option}",
    ]
    done = any2all("sample", *options, *(["--simulate"] if simulate else []), "--output", "out")
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
