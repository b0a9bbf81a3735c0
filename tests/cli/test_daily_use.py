"""What a user meets first: names, units, other grids, help, and errors that blame what is wrong."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from any2all_core.prior_settings import read_settings
from any2all_core.stack_format import Grid, ModalityFormat, Range, StackFormat
from any2all_core.testing import phantom, tiny_prior
from builders.cohorts import TINY_RUN
from builders.command_line import Run
from builders.patients import write_patient

pytestmark = pytest.mark.slow
FEW = ("--sampler", "mds:steps=2", "--seed", 1)
FINE = np.diag([1.0, 1.0, 2.0, 1.0])


@pytest.fixture(scope="module")
def placed_prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prior that says the grid it was trained at, and CT in HU."""
    folder = tmp_path_factory.mktemp("placed") / "prior"
    prior = tiny_prior(modalities=("T1", "FLAIR", "CT"))
    images = (
        ModalityFormat("T1"),
        ModalityFormat("FLAIR"),
        ModalityFormat("CT", "HU", "group", Range(-1000.0, 1000.0)),
    )
    format_ = StackFormat(images, (32, 32), Grid((1.5, 1.5, 4.0)))
    prior.settings = dataclasses.replace(prior.settings, format=format_)
    prior.save(folder)
    return folder


def loaded(path: Path) -> Any:
    return nib.load(path)


def fine_patient(folder: Path) -> Path:
    """T1 and FLAIR of 1 x 1 x 2 mm, named as BraTS does, on one grid that is not the prior's."""
    folder.mkdir(parents=True)
    for k, name in enumerate(("t1", "flair")):
        image = nib.Nifti1Image(phantom(size=48, depth=12, seed=k), FINE)
        nib.save(image, folder / f"BraTS_001_{name}.nii.gz")
    return folder


def test_another_size_leads_to_resample_and_resample_brings_the_result_back(
    any2all: Run, placed_prior: Path, tmp_path: Path
) -> None:
    patient = fine_patient(tmp_path / "scans/p01")
    asked = ("sample", "--prior", placed_prior, "--input", patient, *FEW)
    refused = any2all(*asked, "--modalities", "t1=clean", "--output", "out")
    assert refused.returncode == 2
    assert "slices of 48 x 48, but the prior was trained on 32 x 32" in refused.stderr
    assert "any2all sample --resample (in Python resample=True) does this" in refused.stderr
    line = f"any2all prepare {tmp_path}/scans {tmp_path}/scans-cohort --size 32,32"
    assert f"{line} --spacing 1.5,1.5,4" in refused.stderr
    done = any2all(*asked, "--modalities", "t1=clean,Flair=kspace", "--resample", "--output", "o")
    assert done.returncode == 0, done.stderr
    source = loaded(patient / "BraTS_001_t1.nii.gz")
    for name in ("T1", "FLAIR", "CT"):
        image = loaded(tmp_path / f"o/{name}.nii.gz")
        assert image.shape == source.shape
        np.testing.assert_allclose(image.affine, source.affine)
    np.testing.assert_array_equal(loaded(tmp_path / "o/T1.nii.gz").get_fdata(), source.get_fdata())
    for what in ("truth", "measurement"):
        image = loaded(tmp_path / f"o/details/FLAIR_{what}.nii.gz")
        assert image.shape[:3] == source.shape
        np.testing.assert_allclose(image.affine, source.affine)
    assert "T1: read from BraTS_001_t1.nii.gz" in done.stderr
    assert "results are on the grid of this image" in done.stderr


def test_slices_are_those_of_the_patient_with_resample_too(
    any2all: Run, placed_prior: Path, tmp_path: Path
) -> None:
    patient = fine_patient(tmp_path / "scans/p01")
    asked = ("sample", "--prior", placed_prior, "--input", patient, "--resample", *FEW)
    refused = any2all(*asked, "--modalities", "t1=clean", "--slices", "5:13", "--output", "o")
    assert refused.returncode == 2
    assert (
        "--slices 5:13: expected FIRST:LAST (LAST not included), or one number, within 0:12"
        in refused.stderr
    )
    done = any2all(*asked, "--modalities", "t1=clean", "--slices", "5:7", "--output", "o")
    assert done.returncode == 0, done.stderr
    source = loaded(patient / "BraTS_001_t1.nii.gz")
    result = loaded(tmp_path / "o/T1.nii.gz")
    np.testing.assert_array_equal(result.get_fdata(), source.get_fdata()[:, :, 5:7])
    np.testing.assert_allclose(result.affine @ [0, 0, 0, 1], source.affine @ [0, 0, 5, 1])
    assert (loaded(tmp_path / "o/FLAIR.nii.gz").get_fdata() > 0).any((0, 1)).all()
    assert json.loads((tmp_path / "o/report.json").read_text())["own_slices"] == [5, 6]


