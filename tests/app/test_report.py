"""What is reported of a result."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from any2all_app import Training, complete
from any2all_app.observer import SILENT
from any2all_app.report import check_finite
from any2all_app.training import training_slices
from any2all_core.testing import MODALITIES
from any2all_data.appearance import FEWEST_PATIENTS, WORDS
from any2all_operators import UserError
from builders.patients import write_patient


def test_a_result_that_is_not_finite_is_refused() -> None:
    results = torch.zeros(2, 3, 2, 4, 4)
    check_finite(results, ("T1", "FLAIR"), [4, 5, 7])
    results[1, 2, 1, 0, 3] = torch.nan
    with pytest.raises(UserError, match="FLAIR: the result of slice 7 is NaN or infinite"):
        check_finite(results, ("T1", "FLAIR"), [4, 5, 7])


def test_an_image_unlike_those_of_the_training_is_warned_of(
    patient: Path, prior_folder: Path, tmp_path: Path
) -> None:
    settings = prior_folder / "prior.json"
    kept = json.loads(settings.read_text())
    usual = {name: (0.0, 100.0) for name in WORDS}
    kept["training"]["looks"] = {m: usual for m in ("T1", "FLAIR")}
    kept["training"]["virtual"] = True
    kept["training"]["looks"]["FLAIR"] = usual | {"brightness": (0.96, 0.98)}
    own = shutil.copytree(prior_folder, tmp_path / "prior")
    (own / "prior.json").write_text(json.dumps(kept))
    known = {"T1": "clean", "FLAIR": "kspace"}
    report = complete(patient, known, prior=str(own), sampler="mds:steps=2").report
    assert "warnings" not in report["modalities"]["T1"]
    (said,) = report["modalities"]["FLAIR"]["warnings"]
    assert said.startswith("this image does not look like the FLAIR of the patients")
    assert "the mean in the head is 0." in said
    assert "in training 0.96 to 0.98" in said
    assert report["patient"].startswith("warning: this prior was trained on virtual people only")


def test_training_keeps_what_its_patients_look_like(tmp_path: Path) -> None:
    for k in range(FEWEST_PATIENTS + 1):
        write_patient(tmp_path / f"cohort/p{k:02d}", seed=k)
    found = training_slices(Training(str(tmp_path / "cohort")), True, SILENT).settings.looks
    assert set(found) == set(MODALITIES)
    for ranges in found.values():
        assert set(ranges) == set(WORDS)
        assert all(low <= high for low, high in ranges.values())
