"""sample --bids: files of a BIDS derivative, named and described."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from any2all_app.bids_derivatives import Subject, check_names
from any2all_core.testing import tiny_prior
from any2all_operators import UserError
from builders.command_line import Run

SAMPLER = ("--sampler", "mds:steps=2", "--precision", "float32")


@pytest.mark.slow
def test_one_patient_has_its_own_data_set(any2all: Run, patient: Path, tmp_path: Path) -> None:
    tiny_prior().save(tmp_path / "prior")
    shutil.copytree(patient, tmp_path / "sub-01/ses-a")
    known = "T1=clean,FLAIR=kspace:acceleration=2"
    given = ("--prior", "prior", "--modalities", known, *SAMPLER, "--bids")
    done = any2all("sample", "--input", "sub-01/ses-a", *given, "--output", "out")
    assert done.returncode == 0, done.stderr
    root = tmp_path / "out/derivatives/any2all"
    missing = next(m for m in tiny_prior().modalities if m not in ("T1", "FLAIR"))
    files = sorted(str(p.relative_to(root)) for p in root.rglob("*.nii.gz"))
    assert len(files) == 2  # what was given is no derivative
    assert "sub-01/ses-a/anat/sub-01_ses-a_desc-reconstructed_FLAIR.nii.gz" in files
    (drawn,) = [root / name for name in files if "desc-synthetic" in name]
    assert drawn.read_bytes() == (tmp_path / f"out/{missing}.nii.gz").read_bytes()
    said = json.loads(Path(str(drawn).replace(".nii.gz", ".json")).read_text())
    assert (said["Synthetic"], said["SkullStripped"], said["Units"]) == (True, False, "arbitrary")
    assert said["Any2all"]["seed"] == 0
    description = json.loads((root / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    assert description["GeneratedBy"][0]["Name"] == "any2all"
    assert (root / "README").read_text()


@pytest.mark.slow
def test_many_patients_share_one(any2all: Run, patient: Path, tmp_path: Path) -> None:
    tiny_prior().save(tmp_path / "prior")
    for name in ("sub-01", "P 2"):
        shutil.copytree(patient, tmp_path / "people" / name)
    given = ("--prior", "prior", "--modalities", "T1=clean", *SAMPLER, "--bids")
    done = any2all("sample", "--input", "people", *given, "--output", "out")
    assert done.returncode == 0, done.stderr
    root = tmp_path / "out/derivatives/any2all"
    assert {p.name for p in root.iterdir() if p.is_dir()} == {"sub-01", "sub-P2"}
    assert len(list(root.rglob("*_desc-synthetic_*.nii.gz"))) == 4
    assert not list((tmp_path / "out/sub-01").rglob("derivatives"))


def test_what_has_no_name_is_refused_before_any_work(any2all: Run) -> None:
    with pytest.raises(UserError, match="BIDS has no name for ADC, only for T1, T1Gd"):
        check_names(["T1", "ADC"])
    with pytest.raises(UserError, match="no letter or digit for a label"):
        Subject.of("people/__")
    assert Subject.of("bids/sub-01/ses-b/").name == "sub-01_ses-b"
    assert Subject.of("people/Patient_7").name == "sub-Patient7"
    done = any2all("sample", "--bids")
    assert (done.returncode, "--bids needs --input" in done.stderr) == (2, True)