def test_a_copy_that_is_nearer_to_the_truth_of_this_patient_is_said_to_be(
    any2all: Run, placed_prior: Path, tmp_path: Path
) -> None:
    patient = tmp_path / "p"
    patient.mkdir()
    affine = np.diag([-1.5, -1.5, 4.0, 1.0])
    for name, factor in (("T1", 100), ("FLAIR", 70)):
        nib.save(nib.Nifti1Image(factor * phantom(), affine), patient / f"sub-1_{name}.nii.gz")
    asked = ("sample", "--prior", placed_prior, "--input", patient, *FEW)
    done = any2all(*asked, "--modalities", "T1=clean", "--output", "o")
    assert done.returncode == 0, done.stderr
    flair = json.loads((tmp_path / "o/report.json").read_text())["modalities"]["FLAIR"]
    assert flair["score_copy"]["of"] == "T1"
    assert flair["score_copy"]["psnr_scaled"] > flair["score"]["psnr_scaled"]
    (warning,) = flair["warnings"]
    assert warning.startswith("a copy of T1 is nearer to this patient's true FLAIR")
    assert f"FLAIR: warning: {warning}" in done.stderr
    assert "; a copy of T1 PSNR" in done.stderr
    assert "FLAIR: its truth is read from sub-1_FLAIR.nii.gz" in done.stderr


def test_a_missing_ct_is_reported_beside_the_best_constant(
    any2all: Run, placed_prior: Path, tmp_path: Path
) -> None:
    patient = tmp_path / "p"
    patient.mkdir()
    affine = np.diag([-1.5, -1.5, 4.0, 1.0])
    for name, image in (("T1", phantom()), ("FLAIR", phantom(seed=1))):
        nib.save(nib.Nifti1Image(image, affine), patient / f"{name}.nii.gz")
    ct = np.where(phantom() > 0, 40.0, -1000.0).astype(np.float32)
    ct[16, 10:26, 1] = 1000.0
    nib.save(nib.Nifti1Image(ct, affine), patient / "CT.nii.gz")
    asked = ("sample", "--prior", placed_prior, "--input", patient, *FEW)
    done = any2all(*asked, "--modalities", "T1=clean", "--output", "o")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "o/report.json").read_text())["modalities"]
    found = report["CT"]["error"]
    assert found["unit"] == "HU"
    assert 0 < found["mae_constant"] < found["mae"], "most of the head has 40 HU; it is untrained"
    made = loaded(tmp_path / "o/CT.nii.gz").get_fdata()
    assert 0.5 < found["mae"] / np.abs(made - ct).mean() < 2, "of the head, not of the whole image"
    assert "error" not in report["FLAIR"], "MR has no unit"
    said = f"mean error in the head {found['mae']:.3g} HU, of the best constant "
    assert said in done.stderr


