"""The command train, as a process."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from any2all_core import DiffusionPrior
from builders.command_line import Run
from builders.patients import write_patient

pytestmark = pytest.mark.slow


def test_a_killed_process_resumes(tmp_path: Path) -> None:
    for k in range(3):
        write_patient(tmp_path / "cohort" / f"p{k}", seed=k)
    command = [
        *(sys.executable, "-m", "any2all_cli", "train"),
        *("--data", str(tmp_path / "cohort"), "--output", str(tmp_path / "run")),
        *("--set", "channels=8+16", "--set", "norm_groups=2", "--set", "batch_size=4"),
        *("--set", "steps=1000000", "--set", "blocks=1"),
    ]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not (tmp_path / "run/log.jsonl").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    state = torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)
    steps = f"steps={state['identity']['step'] + 3}"
    again = subprocess.run(
        [word.replace("steps=1000000", steps) for word in command] + ["--resume"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert again.returncode == 0, again.stderr
    assert (
        DiffusionPrior.load(tmp_path / "run").settings.training["steps"]
        == state["identity"]["step"] + 3
    )


def test_a_resumed_run_knows_its_recipe(tmp_path: Path, any2all: Run) -> None:
    for k in range(2):
        write_patient(tmp_path / f"people/p{k}", depth=4, seed=k)
    command = ("train", "--data", tmp_path / "people", "--output", tmp_path / "run")
    tiny = [f"--set={name}" for name in ("channels=8+16", "blocks=1", "norm_groups=2", "steps=2")]
    done = any2all(*command, *tiny, "--set=batch_size=2", "--set=decay=0")
    assert done.returncode == 0, done.stderr
    done = any2all(*command, "--resume", "--set=steps=3")
    assert done.returncode == 0, done.stderr
    told = DiffusionPrior.load(tmp_path / "run").settings.training
    assert told["steps"] == 3
    assert told["recipe"]["channels"] == [8, 16]
    done = any2all(*command, "--resume", "--set=blocks=2")
    assert done.returncode == 2
    assert "its run has blocks = 1, not 2" in done.stderr
    done = any2all(*command[:-1], tmp_path / "none", "--resume")
    assert "nothing to resume" in done.stderr
