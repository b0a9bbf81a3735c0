"""Cohorts of a few people: splits, pseudonyms, masks, and what is shown at the end."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from any2all_cli.qc import PER_MM, alignment_sheet
from any2all_core import DiffusionPrior
from any2all_data.mask_names import mask_of
from any2all_data.masks import find_masks, with_masks
from any2all_data.prepare import Plan, prepare_patient
from any2all_data.ranking import choose
from any2all_data.rules import read_rules
from any2all_data.sources import Source, find_sources
from any2all_data.splits import Person, assigned
from any2all_data.stacking import Preparation
from any2all_data.store import CohortSettings, CohortStore, Entry
from any2all_eval.patients import read_patient
from conftest import MODALITIES, Run, phantom, write_patient
from torch import from_numpy

AFFINE = np.diag([-1.5, -1.5, 4.0, 1.0])


def persons(count: int, first: int = 0) -> list[Person]:
    return [Person(f"n{k}", f"p-{k * 7919:012d}", 1 + k % 2) for k in range(first, first + count)]


@pytest.mark.parametrize("first", range(0, 600, 12))
def test_from_five_patients_on_there_is_val_and_test(first: int) -> None:
    """And nobody who is there is moved when others come, one by one or all at once."""
    for count in (4, 5, 7, 12):
        groups = assigned("auto", persons(count, first), {})
        named = Counter(groups.values())
        assert count < 5 or (named["test"] and named["val"] and named["train"] > count / 2)
        more = assigned("auto", persons(count + 6, first), groups)
        assert all(more[key] == split for key, split in groups.items())
        assert {"val", "test"} <= set(more.values())


@pytest.mark.parametrize("first", range(0, 200, 10))
def test_a_run_that_was_cut_ends_in_the_same_splits(first: int) -> None:
    """Whoever was done before the cut."""
    people = persons(8, first)
    whole = assigned("auto", people, {})
    rng = np.random.default_rng(first)
    for _ in range(5):
        done = {p.key: whole[p.key] for p in people if rng.random() < 0.5}
        assert assigned("auto", people, done) == whole


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("lesion.nii.gz", "lesion"),
        ("BraTS-GLI-00001-000-seg.nii.gz", "seg"),
        ("BraTS20_Training_001_seg.nii", "seg"),
        ("sub-01_space-T1w_label-lesion_mask.nii.gz", "lesion"),
        ("brain_mask.nii.gz", "mask"),
        ("T1_lesion_filled.nii.gz", ""),
        ("sub-01_segm_T1w.nii.gz", ""),
        ("t1_brain.nii.gz", ""),
    ],
)
def test_masks_are_known_by_name(name: str, kind: str) -> None:
    assert mask_of(name) == kind


def lesion(folder: Path, name: str, affine: np.ndarray = AFFINE) -> np.ndarray:
    labels = np.zeros((32, 32, 4), np.uint8)
    labels[12:16, 9:14, 1:3] = 1
    labels[18:21, 9:14, 2] = 4
    nib.save(nib.Nifti1Image(labels, affine), folder / name)
    return labels


def test_masks_travel_with_the_patient_and_evaluate_finds_them(
    tmp_path: Path, prior: DiffusionPrior
) -> None:
    folder = write_patient(tmp_path / "s/p")
    labels = lesion(folder, "p-seg.nii.gz")
    lesion(folder, "elsewhere_mask.nii.gz", np.diag([-1.5, -1.5, 3.0, 1.0]))
    nib.save(nib.Nifti1Image(phantom() / 200, AFFINE), folder / "lesion.nii.gz")  # no labels
    sources, _ = find_sources(tmp_path / "s")
    url = str(tmp_path / "c")
    store = CohortStore.create(url, CohortSettings(MODALITIES, (32, 32)))
    chosen = choose([s for s in sources if not s.mask], read_rules(), MODALITIES, "T1")
    plan = Plan("p-1", "test", chosen, find_masks(sources))
    outcome = prepare_patient(plan, url, Preparation())
    assert outcome.status == "prepared", outcome.reason
    entry = store.entry("p-1")
    assert entry is not None
    assert entry.masks == {"seg": "T1"}
    said = " ".join(entry.notes)
    assert "lesion left out: its values are not whole numbers" in said
    assert "mask left out: it lies on the grid of none of the images" in said
    found = store.mask("p-1", "seg")
    assert found is not None
    assert np.array_equal(found, labels.transpose(2, 1, 0))
    patient = read_patient(f"{url}/p-1", prior, "p", 0)
    assert patient is not None
    assert patient.lesion is not None
    assert np.array_equal(patient.lesion.numpy(), found[list(patient.places)] > 0)
    assert prepare_patient(plan, url, Preparation()).status == "unchanged"
    lesion(folder, "p-seg.nii.gz", AFFINE)
    assert prepare_patient(plan, url, Preparation()).status == "unchanged"


def test_a_mask_moves_as_its_image_does(tmp_path: Path) -> None:
    """By the pose of the image that its name names; labels stay labels."""
    labels = lesion(tmp_path, "FLAIR_lesion.nii.gz")
    pose = np.eye(4)
    pose[:3, 3] = (3.0, -6.0, 4.0)  # two voxels back, four, and one
    native = {"shape": list(labels.shape), "affine": AFFINE.tolist()}
    entry = Entry(
        "test",
        AFFINE.tolist(),
        ["T1", "FLAIR"],
        reference="T1",
        native={
            "T1": native | {"pose": np.eye(4).tolist()},
            "FLAIR": native | {"pose": pose.tolist()},
        },
    )
    source = Source("p", "", {}, (tmp_path / "FLAIR_lesion.nii.gz",))
    moved, entry = with_masks({"lesion": source}, (4, 2, 32, 32), entry)
    assert entry.masks == {"lesion": "FLAIR"}
    there = labels.transpose(2, 1, 0)
    expected = np.zeros_like(there)
    expected[0:3, : 32 - 4, 2:] = there[1:4, 4:, :-2]
    np.testing.assert_array_equal(moved[:, 0], expected)


def test_prepare_shows_what_a_person_judges_by(process: Run, any2all: Run, tmp_path: Path) -> None:
    source = tmp_path / "source"
    for k in range(5):
        write_patient(source / f"Ada{k}", seed=10 * k)
    lesion(source / "Ada0", "lesion.nii.gz")
    (source / "Ada1/FLAIR.nii.gz").write_bytes(b"\x1f\x8b damaged")
    for path in (source / "Ada2").iterdir():
        path.write_bytes(b"\x1f\x8b damaged")
    options = ("--spacing", "native", "--size", 32)
    shown = any2all("prepare", "--dry-run", source, "c", *options)
    planned = set(re.findall(r"p-[0-9a-f]{12}", shown.stdout))
    assert "lesion mask" in shown.stdout
    assert len(planned) == 5
    assert not (tmp_path / "c").exists()
    done = process("prepare", source, "c", *options, "--workers", 1)
    assert done.returncode == 1
    entries = CohortStore.open(str(tmp_path / "c")).patients()
    assert set(entries) < planned
    assert len(entries) == 4
    assert "4 patients in the cohort: " in done.stdout
    assert "refused: T1: " in done.stdout
    assert "FLAIR left out: its file: not readable as NIfTI" in done.stdout
    assert "lesion on T1" in done.stdout
    assert "Ada" not in done.stdout + done.stderr
    write_patient(source / "Ada5", seed=60)
    assert process("prepare", source, "c", *options, "--workers", 1).returncode == 1
    again = CohortStore.open(str(tmp_path / "c")).patients()
    assert all(again[name].split == entry.split for name, entry in entries.items())
    assert {"val", "test"} <= {entry.split for entry in again.values()}
    assert any2all("cohort", "c", "--qc", "qc").returncode == 0
    page = (tmp_path / "qc/index.html").read_text()
    assert page.count("<img") == 6
    for path in source.glob("*/T1.nii.gz"):
        path.unlink()
    told = any2all("prepare", source, "d", *options)
    assert told.returncode == 2
    assert "no T1 was found, but FLAIR (6 patients), T1Gd (6 patients)" in told.stderr
    assert "Map it with --rules FILE" in told.stderr
    assert not (tmp_path / "d.salt").exists()
    shown = any2all("prepare", "--dry-run", source)
    assert shown.returncode == 0
    assert "no T1 was found" in shown.stderr
    assert "pseudonyms of this run alone" in shown.stderr


def test_a_sheet_shows_a_millimetre() -> None:
    """The reference's edges, as thin lines, are three pixels a mm apart."""
    base = phantom(48, 8).transpose(2, 1, 0) / 200
    stack = from_numpy(np.stack([base, base], 1))
    affine = np.diag([-1.0, -1.0, 2.0, 1.0])
    entry = Entry("train", affine.tolist(), ["T1", "FLAIR"], quality={"FLAIR": 0.31})
    sheet = np.asarray(alignment_sheet("p-1", entry, ["T1", "FLAIR"], stack)).astype(int)
    red = (sheet[..., 0] > 200) & (sheet[..., 1] < 100)
    assert 0 < red.mean() < 0.03
    inside = (base.mean(0) > 0.05).any(0).sum() * PER_MM
    columns = np.flatnonzero(red[:, : sheet.shape[1] // 5].any(0))
    assert abs(np.ptp(columns) - inside) < 2 * PER_MM
