"""Mistakes on the command line are one line and exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders.command_line import Run
from builders.mixes import FEW, MIX
from builders.patients import write_patient

BAD = {
    "unknown modality": (["--modalities", "CT=clean"], "unknown modality CT; this prior knows T1"),
    "unknown operator": (["--modalities", "T1=blur"], "unknown operator 'blur'; installed: clean"),
    "unknown sampler": (
        ["--sampler", "euler"],
        "unknown sampler 'euler'; installed: ddpm, mcs, mds",
    ),
    "misspelt option": (
        ["--modalities", "FLAIR=kspace:accel=4"],
        "operator kspace has no option 'accel'; did you mean acceleration? Its options: "
        "acceleration=4 (int), coils=8",
    ),
    "ill-typed option": (
        ["--modalities", "FLAIR=kspace:coils=many"],
        "operator kspace: coils=many is not of type int",
    ),
    "impossible acceleration": (
        ["--modalities", "FLAIR=kspace:acceleration=0"],
        "acceleration 0: expected 1 to 32",
    ),
    "no operator": (["--modalities", "T1"], "expected MODALITY=OPERATOR"),
    "twice": (["--modalities", "T1=clean,T1=clean"], "T1 is given twice"),
    "through": (["--through", "5"], "--through needs a patient's slices; give --modalities"),
    "endless": (
        ["--modalities", "T1=clean", "--through", "inf"],
        "through inf slices: expected 0 to 100",
    ),
    "preset": (["--preset", "papers"], "sampler mds has no preset 'papers'; its presets: paper"),
    "sampler option": (["--set", "eeta=1"], "sampler mds has no option 'eeta'"),
    "too many steps": (["--set", "steps=2000"], "2000 steps asked for: the schedule has 1 to 1000"),
    "slices": (
        ["--modalities", "T1=clean", "--slices", "2:9"],
        "expected FIRST:LAST (LAST not included), or one number, within 0:4",
    ),
    "ddpm with data": (
        ["--modalities", "T1=clean", "--sampler", "ddpm"],
        "ddpm is unconditional and would ignore T1",
    ),
    "eta": (["--set", "eta=1.5"], "mds: eta=1.5, expected 0 to 1"),
    "noise": (["--modalities", "T1=clean:noise_std=-1"], "noise_std -1.0: expected at least 0"),
    "input alone": (["--slices", "0:2"], "--slices and --simulate need --modalities"),
    "no draws": (["--draws", "0"], "--draws 0"),
    "no such option": (["--sampeler", "mds"], "any2all: No such option: --sampeler"),
    "not a number": (["--draws", "many"], "any2all: Invalid value for '--draws'"),
    "precision": (["--precision", "half"], "precision 'half' is unknown"),
    "no such input": (
        ["--modalities", "T1=clean", "--input", "nowhere"],
        "nowhere: no such folder",
    ),
    "no such prior": (["--prior", "./nowhere"], "nowhere: no such folder"),
    "unknown prior": (["--prior", "brain"], "unknown prior 'brain'; installed: lgg, virtual"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_mistake_is_one_line_and_exit_2(
    any2all: Run, prior_folder: Path, patient: Path, tmp_path: Path, case: str
) -> None:
    arguments, said = BAD[case]
    given = {"--prior": prior_folder, "--input": patient, "--output": tmp_path / "out"}
    rest = [x for k, v in given.items() if k not in arguments for x in (k, v)]
    if "--modalities" not in arguments:
        rest = [x for x in rest if x not in ("--input", patient)]
    before = sorted(tmp_path.rglob("*"))
    done = any2all("sample", *rest, *arguments)
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert said in last
    assert "Traceback" not in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_a_patient_that_lacks_what_is_needed(
    any2all: Run, prior_folder: Path, patient: Path, tmp_path: Path
) -> None:
    (patient / "FLAIR.nii.gz").unlink()
    done = any2all(
        *("sample", "--prior", prior_folder, "--input", patient, "--modalities", MIX),
        *("--output", tmp_path / "out"),
    )
    assert done.returncode == 2
    assert (
        done.stderr
        == f"any2all: {patient}: no FLAIR to be used (there is T1, T1Gd); leave it out of "
        "--modalities\n"
    )
    assert not (tmp_path / "out").exists()


def test_slices_of_another_size_are_refused(
    any2all: Run, prior_folder: Path, tmp_path: Path
) -> None:
    big = write_patient(tmp_path / "big", size=48)
    done = any2all("sample", "--prior", prior_folder, "--input", big, "--modalities", "T1=clean")
    assert done.returncode == 2
    assert "slices of 48 x 48, but the prior was trained on 32 x 32" in done.stderr


def test_results_are_never_written_over(process: Run, prior_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/kept.txt").write_text("precious")
    done = process("sample", "--prior", prior_folder, "--output", tmp_path / "out", *FEW)
    assert done.returncode == 2
    assert "holds other results already" in done.stderr
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["kept.txt"]


@pytest.mark.parametrize("damage", ["truncated", "not safetensors", "another network", "missing"])
def test_a_damaged_prior_is_named(
    any2all: Run, prior_folder: Path, tmp_path: Path, damage: str
) -> None:
    import shutil

    from safetensors.torch import save_file
    from torch import zeros

    folder = tmp_path / "prior"
    shutil.copytree(prior_folder, folder)
    weights = folder / "diffusion_pytorch_model.safetensors"
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif damage == "not safetensors":
        weights.write_bytes(b"\x80\x04pickled" * 100)
    elif damage == "another network":
        save_file({"conv.weight": zeros(3)}, weights)
    else:
        weights.unlink()
    done = any2all("sample", "--prior", folder, "--output", tmp_path / "out", *FEW)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert str(weights.name) in done.stderr
    assert not (tmp_path / "out").exists()


def test_train_refuses_what_is_no_cohort(any2all: Run, tmp_path: Path) -> None:
    done = any2all("train", "--data", tmp_path / "nowhere", "--output", tmp_path / "run")
    assert done.returncode == 2
    assert "no such folder; expected a cohort" in done.stderr
    done = any2all("train", "--data", tmp_path, "--output", tmp_path / "run", "--recipe", "big")
    assert done.returncode == 2
    assert "recipe big: no such file; expected small, paper or a TOML file" in done.stderr