def test_every_modality_says_its_unit_scale_and_what_is_clipped(
    any2all: Run, placed_prior: Path, tmp_path: Path
) -> None:
    patient = tmp_path / "p"
    patient.mkdir()
    affine = np.diag([-1.5, -1.5, 4.0, 1.0])
    ct = np.where(phantom() > 0, 40.0, -1000.0).astype(np.float32)
    ct[16, 10:26, 1] = 1500.0
    images = {"T1": phantom(), "FLAIR": phantom(seed=1), "CT": ct}
    for name, image in images.items():
        nib.save(nib.Nifti1Image(image, affine), patient / f"{name}.nii.gz")
    asked = ("sample", "--prior", placed_prior, "--input", patient, *FEW)
    known = ("--modalities", "T1=clean,CT=clean")
    reports = {}
    for way in ("with", "without"):  # a file of FLAIR, which is missing
        done = any2all(*asked, *known, "--output", way)
        assert done.returncode == 0, done.stderr
        reports[way] = json.loads((tmp_path / way / "report.json").read_text())["modalities"]
        assert "FLAIR: unit normalised, scale 0 to 1\n" in done.stderr
        assert "CT: unit HU, scale -1000 to 1000, 0.39 % of its voxels outside\n" in done.stderr
        assert re.search(r"T1: unit as in its source, scale 0 to 1\d\d.*, [\d.]+ % of", done.stderr)
        (patient / "FLAIR.nii.gz").unlink(missing_ok=True)
    np.testing.assert_array_equal(
        *(loaded(tmp_path / way / "FLAIR.nii.gz").get_fdata() for way in reports)
    )
    for way in reports:
        entry = reports[way]["FLAIR"]
        assert (entry["unit"], entry["scale"]) == ("normalised", [0.0, 1.0])
        assert "clipped" not in entry
        assert reports[way]["CT"]["clipped"] == pytest.approx(16 / ct.size, abs=1e-6)
    assert "score" in reports["with"]["FLAIR"]


def test_a_bids_subject_is_one_patient_and_a_data_set_is_many(
    any2all: Run, prior_folder: Path, tmp_path: Path
) -> None:
    for k in (1, 2):
        anat = write_patient(tmp_path / f"bids/sub-0{k}/anat", seed=k)
        (anat / "T1.nii.gz").rename(anat / f"sub-0{k}_T1w.nii.gz")
        for name in ("FLAIR", "T1Gd"):
            (anat / f"{name}.nii.gz").unlink()
    (tmp_path / "bids/dataset_description.json").write_text("{}")
    asked = ("sample", "--prior", prior_folder, "--modalities", "T1=clean", *FEW)
    one = any2all(*asked, "--input", "bids/sub-01", "--output", "one")
    assert one.returncode == 0, one.stderr
    assert (tmp_path / "one/FLAIR.nii.gz").exists()
    many = any2all(*asked, "--input", "bids", "--output", "many")
    assert many.returncode == 0, many.stderr
    assert {p.name for p in (tmp_path / "many").iterdir()} == {"run.json", "sub-01", "sub-02"}


def test_train_for_some_hours_decides_the_steps_and_resume_agrees(
    any2all: Run, tmp_path: Path
) -> None:
    for k in range(3):
        write_patient(tmp_path / f"data/p{k}", seed=k)
    # the tiny network, whose number of steps is left open
    tiny = [part for part in TINY_RUN if not part.startswith(("steps=", "warmup="))]
    tiny.append("warmup=0")  # so that one step is enough, however busy the machine is
    asked = ("train", "--data", "data", "--modalities", "t1,Flair", *_pairs(tiny))
    hours = 3 / 3600
    done = any2all(*asked, "--output", "run", "--hours", hours)
    assert done.returncode == 0, done.stderr
    (said,) = re.findall(r"so there are (\d+) steps; --resume keeps them", done.stderr)
    kept = read_settings(tmp_path / "run")
    assert kept.format.names == ("T1", "FLAIR")
    assert kept.format.grid == Grid((1.5, 1.5, 4.0), "T1")
    assert kept.training["recipe"]["steps"] == int(said) > 0
    assert kept.training["hours"] == pytest.approx(hours)
    again = any2all(*asked, "--output", "run", "--hours", hours, "--resume")
    assert again.returncode == 0, again.stderr
    assert "so there are" not in again.stderr
    other = any2all(*asked, "--output", "run", "--hours", 1, "--resume")
    assert other.returncode == 2
    assert "was started with --hours 0.000833" in other.stderr
    for extra, why in (
        (["--hours", 1, "--steps", 5], "--hours and --steps both set the number of steps"),
        (["--steps", 5, "--set", "steps=6"], "--steps and --set steps= set the same value"),
        (["--hours", 0], "--hours 0: expected more than 0"),
        (["--hours", 1e-7], "give at least"),
    ):
        refused = any2all(*asked, "--output", "other", *extra)
        assert refused.returncode == 2
        assert why in refused.stderr
        assert "Traceback" not in refused.stderr


def _pairs(options: list[str]) -> list[str]:
    return [part for option in options if option != "--set" for part in ("--set", option)]
