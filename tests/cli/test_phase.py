"""What the command says of a scan whose phase is unknown."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from any2all_mri import KSpace
from builders.command_line import Run
from builders.patients import write_patient
from builders.phase import NOISE, images

pytestmark = pytest.mark.slow


def test_the_command_says_whether_the_prior_helps(
    tmp_path: Path, any2all: Run, prior_folder: Path
) -> None:
    rough = KSpace(phase="rough", acceleration=2, acs_lines=12, coils=6, noise_std=NOISE)
    truth = torch.nn.functional.pad(images()[:, ::2, ::2], (4, 4, 4, 4))
    folder = tmp_path / "scan"
    folder.mkdir()
    generators = [torch.Generator().manual_seed(k) for k in (1, 2)]
    np.save(folder / "T1.npy", rough.build(32, 32).measure(truth, generators).numpy())
    done = any2all(
        *("sample", "--prior", prior_folder, "--input", folder, "--modalities", "T1=kspace"),
        *("--output", tmp_path / "out"),
    )
    assert done.returncode == 0, done.stderr
    assert "T1: of the held-out samples the prior leaves" in done.stderr
    entry = json.loads((tmp_path / "out/report.json").read_text())["modalities"]["T1"]
    assert entry["scan"]["phase"].startswith("not smooth")
    assert set(entry["held_out"]["held_out_errors"]) == {"prior", "CG-SENSE", "L1-wavelet", "noise"}
    assert 0 <= entry["held_out"]["share_of_the_prior"] <= 1


def test_a_simulation_with_a_phase_is_drawn_without_knowing_it(
    tmp_path: Path, any2all: Run, prior_folder: Path
) -> None:
    patient = write_patient(tmp_path / "patient")
    done = any2all(
        *("sample", "--prior", prior_folder, "--input", patient, "--slices", "1:2"),
        *("--modalities", "T1=clean,FLAIR=kspace:phase=rough:acs_lines=12:acceleration=2"),
        *("--output", tmp_path / "out"),
    )
    assert done.returncode == 0, done.stderr
    entry = json.loads((tmp_path / "out/report.json").read_text())["modalities"]["FLAIR"]
    assert entry["options"]["phase"] == "rough"
    assert entry["residual_over_noise"] > 0
