"""Several processes train, over gloo on this machine, as one with the whole batch would."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from any2all_core import DiffusionPrior
from builders.command_line import Run
from builders.nifti import load
from builders.patients import write_patient

pytestmark = pytest.mark.slow

Alone = Callable[[list[str]], None]
NETWORK = ("channels=8+16", "norm_groups=2", "blocks=1", "warmup=2", "decay=0", "coarse=0")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    for k in range(4):
        write_patient(folder / f"p{k}", seed=k)
    return folder


def train(cohort: Path, output: Path, steps: int, *settings: str) -> list[str]:
    """Arguments of the command."""
    changes = [
        part for setting in (*NETWORK, f"steps={steps}", *settings) for part in ("--set", setting)
    ]
    given = ["train", "--data", str(cohort), "--output", str(output), "--precision", "float32"]
    return [*given, *changes]


def on_two(arguments: list[str]) -> list[str]:
    """The command on two processes."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    return [*launch, "-m", "any2all_cli", *arguments]


def run(command: list[str]) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def alone(any2all: Run) -> Alone:
    """Run the command on one process, this one."""

    def run(arguments: list[str]) -> None:
        done = any2all(*arguments)
        assert done.returncode == 0, done.stderr

    return run


def figures(output: Path) -> dict[str, float]:
    return json.loads((output / "log.jsonl").read_text().splitlines()[-1])


def test_two_processes_are_one_with_twice_the_batch(
    cohort: Path, alone: Alone, tmp_path: Path
) -> None:
    alone(train(cohort, tmp_path / "one", 6, "batch_size=4"))
    run(on_two(train(cohort, tmp_path / "two", 6, "batch_size=2")))
    alone(train(cohort, tmp_path / "parts", 6, "batch_size=2", "accumulate=2"))
    one = DiffusionPrior.load(tmp_path / "one", "float32")
    for name in ("two", "parts"):
        other = DiffusionPrior.load(tmp_path / name, "float32")
        assert figures(tmp_path / name)["loss"] == pytest.approx(
            figures(tmp_path / "one")["loss"], abs=2e-5
        )
        for ours, theirs in zip(one.parameters(), other.parameters(), strict=True):
            # Adam's first steps are signs of gradients: some are decided by rounding
            assert (ours - theirs).abs().mean() < 1e-5
    assert other.settings.training["processes"] == 1
    # and go on with other parts of the same whole
    alone([*train(cohort, tmp_path / "two", 8, "batch_size=4"), "--resume"])
    assert figures(tmp_path / "two")["step"] == 8


def test_sharded_training_is_that_of_one(cohort: Path, alone: Alone, tmp_path: Path) -> None:
    """FSDP: the same steps, and its checkpoint is like any other's."""
    one, two = ("optimizer=adam", "batch_size=4"), ("optimizer=adam", "batch_size=2")
    alone(train(cohort, tmp_path / "one", 8, *one))
    run(on_two([*train(cohort, tmp_path / "shards", 4, *two), "--shard"]))
    kept = torch.load(tmp_path / "shards/checkpoint.pt", weights_only=True)
    assert (
        kept["prior"].keys()
        == kept["ema"].keys()
        == torch.load(tmp_path / "one/checkpoint.pt", weights_only=True)["prior"].keys()
    )
    # by one process, then in shards again
    alone([*train(cohort, tmp_path / "shards", 6, *one), "--resume"])
    run(on_two([*train(cohort, tmp_path / "shards", 8, *two), "--shard", "--resume"]))
    assert figures(tmp_path / "shards")["validation_loss"] == pytest.approx(
        figures(tmp_path / "one")["validation_loss"], rel=1e-4
    )


@pytest.mark.parametrize(
    ("optimizer", "said"),
    [
        ("adam", "--shard: there is one process; start several with torchrun"),
        ("muon", "optimizer=muon needs whole matrices"),
    ],
)
def test_shards_that_can_not_be_are_refused(
    cohort: Path, any2all: Run, tmp_path: Path, optimizer: str, said: str
) -> None:
    command = train(cohort, tmp_path / "alone", 8, f"optimizer={optimizer}")
    refused = any2all(*command, "--shard")
    assert refused.returncode == 2
    assert said in refused.stderr


def test_many_patients_are_shared_and_gone_on_with(
    cohort: Path, prior_folder: Path, any2all: Run, tmp_path: Path
) -> None:
    options = ("--modalities", "T1=clean,FLAIR=kspace", "--simulate", "--set", "steps=2")
    command = ("sample", "--prior", prior_folder, "--input", cohort, *options, "--output")
    done = any2all(*command, "alone")
    assert done.returncode == 0, done.stderr
    assert "4 of 4 patients" in done.stderr
    run(on_two([*map(str, command), str(tmp_path / "shared")]))

    def images(output: str) -> dict[str, bytes]:
        paths = (tmp_path / output).glob("*/*.nii.gz")
        return {f"{p.parent.name}/{p.name}": load(p).get_fdata().tobytes() for p in paths}

    assert len(images("alone")) == 12
    assert images("alone") == images("shared")
    # one was cut short; what is whole is not made again
    before = (tmp_path / "alone/p0/report.json").read_text()
    shutil.rmtree(tmp_path / "alone/p2")
    refused = any2all(*command, "other", "--split", "test")
    assert refused.returncode == 2
    assert "is no cohort, and only a cohort has splits" in refused.stderr
    (cohort / "p4").mkdir()
    (cohort / "p4/T1.nii.gz").write_bytes(b"damaged")
    try:
        done = any2all(*command, "alone", "--resume")
    finally:
        shutil.rmtree(cohort / "p4")
    assert done.returncode == 1
    assert "p4 refused: " in done.stderr
    assert "4 of 5 patients" in done.stderr
    assert images("alone") == images("shared")
    assert (tmp_path / "alone/p0/report.json").read_text() == before
    for arguments, said in {
        ("alone",): "holds other results already; choose another folder, or --resume",
        ("alone", "--resume", "--seed", 5): "has seed = 0, not 5",
        ("new", "--resume"): "no run in new; start without it",
    }.items():
        done = any2all(*command, *arguments)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert said in done.stderr


def test_all_processes_stop_together(cohort: Path, tmp_path: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = on_two(train(cohort, tmp_path / "run", 1_000_000, "batch_size=2"))
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    too_late = threading.Timer(120, process.kill)
    too_late.start()
    assert any("training loss" in line for line in process.stderr), "it ended before it trained"
    too_late.cancel()
    process.send_signal(signal.SIGTERM)  # torchrun hands it on
    process.communicate(timeout=60)
    step = figures(tmp_path / "run")["step"]
    state = torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)
    assert state["identity"]["step"] == step
