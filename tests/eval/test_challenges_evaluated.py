"""The metrics of the challenges in `any2all evaluate`."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from any2all_app.observer import Observer
from any2all_core import ModalityFormat, PriorSettings, Range, StackFormat
from any2all_core.network import build_prior
from any2all_core.testing import AFFINE, TINY_RECIPE, phantom, tiny_prior
from any2all_data.patient import read_volume
from any2all_eval.challenges import COLUMNS, SYNTHRAD, brasyn, synthrad
from any2all_eval.evaluation import Evaluation, evaluate
from any2all_eval.measures import check_challenges
from any2all_eval.patients import Slices
from any2all_operators import UserError
from builders.patients import write_patient


class Told(Observer):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def say(self, text: str) -> None:
        self.texts.append(text)


SIZE, DEPTH = 32, 9
HU = Range(-1000.0, 1000.0)


@pytest.fixture(scope="module")
def ct_prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained prior of T1 and CT."""
    modalities = (ModalityFormat("T1"), ModalityFormat("CT", "HU", "fixed", HU))
    folder = tmp_path_factory.mktemp("prior")
    build_prior(TINY_RECIPE, PriorSettings(StackFormat(modalities, (SIZE, SIZE)))).save(folder)
    return folder


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two of test, whose CT holds more than the prior's range; a has masks."""
    folder = tmp_path_factory.mktemp("people")
    for name in "ab":
        patient = write_patient(folder / "test" / name, size=SIZE, depth=DEPTH)
        values = phantom(SIZE, DEPTH, seed=3)
        hu = np.where(values > 0, values - 110, -1000).astype(np.float32)
        hu[10:22, 5:7] = 1500  # bone, above the prior's range
        nib.save(nib.Nifti1Image(hu, AFFINE), patient / "CT.nii.gz")
        if name == "a":
            nib.save(nib.Nifti1Image((hu > -900).astype(np.uint8), AFFINE), patient / "mask.nii.gz")
            tumour = np.zeros(hu.shape, np.uint8)
            tumour[12:18, 12:18, 3:6] = 2
            nib.save(nib.Nifti1Image(tumour, AFFINE), patient / "p-seg.nii.gz")
    return folder


def asked(folder: Path, people: Path, prior: Path, metrics: list[str], scored: str) -> Evaluation:
    """T1, or CT, is given, and the other one drawn."""
    study = folder / "study.toml"
    given = "T1" if scored == "CT" else "CT"
    row = f'[[rows]]\nname = "a"\nknown = "{given}=clean"\nscored = "{scored}"\n'
    study.write_text(row)
    return Evaluation(
        studies=[str(study)], input=str(people), prior=str(prior), samplers=["mds:steps=2"],
        references=False, metrics=metrics, precision="float32",
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("metrics", "scored"), [("synthrad", "CT"), ("brasyn", "T1")])
def test_evaluate_gives_a_challenges_metrics_of_whole_volumes(
    people: Path, ct_prior: Path, tmp_path: Path, metrics: str, scored: str
) -> None:
    """By the result that is kept, brought back to HU, and the file as it is, not as clipped."""
    output = tmp_path / "out"
    assert evaluate(asked(tmp_path, people, ct_prior, [metrics], scored), output)
    with (output / "results.csv").open() as file:
        first, *others = list(csv.DictReader(file))
    columns = [name for name in COLUMNS if name.startswith(metrics)]
    assert not any(other[name] for other in others for name in columns)  # b has no mask
    (path,) = (output / "parts/a").glob("study--*.npz")
    with np.load(path) as arrays:
        drawn = arrays[scored].astype(np.float64)
    assert len(drawn) == DEPTH
    truth = read_volume(people / f"test/a/{scored}.nii.gz")
    masks = {"synthrad": "mask.nii.gz", "brasyn": "p-seg.nii.gz"}
    mask = (
        np.asarray(
            nib.Nifti1Image.from_filename(people / "test/a" / masks[metrics]).dataobj
        ).transpose(2, 1, 0)
        > 0
    )
    slices = truth.slices.astype(np.float64)
    image = HU.physical(drawn) if scored == "CT" else truth.range.physical(drawn)
    score = {"synthrad": synthrad, "brasyn": brasyn}[metrics]
    expected = score(image.astype(np.float64), slices, mask)
    for name, value in expected.items():
        assert float(first[name]) == pytest.approx(value, rel=2e-2)
    if scored == "CT":
        assert slices.max() > HU.high
    titles = [COLUMNS[name][0] for name in expected]
    page = (output / "report.html").read_text()
    assert all(title in page for title in titles)
    assert f"--metrics {metrics}: b left out, without" in page
    assert "b left out" in json.loads((output / "report.json").read_text())["measures_left_out"][-1]


@pytest.mark.parametrize(
    ("metrics", "slices", "said"),
    [
        ("synthrad", 2, "--metrics synthrad: judges whole volumes; leave out --slices and"),
        ("fid", None, "--metrics fid: expected synthrad or brasyn"),
        ("brasyn", None, "--metrics brasyn: nobody has a mask of the tumour, seg.nii.gz"),
    ],
)
def test_what_a_challenge_cannot_judge_is_told_in_a_line(
    people: Path, ct_prior: Path, tmp_path: Path, metrics: str, slices: int | None, said: str
) -> None:
    shutil.copytree(people / "test/b", tmp_path / "people/test/b")
    question = asked(tmp_path, tmp_path / "people", ct_prior, [metrics], "T1")
    with pytest.raises(UserError) as mistake:
        evaluate(replace(question, slices=slices), tmp_path / "out")
    assert said in str(mistake.value)
    assert not (tmp_path / "out").exists()


def test_a_challenge_of_images_that_a_prior_lacks_is_told(people: Path) -> None:
    prior = tiny_prior()
    with pytest.raises(UserError) as mistake:
        check_challenges([SYNTHRAD], prior, {"a": str(people / "test/a")}, Slices())
    assert "--metrics synthrad: judges CT in HU; the prior has T1, " in str(mistake.value)


@pytest.mark.slow
def test_two_masks_or_one_off_the_grid_are_refused(
    people: Path, ct_prior: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "people"
    shutil.copytree(people, copy)
    question = asked(tmp_path, copy, ct_prior, ["synthrad"], "CT")
    mask = nib.Nifti1Image.from_filename(copy / "test/a/mask.nii.gz")
    nib.save(mask, copy / "test/a/roi.nii.gz")
    with pytest.raises(UserError, match=r"a has 2 masks that could be of the body.*leave one"):
        evaluate(question, tmp_path / "out")
    (copy / "test/a/roi.nii.gz").unlink()
    moved = nib.Nifti1Image(np.asarray(mask.dataobj)[:-1], mask.affine)
    nib.save(moved, copy / "test/a/mask.nii.gz")
    told = Told()
    assert not evaluate(question, tmp_path / "out", told)
    assert any("a refused" in text and "resample it" in text for text in told.texts)
