"""Masks of lesions, from a source to an evaluation."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from any2all_core import DiffusionPrior
from any2all_core.testing import AFFINE, MODALITIES, phantom
from any2all_data.kinds import stack_format
from any2all_data.masks import find_masks
from any2all_data.prepare import FoundPlan, prepare_patient
from any2all_data.ranking import choose
from any2all_data.rules import read_rules
from any2all_data.sources import find_sources
from any2all_data.stacking import Preparation
from any2all_data.store import CohortStore
from any2all_eval.patients import read_patient
from builders.patients import lesion, write_patient


@pytest.mark.slow
def test_masks_travel_with_the_patient_and_evaluate_finds_them(
    tmp_path: Path, prior: DiffusionPrior
) -> None:
    folder = write_patient(tmp_path / "s/p")
    labels = lesion(folder, "p-seg.nii.gz")
    lesion(folder, "elsewhere_mask.nii.gz", np.diag([-1.5, -1.5, 3.0, 1.0]))
    nib.save(nib.Nifti1Image(phantom() / 200, AFFINE), folder / "lesion.nii.gz")  # no labels
    sources, _ = find_sources(tmp_path / "s")
    url = str(tmp_path / "c")
    store = CohortStore.create(url, stack_format(MODALITIES, (32, 32)))
    chosen = choose([s for s in sources if not s.mask], read_rules(), MODALITIES, "T1")
    plan = FoundPlan("p-1", "test", chosen, find_masks(sources))
    outcome = prepare_patient(plan, url, Preparation())
    assert outcome.status == "prepared", outcome.reason
    entry = store.entry("p-1")
    assert entry is not None
    assert entry.masks == {"seg": "T1"}
    said = " ".join(entry.notes)
    assert "lesion left out: its values are not whole numbers" in said
    assert "mask left out: none of the used images has its grid" in said
    found = store.mask("p-1", "seg")
    assert found is not None
    assert np.array_equal(found, labels.transpose(2, 1, 0))
    patient = read_patient(f"{url}/p-1", prior, "p")
    assert patient is not None
    assert patient.lesion is not None
    assert np.array_equal(patient.lesion.numpy(), found[list(patient.places)] > 0)
    assert prepare_patient(plan, url, Preparation()).status == "unchanged"
    lesion(folder, "p-seg.nii.gz", AFFINE)
    assert prepare_patient(plan, url, Preparation()).status == "unchanged"
