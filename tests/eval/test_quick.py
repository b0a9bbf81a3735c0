"""A quick look comes first, and the whole study goes on from it."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from any2all_core.testing import AFFINE, MODALITIES, phantom, tiny_prior
from any2all_eval import classical, quick, references
from any2all_eval.evaluation import Evaluation, evaluate
from any2all_eval.evaluator import Evaluator
from any2all_eval.measures import Measures
from any2all_eval.patients import Slices, find_people
from any2all_eval.quick import Pace, in_order
from any2all_eval.references import References
from any2all_eval.solvers import Solvers
from any2all_eval.study import read_study
from builders.observers import Said

pytestmark = pytest.mark.slow

STUDY = """
title = "A little"
samplers = ["mps:steps=4", "mds:steps=2"]
draws = 2

[[growing]]
target = "FLAIR"
measured = "kspace:coils=2:acs_lines=4"

[[rows]]
name = "FLAIR from T1"
known = "T1=clean"
scored = "FLAIR"
"""


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    folder = tmp_path_factory.mktemp("quick")
    tiny_prior().save(folder / "prior")
    for seed, name in enumerate("ab"):
        (folder / "people" / name).mkdir(parents=True)
        for k, modality in enumerate(MODALITIES):
            image = nib.Nifti1Image(phantom(depth=5, seed=9 * seed + k), AFFINE)
            nib.save(image, folder / "people" / name / f"{modality}.nii.gz")
    (folder / "little.toml").write_text(STUDY)
    return Evaluation(
        studies=[str(folder / "little.toml")],
        input=str(folder / "people"),
        prior=str(folder / "prior"),
        precision="float32",
        references=False,
    )


def results(output: Path) -> dict[tuple[str, ...], dict[str, float]]:
    with (output / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    key = ("patient", "slice", "row", "method", "image")
    metrics = ("psnr", "ssim", "psnr_scaled", "residual")
    return {
        tuple(row[name] for name in key): {n: float(row[n]) for n in metrics if row.get(n)}
        for row in rows
    }


def test_the_whole_study_goes_on_from_a_quick_look(asked: Evaluation, tmp_path: Path) -> None:
    whole, quick, observer = tmp_path / "whole", tmp_path / "quick", Said()
    assert evaluate(asked, whole)
    assert evaluate(replace(asked, quick=True), quick, observer)
    looked, full = results(quick), results(whole)
    assert {key[0] for key in looked} == {"a", "b"}
    for patient in "ab":
        assert len({key[1] for key in looked if key[0] == patient}) == 2
        assert len({key[1] for key in full if key[0] == patient}) == 5
    assert "a quick look in" in observer.said[-1]
    assert "--resume in the place of --quick" in observer.said[-1]
    page = (quick / "report.html").read_text()
    assert "This is an unfinished study: 0 of " in page
    assert page.count("data:image/png;base64,") > 8, "the images that there are"
    for key, scores in looked.items():
        if "residual" in scores:
            assert scores["residual"] == pytest.approx(full[key]["residual"], rel=1e-4), key
        assert scores["psnr"] == pytest.approx(full[key]["psnr"], abs=1e-3), key
    # what was done is taken over: an image that is changed by hand stays changed
    (path,) = quick.glob("parts/a/*FLAIR_from_T1--mds*.few.npz")
    with np.load(path) as arrays:
        changed = {name: arrays[name] for name in arrays.files}
    changed["FLAIR"] = np.full_like(changed["FLAIR"], 0.25)
    np.savez_compressed(path, **changed)
    assert evaluate(asked, quick, resume=True)
    assert not list(quick.glob("parts/*/*.few.*")), "each part is whole now"
    with np.load(path.with_name(path.name.replace(".few", ""))) as arrays:
        flat = (arrays["FLAIR"] == 0.25).all((1, 2))
    assert flat.sum() == 2, "those two slices were not made again"
    report = json.loads((quick / "report.json").read_text())
    assert report["unfinished"] == ""
    assert set(results(quick)) == set(full)
    for key, scores in results(quick).items():
        if not (key[0] == "a" and key[2] == "FLAIR from T1" and key[3].startswith("mds")):
            assert scores == pytest.approx(full[key], abs=2e-3), key


def test_cheap_methods_come_first_and_what_takes_too_long_is_left(
    asked: Evaluation, tmp_path: Path
) -> None:
    prior = tiny_prior()
    study = read_study(asked.studies[0], prior.format)
    evaluator = Evaluator(
        studies=[study],
        solvers=Solvers(prior),
        references=None,
        output=tmp_path,
        slices=Slices(),
        batch_size=8,
        measures=Measures(),
    )
    first, then = in_order(evaluator)
    order = [(part.row.name, part.method) for part in (*first, *then)]
    cheap, dear = order[: len(order) // 2], order[len(order) // 2 :]
    assert {method for _, method in cheap} == {"mds:steps=2"}
    assert {method for _, method in dear} == {"mps:steps=4"}
    pace = Pace(a_pass=0.5, references={"CG-SENSE": 3.0})
    parts = {part.method: part for part in evaluator.parts()}
    dearest = parts["mps:steps=4"]
    assert evaluator.cost(dearest) == 16, "2 draws, 4 steps, forward and backward"
    assert pace.expected(dearest, 16) == 16.0, "of two slices"


TWO = """
title = "Two questions"
samplers = ["mps:steps=4", "mds:steps=2"]

