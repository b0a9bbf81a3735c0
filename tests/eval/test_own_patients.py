"""A few patients of one's own, without a split, are evaluated in one command."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from any2all_core import Grid
from any2all_core.testing import MODALITIES, tiny_prior
from any2all_data.cohort_entry import Entry
from any2all_data.kinds import stack_format
from any2all_data.store import CohortStore
from any2all_eval.evaluation import Evaluation, evaluate
from any2all_eval.patients import find_people
from any2all_operators import UserError
from builders.command_line import Run
from builders.observers import Said
from builders.patients import write_patient

STUDY = """
title = "A little"
samplers = ["mds:steps=2"]

[[rows]]
name = "y(FLAIR)"
known = "FLAIR=kspace:coils=2:acs_lines=4"
scored = "FLAIR"

[[rows]]
name = "FLAIR from T1&T1Gd"
known = "T1=clean,T1Gd=clean"
scored = "FLAIR"
"""


def study_of(folder: Path, spacing: tuple[float, float, float] | None = None) -> Evaluation:
    """The study, and a prior whose people have voxels of this size."""
    prior = tiny_prior()
    copies = {g: {"FLAIR": [20.0, 30.0 if g == "T1Gd" else 25.0]} for g in ("T1", "T1Gd")}
    format_ = replace(prior.format, grid=Grid(spacing)) if spacing else prior.format
    settings = replace(prior.settings, format=format_, training={"missing": copies})
    type(prior)(prior.unet, settings).save(folder / "prior")
    (folder / "little.toml").write_text(STUDY)
    return Evaluation(
        studies=[str(folder / "little.toml")],
        input=str(folder / "people"),
        prior=str(folder / "prior"),
        precision="float32",
    )


def test_a_single_patient_is_judged_beside_references_that_need_nobody_else(
    tmp_path: Path,
) -> None:
    asked = replace(study_of(tmp_path), input=str(write_patient(tmp_path / "people/a")), slices=1)
    observer = Said()
    assert evaluate(asked, tmp_path / "out", observer)
    told = observer.said[0]
    assert "all given patients (1) are judged, and nobody is kept for tuning" in told
    assert "must not have been trained on them" in told
    assert "nobody is in val, so the weights of references are fixed" in observer.said[1]
    report = json.loads((tmp_path / "out/report.json").read_text())
    methods = {(line["key"][1], line["key"][2]) for line in report["results"]}
    assert {m for row, m in methods if row == "y(FLAIR)"} == {
        *("mds:steps=2", "zero-filled", "CG-SENSE", "L1-wavelet", "total variation"),
    }
    assert {m for row, m in methods if "from" in row} == {"mds:steps=2", "copy"}
    assert told in (tmp_path / "out/report.html").read_text()
    # of two given images, the one is copied that was nearer on the prior's own validation
    (copied,) = (tmp_path / "out/parts/a").glob("*T1Gd--copy*.npz")
    with np.load(copied) as made, np.load(tmp_path / "out/parts/a/truth.npz") as truth:
        np.testing.assert_allclose(made["FLAIR"], truth["T1Gd"], atol=1e-3)


@pytest.mark.parametrize("count", [1, 3])
def test_a_cohort_too_small_for_a_test_group_is_judged_as_a_whole(
    tmp_path: Path, count: int
) -> None:
    store = CohortStore.create(str(tmp_path / "c"), stack_format(MODALITIES, (32, 32), Grid()))
    for k in range(count):
        scale = dict.fromkeys(MODALITIES, 1.0)
        entry = Entry("val" if k else "train", np.eye(4).tolist(), list(MODALITIES), scale=scale)
        store.write(f"p-{k}", np.ones((2, 3, 32, 32), np.float32), entry)
    people = find_people(store.url)
    assert {group: len(members) for group, members in people.groups.items()} == {"test": count}
    assert f"all given patients ({count}) are judged" in people.note
    one = find_people(f"{store.url}/p-0")
    assert list(one.groups["test"]) == ["p-0"]


def test_a_group_is_refused_where_there_is_no_split(tmp_path: Path) -> None:
    write_patient(tmp_path / "people/a")
    with pytest.raises(UserError, match="have no split, so leave --group out"):
        find_people(str(tmp_path / "people"), "val")


def test_patients_on_another_grid_get_the_command_that_makes_it(
    any2all: Run, tmp_path: Path
) -> None:
    """The command of the message is run as it is, and then the evaluation runs."""
    asked = study_of(tmp_path, spacing=(2.0, 2.0, 4.0))
    for name in "ab":
        folder = tmp_path / "my people" / name
        write_patient(folder, np.diag([-1.5, -1.5, 4.0, 1.0]), size=40)
    own = replace(asked, input=str(tmp_path / "my people"), slices=1)
    with pytest.raises(UserError, match="slices of 40 x 40, but the prior was trained on") as told:
        evaluate(own, tmp_path / "out")
    line = re.search(r"any2all (prepare .*)", str(told.value))
    assert line is not None
    done = any2all(*shlex.split(line[1]))
    assert done.returncode == 0, done.stderr
    cohort = replace(own, input=f"{own.input}-cohort", references=False)
    assert evaluate(cohort, tmp_path / "out")
    assert len(json.loads((tmp_path / "out/report.json").read_text())["results"]) == 2


def test_voxels_of_another_size_are_said(tmp_path: Path) -> None:
    asked = replace(study_of(tmp_path, (1.5, 1.5, 9.0)), slices=1, references=False)
    for name in "ab":
        write_patient(tmp_path / "people" / name)
    observer = Said()
    assert evaluate(asked, tmp_path / "out", observer)
    (told,) = [said for said in observer.said if "voxels are not" in said]
    assert "slice distance 4 mm, not 9 mm" in told
    assert "--spacing 1.5,1.5,9" in told


def test_who_lacks_a_modality_is_told_what_there_is(tmp_path: Path) -> None:
    asked = study_of(tmp_path)
    (write_patient(tmp_path / "people/a") / "T1Gd.nii.gz").unlink()
    with pytest.raises(UserError, match=r"nobody of 1 has all of T1, FLAIR, T1Gd.*a has T1, FLAIR"):
        evaluate(asked, tmp_path / "out")
    assert not (tmp_path / "out").exists()
