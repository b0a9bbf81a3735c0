"""What lies at a path is said once, for every command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from any2all_app.observer import SILENT
from any2all_app.training_slices import folder_slices
from any2all_core import Grid
from any2all_core.testing import MODALITIES
from any2all_data.cohort_entry import Entry, Split
from any2all_data.kinds import stack_format
from any2all_data.patient_volumes import open_patient
from any2all_data.patients import Patients
from any2all_data.store import CohortStore
from any2all_eval.patients import find_people
from any2all_operators import UserError
from builders.command_line import Run
from builders.patients import write_patient

IMAGES = stack_format(MODALITIES, (32, 32), Grid())


@pytest.fixture
def cohort(tmp_path: Path) -> str:
    store = CohortStore.create(str(tmp_path / "cohort"), IMAGES, virtual=True)
    images = np.ones((2, 3, 32, 32), np.float32)
    groups: dict[str, Split] = {"p-1": "train", "p-2": "test"}
    for name, split in groups.items():
        scale = dict.fromkeys(MODALITIES, 1.0)
        store.write(name, images, Entry(split, np.eye(4).tolist(), list(MODALITIES), scale=scale))
    return store.url


def test_a_cohort_says_who_is_in_a_split(cohort: str) -> None:
    found = Patients.at(cohort)
    assert (found.place, found.is_one, found.virtual) == ("cohort", False, True)
    assert found.of("test") == {"p-2": f"{cohort}/p-2"}
    assert list(found.everybody) == ["p-1", "p-2"]
    with pytest.raises(UserError, match="no val patient in it"):
        found.of("val")
    with pytest.raises(UserError, match="--split all: expected train, val, test"):
        found.of("all")
    with pytest.raises(UserError, match="has 2 patients; expected the path of one"):
        open_patient(cohort, IMAGES)


def test_a_patient_of_a_cohort(cohort: str) -> None:
    found = Patients.at(f"{cohort}/p-1/")
    assert (found.place, found.is_one, found.name) == ("patient of a cohort", True, "p-1")
    assert open_patient(f"{cohort}/p-1", IMAGES).note.startswith("a virtual person")


def test_folders_of_patients(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_patient(tmp_path / "all" / name)
    (tmp_path / "all/README.txt").write_text("who they are")
    (tmp_path / "all/empty").mkdir()
    found = Patients.at(tmp_path / "all")
    assert (found.place, list(found.everybody)) == ("folders", ["a", "b"])
    with pytest.raises(UserError, match="is no cohort, and only a cohort has splits"):
        found.of("test")
    assert find_people(str(tmp_path / "all")).groups == {"test": found.everybody}
    one = Patients.at(tmp_path / "all/a")
    assert (one.place, one.everybody) == ("patient", {"a": str(tmp_path / "all/a")})


def test_folders_by_split(tmp_path: Path) -> None:
    for name in ("train/a", "train/b", "val/c"):
        write_patient(tmp_path / "all" / name)
    found = Patients.at(tmp_path / "all")
    assert found.place == "folders by split"
    assert {split: list(group) for split, group in found.groups.items()} == {
        "train": ["a", "b"],
        "val": ["c"],
    }
    with pytest.raises(UserError, match="nobody in its group test"):
        find_people(str(tmp_path / "all"))


def test_dicom_is_one_patient_whatever_its_folders(tmp_path: Path) -> None:
    (tmp_path / "patient/series").mkdir(parents=True)
    (tmp_path / "patient/series/1.dcm").write_bytes(b"")
    assert Patients.at(tmp_path / "patient").place == "patient"


@pytest.mark.parametrize("path", ["nowhere", "nowhere/p-1", "file:///nowhere"])
def test_nothing_is_refused_in_one_line(path: str) -> None:
    with pytest.raises(UserError, match="nowhere") as told:
        Patients.at(path)
    assert "\n" not in str(told.value)


def test_commands_refuse_what_is_not_theirs(any2all: Run, cohort: str, tmp_path: Path) -> None:
    write_patient(tmp_path / "one")
    for command, said in [
        (("train", "--data", "one", "--output", "x"), "one: has no folders of patients"),
        (("train", "--data", f"{cohort}/p-1", "--output", "x"), "p-1: has no folders of patients"),
        (
            ("evaluate", "mixed", "--input", "one", "--output", "x"),
            "one: slices of 32 x 32, but the prior was trained on 128 x 128",
        ),
        (("fill", "one", "--prior", "lgg"), "there is no cohort"),
        (("cohort", "one"), "there is no cohort"),
    ]:
        done = any2all(*command)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert said in done.stderr


def test_training_holds_out_the_folder_val(tmp_path: Path) -> None:
    write_patient(tmp_path / "all/train/a")
    write_patient(tmp_path / "all/val/b")
    found = folder_slices(Patients.at(tmp_path / "all"), None, None, SILENT)
    assert (len(found.examples), len(found.held_out)) == (4, 4)
    assert found.settings.modalities == MODALITIES