[[growing]]
target = "*"
"""


def test_the_main_question_of_each_study_comes_first_beside_its_references(
    asked: Evaluation, tmp_path: Path
) -> None:
    """FLAIR from its k-space beside L1-wavelet, and FLAIR from all others beside the copy."""
    prior = tiny_prior()
    copies = {g: {"FLAIR": [20.0, 25.0]} for g in ("T1", "T1Gd")}
    prior.settings = replace(prior.settings, training={"missing": copies})
    (tmp_path / "two.toml").write_text(TWO)
    evaluator = Evaluator(
        studies=[
            read_study(asked.studies[0], prior.format),
            read_study(str(tmp_path / "two.toml"), prior.format),
        ],
        solvers=Solvers(prior),
        references=References(prior, find_people(asked.input), tmp_path / "tuned.json", quick=True),
        output=tmp_path,
        slices=Slices(),
        batch_size=8,
        measures=Measures(),
    )
    first, then = in_order(evaluator)
    methods: dict[str, set[str]] = {}
    for part in first:
        methods.setdefault(f"{part.study.name}: {part.row.name}", set()).add(part.method)
    assert methods == {
        "little: y(FLAIR)": {"mds:steps=2", "zero-filled", "CG-SENSE", "L1-wavelet"},
        "two: FLAIR from T1&T1Gd": {"mds:steps=2", "copy"},
    }
    assert "total variation" in {part.method for part in then}


def test_a_slow_machine_answers_the_main_questions_for_one_patient(
    asked: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quick, "WITHIN", 0.0)
    assert evaluate(replace(asked, quick=True), tmp_path / "out")
    found = {(key[0], key[3]) for key in results(tmp_path / "out")}
    assert found == {("a", "mds:steps=2")}


def test_a_quick_look_takes_fixed_weights_and_the_whole_study_tunes_them(
    asked: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classical, "ITERATIONS", 2)
    monkeypatch.setattr(references, "RECONSTRUCTION", ("L1-wavelet",))
    people = Path(asked.input)
    for name, group in (("a", "test"), ("b", "val")):
        shutil.copytree(people / name, tmp_path / "people" / group / name)
    (tmp_path / "scan.toml").write_text(
        STUDY.partition("[[rows]]")[0]
        .replace('"mps:steps=4", ', "")
        .replace("growing", "rows")
        .replace('target = "FLAIR"', 'name = "y(FLAIR)"\nscored = "FLAIR"')
        .replace('measured = "kspace', 'known = "FLAIR=kspace')
    )
    own = replace(
        asked,
        studies=[str(tmp_path / "scan.toml")],
        input=str(tmp_path / "people"),
        slices=3,
        references=True,
    )
    observer = Said()
    assert evaluate(replace(own, quick=True), tmp_path / "out", observer)
    assert any("this is a quick look, so the weights" in said for said in observer.said)
    assert not (tmp_path / "out/tuned.json").exists()
    looked = results(tmp_path / "out")
    assert evaluate(own, tmp_path / "out", resume=True)
    tuned = json.loads((tmp_path / "out/tuned.json").read_text())
    assert "L1-wavelet: FLAIR=kspace:coils=2:acs_lines=4" in tuned
    assert not list((tmp_path / "out/parts").glob("*/*.few.*"))
    whole = results(tmp_path / "out")
    for key, scores in looked.items():
        if key[3].startswith("mds"):
            assert scores["psnr"] == pytest.approx(whole[key]["psnr"], abs=1e-3)
