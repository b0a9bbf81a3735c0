"""The command plan, and training without a recipe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import any2all as toolkit
import nibabel as nib
import numpy as np
import pytest
from any2all_app.planning import fingerprint_of, network_of
from any2all_core import DiffusionPrior
from any2all_core.recipe import read_recipe
from any2all_core.stack_format import Grid, StackFormat
from any2all_core.testing import tiny_prior
from any2all_data.cohort_entry import Entry
from any2all_data.store import CohortStore
from builders.command_line import Run

TINY = ("--set=channels=8+16", "--set=blocks=1", "--set=norm_groups=2", "--set=steps=2")
ODD = (28, 22)  # rows, columns


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three patients of 22 x 28 x 3 voxels, stored with x, y, z in another order."""
    people = tmp_path_factory.mktemp("people")
    random = np.random.default_rng(0)
    affine = np.array([[0, 1.5, 0, 0], [0, 0, 2.0, 0], [4.0, 0, 0, 0], [0, 0, 0, 1]])
    for k in range(3):
        (people / f"p{k}").mkdir()
        for name in ("T1", "FLAIR"):
            volume = random.uniform(50, 100, (3, ODD[1], ODD[0])).astype(np.float32)
            nib.save(nib.Nifti1Image(volume, affine), people / f"p{k}" / f"{name}.nii.gz")
    return people


@pytest.mark.slow
def test_a_plan_is_written_and_trained_by(any2all: Run, folder: Path, tmp_path: Path) -> None:
    done = any2all("plan", folder, "--output", "recipe.toml")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "recipe.toml").read_text()
    assert "2 patients for training, 1 held out; T1, FLAIR; 6 slices of 28 x 22" in text
    assert "voxels of 1.5 x 2 x 4 mm" in text
    assert "# Time: " in text
    assert read_recipe(tmp_path / "recipe.toml").channels == (64, 128)
    again = any2all("plan", folder, "--output", "recipe.toml")
    assert (again.returncode, "exists already" in again.stderr) == (2, True)
    arguments = ("train", "--data", folder, "--output", "run", "--recipe", "recipe.toml", *TINY)
    done = any2all(*arguments, "--set=batch_size=2")
    assert done.returncode == 0, done.stderr
    assert "recipe planned" not in done.stderr
    assert DiffusionPrior.load(tmp_path / "run").settings.image_size == ODD


@pytest.mark.slow
def test_training_without_a_recipe_takes_a_plan(any2all: Run, folder: Path, tmp_path: Path) -> None:
    run = ("train", "--data", folder, "--output", "run", "--set=batch_size=2")
    done = any2all(*run, *TINY)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "recipe planned" in line]
    assert "6 slices of 28 x 22" in line
    assert "writes it as a file for --recipe" in line
    recipe = DiffusionPrior.load(tmp_path / "run").settings.training["recipe"]
    assert (recipe["channels"], recipe["steps"], recipe["accumulate"]) == ([8, 16], 2, 1)
    done = any2all(*run, "--resume", "--set=steps=3", "--set=decay=0")
    assert "recipe planned" not in done.stderr
    done = any2all("train", "--data", folder, "--output", "new", "--set=nonsense=3")
    assert (done.returncode, "no option 'nonsense'" in done.stderr) == (2, True)


def test_a_cohort_says_itself_who_is_held_out(tmp_path: Path) -> None:
    format_ = StackFormat.of_names(("T1", "CT"), ODD)
    store = CohortStore.create(str(tmp_path / "c"), replace(format_, grid=Grid()))
    affine = np.diag([1.0, 1.0, 5.0, 1.0]).tolist()
    for name, split, present in (
        ("a", "train", ["T1", "CT"]), ("b", "train", ["T1"]), ("c", "val", ["T1", "CT"]),
        ("d", "test", ["T1", "CT"]),
    ):  # fmt: skip
        entry = Entry(split, affine, present)  # type: ignore[arg-type]
        store.write(name, np.ones((4, 2, *ODD), np.float32), entry)
    training = toolkit.Training(str(tmp_path / "c"))
    whole = fingerprint_of(training)
    assert (whole.patients, whole.held_out, whole.slices) == (1, 1, 4)
    assert whole.spacing == (1.0, 1.0, 5.0)
    more = fingerprint_of(replace(training, incomplete=True))
    assert (more.patients, more.slices) == (2, 8)
    with pytest.raises(toolkit.UserError, match="--modalities MRI: "):
        toolkit.plan(replace(training, modalities=("MRI",)))


def test_a_folder_that_cannot_be_planned_for_is_told(any2all: Run, tmp_path: Path) -> None:
    for k in range(2):
        (tmp_path / f"people/p{k}").mkdir(parents=True)
        (tmp_path / f"people/p{k}/T1.nii.gz").write_bytes(b"no image")
    done = any2all("plan", "people")
    assert done.returncode == 2
    assert "p0/T1.nii.gz: not readable as a NIfTI" in done.stderr
    done = any2all("plan", "nowhere")
    assert (done.returncode, "no such folder" in done.stderr) == (2, True)


def test_a_prior_to_begin_with_brings_its_network() -> None:
    start = tiny_prior()
    assert network_of(start) is None  # nobody knows its recipe
    assert network_of(None) is None
