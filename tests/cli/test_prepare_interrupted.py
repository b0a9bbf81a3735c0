"""Preparation that is killed, or loses a worker, ends as if it had not been."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from any2all_app.finding import Preparing, find_patients
from any2all_app.preparing import prepare
from builders.cohorts import cohort_folder, complete, contents, wait_for
from builders.command_line import Run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with eight patients in ``source``, and the cohort ``c`` made of them at one go."""
    folder = tmp_path_factory.mktemp("whole")
    names = tuple(f"p{k}" for k in range(8))
    source = cohort_folder(folder / "source", names, depth=12, size=64)
    preparing, cohort = Preparing(spacing=None, size=(64, 64)), str(folder / "c")
    outcomes = prepare(find_patients(source, cohort, preparing), cohort, preparing)
    assert {outcome.status for outcome in outcomes} == {"prepared"}
    return folder


def test_killed_while_preparing_and_run_again(any2all: Run, whole: Path, tmp_path: Path) -> None:
    """Its workers end with it, so that none writes what the next run writes."""
    command = ["prepare", whole / "source", "c", "--spacing", "native", "--size", "64"]
    (tmp_path / "c.salt").write_bytes((whole / "c.salt").read_bytes())
    killed = psutil.Popen(
        [sys.executable, "-m", "any2all_cli", *map(str, command), "--workers", "2"],
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: complete(tmp_path / "c") >= 2)
    workers = killed.children(recursive=True)
    assert len(workers) >= 2
    killed.kill()
    killed.wait()
    assert psutil.wait_procs(workers, timeout=60)[1] == []
    assert complete(tmp_path / "c") < 8
    again = any2all(*command)
    assert again.returncode == 0, again.stderr
    assert "unchanged" in again.stderr
    assert contents(tmp_path / "c") == contents(whole / "c")


def test_a_cluster_that_loses_a_worker(whole: Path, tmp_path: Path) -> None:
    source, options = whole / "source", ("--spacing", "native", "--size", 64)
    (tmp_path / "c.salt").write_bytes((whole / "c.salt").read_bytes())
    address = tmp_path / "scheduler.json"
    dask = [sys.executable, "-m", "distributed.cli"]
    running = [
        subprocess.Popen(
            [*dask[:2], "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0",
             "--no-dashboard", "--scheduler-file", str(address)],
            cwd=tmp_path, stderr=subprocess.DEVNULL,
        )
    ]  # fmt: skip
    try:
        wait_for(lambda: address.exists() and address.read_text().endswith("}"))  # whole, that is
        url = json.loads(address.read_text())["address"]
        for _ in range(2):
            running.append(
                subprocess.Popen(
                    [*dask[:2], "distributed.cli.dask_worker", url, "--nthreads", "1",
                     "--no-nanny", "--no-dashboard"],
                    cwd=tmp_path, stderr=subprocess.DEVNULL,
                )
            )  # fmt: skip
        preparing = subprocess.Popen(
            [sys.executable, "-m", "any2all_cli", "prepare", str(source), "c",
             *map(str, options), "--scheduler", url],
            cwd=tmp_path, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        wait_for(lambda: complete(tmp_path / "c") >= 1)
        running[1].kill()
        _, said = preparing.communicate(timeout=120)
        assert preparing.returncode == 0, said
    finally:
        for one in running:
            one.kill()
            one.wait()
    assert contents(tmp_path / "c") == contents(whole / "c")
