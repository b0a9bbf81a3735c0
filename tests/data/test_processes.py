"""Processes that share work: each may die, and none outlives the one that began them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from any2all_data.processes import ATTEMPTS, in_processes
from builders.deaths import kills_its_process, sleeps


def test_a_task_is_given_up_when_its_processes_die_again_and_again(tmp_path: Path) -> None:
    for number in (1, 2, ATTEMPTS, ATTEMPTS + 1, 999):
        (tmp_path / f"{number}.txt").touch()
    tasks = sorted(tmp_path.iterdir())
    done = dict(in_processes(kills_its_process, tasks, 2, preload="builders.deaths"))
    attempts = {int(task.stem): len(task.read_text().splitlines()) for task in tasks}
    assert attempts == {1: 1, 2: 2, ATTEMPTS: ATTEMPTS, ATTEMPTS + 1: ATTEMPTS, 999: ATTEMPTS}
    given_up = {int(task.stem) for task, result in done.items() if result is None}
    assert given_up == {ATTEMPTS + 1, 999}
    assert os.getpid() not in done.values()


def test_a_worker_does_not_outlive_a_parent_that_is_killed(tmp_path: Path) -> None:
    said = tmp_path / "pid"
    parent = os.fork()
    if not parent:
        try:
            list(in_processes(sleeps, [said], 1, preload="builders.deaths"))
        finally:
            os._exit(1)
    until = time.monotonic() + 100
    while not (said.exists() and said.read_text()):
        assert time.monotonic() < until
        time.sleep(0.01)
    worker = int(said.read_text())
    assert runs(worker)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    while runs(worker):
        assert time.monotonic() < until
        time.sleep(0.01)


def runs(process: int) -> bool:
    """Whether it is there and has not ended, whoever was to ask how."""
    stat = Path(f"/proc/{process}/stat")
    return stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"
