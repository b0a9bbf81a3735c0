"""Methods from the command line: trained, resumed, sampled and evaluated beside a prior."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from any2all_core.testing import AFFINE, MODALITIES, phantom
from builders.command_line import Run

FIVE = ("T1", "FLAIR", "T1Gd", "T2", "T2star")
SHORT = "steps=2:batch_size=2:warmup=0"
METHODS = ("regressor", "m2dn", "mmgan", "resvit", "mcvarnet", "minet", "discdiff")
STUDY = """
title = "A little"
samplers = ["mds:steps=2"]

[[rows]]
name = "FLAIR from T1"
known = "T1=clean"
scored = "FLAIR"

[[rows]]
name = "y(FLAIR)+T1"
known = "T1=clean,FLAIR=kspace:coils=2"
scored = "FLAIR"
"""


def people(folder: Path, modalities: tuple[str, ...]) -> Path:
    """train, val and test, one each."""
    for seed, group in enumerate(("train", "val", "test")):
        patient = folder / group / "a"
        patient.mkdir(parents=True)
        for k, modality in enumerate(modalities):
            image = nib.Nifti1Image(phantom(seed=7 * seed + k), AFFINE)
            nib.save(image, patient / f"{modality}.nii.gz")
    return folder


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return people(tmp_path_factory.mktemp("three"), MODALITIES)


def trained(any2all: Run, name: str, data: Path, output: Path) -> Path:
    """The folder of a method after two steps."""
    where = ["--data", data / "train", "--validation", data / "val", "--output", output]
    done = any2all(
        "train", "--method", f"{name}:{SHORT}", "--recipe", "tiny", *where, "--precision", "float32"
    )
    assert done.returncode == 0, done.stderr
    assert (output / "best/model.safetensors").exists()
    return output


def image(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)  # type: ignore[attr-defined]


@pytest.mark.slow
def test_all_are_trained_sampled_and_evaluated(
    any2all: Run, three: Path, tmp_path: Path, prior_folder: Path
) -> None:
    folders = {name: trained(any2all, name, three, tmp_path / "runs" / name) for name in METHODS}
    patient = three / "test/a"
    for name, folder in folders.items():
        guided = name in ("mcvarnet", "minet", "discdiff")
        known = "T1=clean,FLAIR=kspace:coils=2" if guided else "T1=clean"
        output = tmp_path / "sampled" / name
        done = any2all(
            "sample", "--method", f"{folder}:dc=true" if guided else folder, "--input", patient,
            "--modalities", known, "--simulate", "--output", output, "--slices", "1:3",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        given = image(patient / "T1.nii.gz")[:, :, 1:3]
        np.testing.assert_array_equal(image(output / "T1.nii.gz"), given)
        assert (output / "FLAIR.nii.gz").exists()
        # what a reconstruction has no answer for is not written
        assert (output / "T1Gd.nii.gz").exists() != guided
        report = json.loads((output / "report.json").read_text())
        assert report["sampler"] == {"name": f"any2all-baselines:{name}", "dc": guided}
        if not guided:  # after two steps
            said = report["modalities"]["T1Gd"]["held_out_says"]
            assert "a copy of T1 was nearer to it" in said
            assert "than the answer of this method" in said
    study = tmp_path / "little.toml"
    study.write_text(STUDY)
    named = [text for folder in folders.values() for text in ("--method", folder)]
    done = any2all(
        "evaluate", study, *named, "--prior", prior_folder, "--input", three, "--slices", 1,
        "--no-references", "--precision", "float32", "--output", tmp_path / "evaluated",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "evaluated/report.json").read_text())
    rows = {tuple(line["key"][1:3]) for line in report["results"]}
    synthesis = ("regressor", "m2dn", "mmgan", "resvit")
    rebuilt = [f"{name}{dc}" for name in ("mcvarnet", "minet", "discdiff") for dc in ("", " +DC")]
    expected = {("FLAIR from T1", name) for name in ("mds:steps=2", *synthesis)}
    expected |= {("y(FLAIR)+T1", name) for name in ("mds:steps=2", *rebuilt)}
    assert rows == expected
    assert report["samplers"]["minet"]["images"] == 4
    judged = {claim["text"]: len(claim["steps"]) for claim in report["claims"]}
    assert judged["a prior beats methods trained for synthesis"] == len(synthesis)
    assert judged["a prior beats methods trained for reconstruction"] == len(rebuilt)


@pytest.mark.slow
def test_five_modalities_without_a_prior(any2all: Run, tmp_path: Path) -> None:
    data = people(tmp_path / "five", FIVE)
    folders = [trained(any2all, n, data, tmp_path / n) for n in ("mmgan", "minet")]
    where = ["--data", data / "train", "--validation", data / "val", "--output", folders[0]]
    done = any2all("train", "--resume", *where, "--set", "steps=4")
    assert done.returncode == 0, done.stderr
    assert json.loads((folders[0] / "method.json").read_text())["training"]["images"] == 8
    named = [text for folder in folders for text in ("--method", folder)]
    done = any2all(
        "evaluate", "synthesis", "reconstruction", *named, "--input", data, "--slices", 1,
        "--no-references", "--output", tmp_path / "evaluated",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "evaluated/report.json").read_text())
    assert report["prior"] == {"name": "none", "sha256": None}
    counts = {m: sum(line["key"][2] == m for line in report["results"]) for m in ("mmgan", "minet")}
    assert counts == {"mmgan": 5 * 4, "minet": 5}
    done = any2all("sample", "--method", tmp_path / "mmgan", "--draws", 2, "--output", "new")
    assert done.returncode == 0, done.stderr
    assert {p.name for p in (tmp_path / "new/draw_001").iterdir()} == {f"{m}.nii.gz" for m in FIVE}


@pytest.mark.slow
def test_mistakes_are_one_line(
    any2all: Run, three: Path, tmp_path: Path, prior_folder: Path
) -> None:
    folder = trained(any2all, "regressor", three, tmp_path / "regressor")
    patient = ["--input", three / "test/a"]
    where = ["--data", three / "train", "--validation", three / "val"]
    data = [*where, "--output", tmp_path / "new"]
    for arguments, said in (
        (["sample", "--method", folder, *patient, "--modalities", "FLAIR=kspace"],
         "not made for reconstruction, but for synthesis"),
        (["sample", "--method", folder], "not made for generation"),
        (["sample", "--method", folder, "--draws", 2, *patient, "--modalities", "T1=clean"],
         "regressor has one answer, whatever the seed"),
        (["sample", "--method", prior_folder, *patient, "--modalities", "T1=clean"],
         "no method.json in it"),
        (["sample", "--method", folder, "--prior", "lgg"], "needs no prior or sampler"),
        (["train", "--method", "nothing", *data], "unknown method 'nothing'"),
        (["train", "--method", "mmgan:colour=red", *data], "has no option 'colour'"),
        (["train", "--method", "mmgan", "--start-from", "lgg", *data], "only for priors"),
        (["train", "--method", "mmgan", "--recipe", "large", *data], "has no preset 'large'"),
        (["train", "--method", "minet:target=PET", *data], "target=PET: the images are"),
        (["train", "--method", "mmgan", "--resume", "--output", folder, *where],
         "trains any2all-baselines:regressor"),
        (["evaluate", "synthesis", "--method", folder, "--prior", "virtual",
          "--input", three, "--output", tmp_path / "e"], "train it on the same cohort"),
    ):  # fmt: skip
        done = any2all(*arguments)
        assert done.returncode == 2, arguments
        assert said in done.stderr.splitlines()[-1], done.stderr
        assert "Traceback" not in done.stderr
