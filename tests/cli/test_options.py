"""Options of the command line: help, meanings, and errors that blame what is wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from builders.command_line import Run

pytestmark = pytest.mark.slow
MISTAKES = {
    "modality": (["--modalities", "flare=clean"], "did you mean FLAIR?"),
    "operator": (["--modalities", "T1=clear"], "did you mean clean?"),
    "option": (["--modalities", "T1=clean", "--sampler", "mds:step=3"], "did you mean steps?"),
    "sampler": (["--modalities", "T1=clean", "--sampler", "mdss"], "did you mean mds?"),
    "beginning": (["--modalities", "T1=kspace:accel=4"], "did you mean acceleration?"),
    "two names": (["--modalities", "T1=clean,t1w=clean"], "T1 is given twice"),
    "batch": (["--modalities", "T1=clean", "--batch-size", "0"], "--batch-size 0: expected"),
    "draws": (
        ["--modalities", "T1=clean", "--draws", "2", "--sampler", "mean"],
        "--draws 2: mean has one answer",
    ),
    "resume": (["--modalities", "T1=clean", "--resume"], "--resume is for many patients"),
    "split": (["--modalities", "T1=clean", "--split", "val"], "--split is for many patients"),
    "no grid": (
        ["--modalities", "T1=clean", "--resample"],
        "--resample: this prior does not record",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_errors_blame_what_is_wrong(
    any2all: Run, prior_folder: Path, patient: Path, case: str
) -> None:
    arguments, said = MISTAKES[case]
    done = any2all("sample", "--prior", prior_folder, "--input", patient, *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_old_and_new_options_of_a_sampler_ask_the_same(
    any2all: Run, prior_folder: Path, patient: Path, tmp_path: Path
) -> None:
    asked = ("sample", "--prior", prior_folder, "--input", patient, "--modalities", "T1=clean")
    old = any2all(*asked, "--preset", "paper", "--set", "steps=2", "--output", "old")
    new = any2all(*asked, "--sampler", "mds:preset=paper,steps=2", "--output", "new")
    assert (old.returncode, new.returncode) == (0, 0), old.stderr + new.stderr
    assert old.stderr.strip().endswith("write --sampler mds:preset=paper,steps=2 instead")
    samplers = [json.loads((tmp_path / f"{w}/report.json").read_text()) for w in ("old", "new")]
    assert samplers[0]["sampler"] == samplers[1]["sampler"]
    assert samplers[0]["sampler"]["eta"] == 0.85


@pytest.mark.parametrize("command", ["sample", "train"])
def test_help_fits_80_columns_with_groups_and_whole_examples(
    any2all: Run, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    said = any2all(command, "--help").stdout
    assert max(map(len, said.splitlines())) <= 80
    assert "…" not in said, "nothing is cut"
    groups = {"sample": ("Patient", "Prior and sampler", "Result"), "train": ("Data", "Recipe")}
    assert all(f"─ {group} ─" in said for group in groups[command])
    assert re.search(r"any2all (sample|train) --\S+ \S+", said)
    if command == "train":
        assert re.search(r"\*  --data", said)
    else:
        assert "lgg; virtual without" in said, "a default that depends is said"


def test_options_tell_what_they_mean_and_take(any2all: Run) -> None:
    for name in ("mds", "mmps", "mps", "mcs", "ddpm", "mean", "kspace", "clean"):
        (entry,) = json.loads(any2all("plugins", name, "--json").stdout)
        assert entry["options"]
        assert all(option.get("meaning") for option in entry["options"].values()), name
    said = any2all("plugins", "mds").stdout
    assert "eta=1.0  (float)\n      Share of fresh noise in each step; 0 to 1\n" in said
    assert "preset=paper" in said


def test_a_prior_tells_its_voxels_and_how_good_it_was(any2all: Run) -> None:
    told = any2all("plugins", "lgg").stdout
    assert "its voxels are 1.875 x 1.875 x 5 mm" in told
    assert "from T1 alone: FLAIR 2" in told
    assert "virtual people" not in told
    assert "trained on virtual people, who do not exist" in any2all("plugins", "virtual").stdout
